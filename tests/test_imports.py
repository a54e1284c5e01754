"""Who may import whom: every module lives on a floor and looks down only."""

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "epo_lightning"

FLOORS = {
    # 0: pure functions and data on tensors
    "population": 0,
    "genetics": 0,
    "advantages": 0,
    "losses": 0,
    "distributions": 0,
    "batch": 0,
    "buffer": 0,
    "aggregation": 0,
    "limits": 0,
    "saved_state": 0,
    "overrides": 0,
    "ties": 0,
    "physics.base": 0,
    "envs.allegro_kuka.task": 0,
    "envs.allegro_kuka.memory": 0,
    "envs.allegro_kuka.resets": 0,
    "envs.allegro_kuka.rotation": 0,
    "envs.allegro_kuka.cards": 0,
    "envs.allegro_kuka.objects": 0,
    "envs.allegro_kuka.obstacles": 0,
    "envs.allegro_kuka.curriculum": 0,
    # 1: parts with a state of their own
    "normalization": 1,
    "networks": 1,
    "metrics": 1,
    "fitness": 1,
    "env_log": 1,
    "optimizer": 1,
    # 2: the world
    "physics": 2,
    "envs": 2,
    "rollout_settings": 0,
    "idle_settings": 0,
    "targets": 2,
    "rollout": 2,
    "evaluation": 2,
    "estimate": 2,
    "identity": 2,
    # 3: Lightning
    "lean": 3,
    "module": 3,
    "data": 3,
    "playback": 3,
    "video": 3,
    # 4: around it
    "callbacks": 4,
    "doctor": 4,
    "export": 4,
    "report": 4,
    "checkpoint": 3,
    "checkpoint_contents": 2,
    "signature": 0,
    "embedded_config": 5,
    "allowlist": 5,
    "consent": 5,
    "evaluation_report": 4,
    "interruption": 4,
    "loggers": 3,
    "notices": 4,
    "progress": 4,
    "run_folder": 0,
    "run_recorder": 4,
    # 5: entry points
    "arguments": 5,
    "cli": 5,
    "command": 5,
    "process_settings": 5,
    "trainer": 5,
    "viewer": 4,
    "__main__": 5,
}
"""Floor of a module or of a whole folder; the longest name that fits wins."""

LIBRARIES = {
    0: {"torch", "einops"},
    1: {"torch", "einops", "torchmetrics"},
    2: {"torch", "einops", "torchmetrics", "numpy"},
    3: {"torch", "einops", "torchmetrics", "numpy", "lightning"},
}
"""Libraries that a floor may import; floors 4 and 5 may import any."""

OWNED = {
    "envs.allegro_kuka.objects": {"numpy"},
    "envs.allegro_kuka.scene": {"mujoco"},
    "envs.allegro_kuka.robot": {"mujoco"},
    "envs.allegro_kuka.look": {"mujoco"},
    "physics.mujoco": {"mujoco"},
    "physics.readout": {"mujoco"},
    "physics.warp": {"mujoco"},
    "physics.warp_worlds": {"mujoco", "mujoco_warp", "warp"},
    "physics.drawing": {"mujoco"},
    "envs.gymnasium.copies": {"gymnasium"},
    "video": {"imageio_ffmpeg", "PIL"},
}
"""Libraries that one file may import beyond its floor's."""

NEVER_BELOW_LIGHTNING = {"lightning", "pytorch_lightning", "wandb"}
"""Libraries that floors 0 to 2 may not import even inside a function."""


class Import(NamedTuple):
    """One imported module, by its full name; `lazy` when it is imported inside a function only."""

    name: str
    lazy: bool
    line: int


def modules() -> dict[str, Path]:
    """Every module of the package, by its name inside the package; `callbacks` is reached through its symlink."""
    found = {}
    for folder, _, files in os.walk(PACKAGE, followlinks=True):
        for file in files:
            if file.endswith(".py"):
                path = Path(folder, file)
                parts = path.relative_to(PACKAGE).with_suffix("").parts
                found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def floor_of(module: str) -> int:
    """Floor of a module; KeyError for one that nobody has put on a floor."""
    parts = module.split(".")
    for end in range(len(parts), 0, -1):
        if (name := ".".join(parts[:end])) in FLOORS:
            return FLOORS[name]
    raise KeyError(f"epo_lightning.{module} is on no floor: add it to FLOORS in tests/test_imports.py")


def imports(source: str, package: str) -> Iterator[Import]:
    """What `source` imports, in a module that lies in `package` (full dotted name)."""

    def visit(node: ast.AST, lazy: bool) -> Iterator[Import]:
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, lazy, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")
            base = parents[: len(parents) - node.level + 1] if node.level else []
            origin = ".".join([*base, *([node.module] if node.module else [])])
            # `from epo_lightning import x`: the module x is meant, not the package
            deeper = origin.split(".")[0] == "epo_lightning"
            yield from (Import(f"{origin}.{a.name}" if deeper else origin, lazy, node.lineno) for a in node.names)
        typing_only = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        inside = lazy or typing_only or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for child in ast.iter_child_nodes(node):
            yield from visit(child, inside)

    yield from visit(ast.parse(source), False)


def violations(module: str, source: str, known: set[str], package: str | None = None) -> list[str]:
    """Imports of `module` (name inside the package) that its floor forbids."""
    floor = floor_of(module)
    found = []
    for name, lazy, line in imports(source, package or f"epo_lightning.{module}".rpartition(".")[0]):
        top, _, inner = name.partition(".")
        if top == "epo_lightning":
            # the name may be a member of a module: keep the longest part that is one
            while inner and inner not in known:
                inner = inner.rpartition(".")[0]
            if not inner:
                continue  # the package itself: its version
            other = floor_of(inner)
            family = module.split(".")[0] == inner.split(".")[0]
            upward = other > floor or (other == floor == 4 and not family)
            hidden = floor == 5 and inner.split(".")[0] == "callbacks"
            if upward or hidden:
                found.append(f"{module}:{line} (floor {floor}) imports {inner} (floor {other})")
        elif top == "callbacks":
            found.append(f"{module}:{line} imports callbacks by its bare name")
        elif floor < 4 and top not in sys.stdlib_module_names:
            allowed = LIBRARIES[floor] | OWNED.get(module, set())
            late = lazy and floor == 2 and top not in NEVER_BELOW_LIGHTNING
            if top not in allowed and not late:
                found.append(f"{module}:{line} (floor {floor}) imports {top}")
    return found


MODULES = modules()


@pytest.mark.parametrize("module", sorted(set(MODULES) - {""}))
def test_every_module_looks_down_only(module: str) -> None:
    path = MODULES[module]
    package = ".".join(("epo_lightning", *path.parent.relative_to(PACKAGE).parts))
    assert violations(module, path.read_text(), set(MODULES), package) == []


def test_the_package_itself_imports_the_standard_library_only() -> None:
    eager = [i.name for i in imports((PACKAGE / "__init__.py").read_text(), "epo_lightning") if not i.lazy]
    assert [name for name in eager if name.split(".")[0] not in sys.stdlib_module_names] == []


def test_the_walk_sees_the_package() -> None:
    assert {"population", "networks", "envs.base"} <= set(MODULES)
    callbacks = {path.stem for path in (ROOT / "callbacks").glob("*.py")} - {"__init__"}
    assert {f"callbacks.{name}" for name in callbacks} <= set(MODULES)


class TestTheTestItself:
    known = set(FLOORS) | {
        "envs.base",
        "envs.gymnasium",
        "envs.allegro_kuka.scene",
        "physics.mujoco",
        "callbacks.elites",
    }

    @pytest.mark.parametrize(
        ("module", "source"),
        [
            ("losses", "import lightning"),
            ("losses", "def f():\n    import mujoco"),
            ("losses", "import numpy as np"),
            ("losses", "from epo_lightning.networks import Trunk"),
            ("losses", "from epo_lightning import networks"),
            ("losses", "from .networks import Trunk"),
            ("losses", "from . import networks"),
            ("losses", "import epo_lightning.networks"),
            ("losses", "import torchmetrics"),
            ("losses", "from torchmetrics.aggregation import MeanMetric"),
            ("envs.allegro_kuka.task", "from epo_lightning.envs.base import EnvSpec"),
            ("envs.allegro_kuka.task", "from ..base import EnvSpec"),
            ("envs.allegro_kuka.task", "import numpy"),
            ("envs.allegro_kuka.objects", "import mujoco"),
            ("networks", "from epo_lightning.rollout import Rollout"),
            ("networks", "import lightning.pytorch as pl"),
            ("envs.gymnasium", "import gymnasium"),
            ("envs.gymnasium", "class A:\n    import gymnasium"),
            ("envs.gymnasium", "if True:\n    import gymnasium"),
            ("envs.gymnasium", "def f():\n    import lightning"),
            ("envs.allegro_kuka.env", "import mujoco"),
            ("physics.mujoco", "import warp"),
            ("physics.base", "from epo_lightning.module import EPOModule"),
            ("data", "from epo_lightning.export import export"),
            ("data", "import mujoco"),
            ("export", "from epo_lightning.callbacks import elites"),
            ("callbacks.elites", "from epo_lightning.export import export"),
            ("callbacks.elites", "from epo_lightning.cli import main"),
            ("callbacks.elites", "from callbacks.evolution import GeneticEvolution"),
            ("cli", "from epo_lightning.callbacks.elites import ElitePreservation"),
            ("cli", "def main():\n    from epo_lightning import callbacks"),
        ],
    )
    def test_a_look_upwards_is_found(self, module: str, source: str) -> None:
        assert len(violations(module, source, self.known)) == 1

    @pytest.mark.parametrize(
        ("module", "source"),
        [
            ("losses", "import math\nfrom torch import Tensor\nimport einops"),
            ("genetics", "from epo_lightning.population import MASTER"),
            ("genetics", "from epo_lightning import __version__"),
            ("envs.allegro_kuka.objects", "import numpy as np"),
            ("networks", "from .normalization import RunningMoments\nfrom torchmetrics import Metric"),
            ("envs.gymnasium", "def make():\n    import gymnasium"),
            ("envs.gymnasium", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import gymnasium"),
            ("envs.allegro_kuka.env", "from epo_lightning.physics.mujoco import MujocoPhysics\nfrom . import cards"),
            ("envs.allegro_kuka.scene", "import mujoco"),
            ("data", "import lightning as L\nfrom epo_lightning.rollout import RolloutDataset"),
            ("callbacks.elites", "from epo_lightning.callbacks.evolution import Lineage\nimport wandb"),
            ("cli", "from epo_lightning.export import export\nimport jsonargparse"),
        ],
    )
    def test_a_look_down_is_fine(self, module: str, source: str) -> None:
        assert violations(module, source, self.known) == []

    def test_a_module_without_a_floor_is_found(self) -> None:
        with pytest.raises(KeyError, match="novelty is on no floor"):
            violations("novelty", "", self.known)
        with pytest.raises(KeyError, match="novelty is on no floor"):
            violations("losses", "from epo_lightning.novelty import x", {"novelty"})


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    """A fresh interpreter in the repository's root, which `-c` puts first on the path."""
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)


def test_importing_the_package_loads_nothing_heavy() -> None:
    heavy = "torch lightning pytorch_lightning torchmetrics mujoco numpy wandb jsonargparse"
    result = run_python(f"import sys, epo_lightning; print([m for m in {heavy.split()} if m in sys.modules])")
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "[]"


def test_the_core_runs_without_lightning_and_mujoco() -> None:
    core = sorted(name for name in MODULES if "." not in name and name and floor_of(name) <= 1)
    names = ", ".join(f"epo_lightning.{name}" for name in core)
    result = run_python(f"import sys, {names}; print([m for m in ('lightning', 'mujoco') if m in sys.modules])")
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "[]"


def test_a_training_loads_nothing_that_draws() -> None:
    code = """
        import sys, torch
        import epo_lightning.command, epo_lightning.callbacks
        from epo_lightning.envs.allegro_kuka import AllegroKuka
        AllegroKuka(1, torch.device("cpu"), 0, threads=1).reset()
        print([m for m in ("OpenGL", "mujoco.egl", "imageio_ffmpeg", "viser") if m in sys.modules])
    """
    result = run_python("\n".join(line.strip() for line in code.splitlines()))
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "[]"


CALLBACKS_EXIST = pytest.mark.skipif(not (ROOT / "callbacks" / "__init__.py").exists(), reason="no callbacks yet")


@CALLBACKS_EXIST
def test_callbacks_refuse_their_bare_name() -> None:
    # one file under two names would be two sets of classes
    for code in ("import callbacks", "import callbacks.evolution"):
        result = run_python(code)
        assert result.returncode != 0
        assert "ImportError" in result.stderr
        assert "epo_lightning.callbacks" in result.stderr


@CALLBACKS_EXIST
def test_callbacks_answer_to_their_full_name() -> None:
    result = run_python("import epo_lightning.callbacks")
    assert result.returncode == 0, result.stderr
