"""Folders are floors: a module imports from its own folder and from those below; a test imports no other test."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "epo_lightning"
TESTS = ROOT / "tests"

FLOORS = [
    "limits",
    "documents",
    "pretrained",
    "algorithm",
    "learner",
    "physics",
    "envs",
    "experience",
    "modules",
    "run",
    "show",
    "export",
    "report",
    "sweep",
    "callbacks",
    "cli",
    "library",
]
"""From the ground up; whoever is not named here (`__main__`) stands on the roof."""

OWNERS = {
    "lightning": {"modules", "run", "show", "callbacks", "cli", "library"},
    "torchmetrics": {"experience"},
    "mujoco": {"physics", "envs.allegro_kuka.scene", "envs.allegro_kuka.robot_bodies", "envs.allegro_kuka.appearance"}
    | {"envs.bodies", "show.viewer", "cli.doctor"},
    "mujoco_warp": {"physics"},
    "warp": {"physics"},
    "gymnasium": {"envs.gymnasium"},
    "viser": {"show.viewer"},
    "imageio_ffmpeg": {"show.video"},
    "jsonargparse": {"cli", "envs.check"},
    "matplotlib": {"report.plot", "sweep.findings"},
    "onnx": {"export.formats"},
    "onnxruntime": set(),
    "optuna": {"sweep.trials", "sweep.findings"},
    "tensorboard": {"show.handing_over"},
    "wandb": set(),
}
"""Libraries that only these places import; `algorithm` and `learner` import torch and einops alone."""


def modules() -> dict[str, Path]:
    """Every module of the package, by its name inside the package."""
    return {
        ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__"): path
        for path in PACKAGE.rglob("*.py")
        if path.parent != PACKAGE or path.name == "limits.py"
    }


def imports(source: str, package: str) -> Iterator[str]:
    """Full names of what `source` imports anywhere, in a module that lies in `package`."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            yield from (".".join([*parents, node.module or "", alias.name]) for alias in node.names)


CORE = {"documents": {"yaml"}, "pretrained": {"yaml"}, "algorithm": {"torch", "einops"}, "learner": {"torch", "einops"}}
"""Libraries that these floors may know; nothing else."""


def violations(module: str, source: str, package: str = "epo_lightning") -> list[str]:
    """Imports of `module` (its name inside the package) that its floor forbids."""
    floor, found = module.split(".")[0], []
    for name in imports(source, package):
        top, _, inner = name.partition(".")
        if top in ("epo_lightning", "callbacks"):
            other = inner.split(".")[0] if top == "epo_lightning" else "no bare callbacks"
            below = [*FLOORS[: FLOORS.index(floor) + 1], "__version__"]
            if other not in below or (floor, other) == ("cli", "callbacks"):
                found.append(name)
        elif top in OWNERS:
            found += [name] if not any(f"{module}.".startswith(f"{owner}.") for owner in OWNERS[top]) else []
        elif floor in CORE and top not in {*CORE[floor], *sys.stdlib_module_names}:
            found.append(name)
    return found


MODULES = modules()


@pytest.mark.parametrize("module", sorted(MODULES))
def test_every_module_looks_down_only(module: str) -> None:
    path = MODULES[module]
    package = ".".join(("epo_lightning", *path.parent.relative_to(PACKAGE).parts))
    assert violations(module, path.read_text(), package) == []


def test_no_modules_import_each_other_in_a_circle() -> None:
    needs: dict[str, set[str]] = {module: set() for module in MODULES}
    for module, path in MODULES.items():
        package = ".".join(("epo_lightning", *path.parent.relative_to(PACKAGE).parts))
        for name in imports(path.read_text(), package):
            other = name.removeprefix("epo_lightning.")
            while other and other not in MODULES:  # down to the module that a class or function lies in
                other = other.rpartition(".")[0]
            needs[module] |= {other} - {"", module}
    assert "envs.allegro_kuka.scripted.script" in needs["envs.allegro_kuka.scripted"]
    TopologicalSorter(needs).prepare()  # raises CycleError


def test_every_folder_is_a_floor() -> None:
    folders = {path.name for path in PACKAGE.iterdir() if path.is_dir() and not path.name.startswith("__")}
    assert folders == {*FLOORS, "configs"} - {"limits"}
    assert not [path for path in PACKAGE.rglob("*") if path.is_symlink()]  # links become text files in a zip


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("algorithm.losses", "import lightning"),
        ("algorithm.losses", "def f():\n    import numpy"),
        ("algorithm.losses", "from epo_lightning.learner.networks import Trunk"),
        ("algorithm.losses", "from epo_lightning import learner"),
        ("algorithm.losses", "from ..learner import networks"),
        ("experience.rollout", "from epo_lightning.modules.epo import EPOModule"),
        ("experience.rollout", "import lightning.pytorch as pl"),
        ("physics.base", "import epo_lightning.envs.base"),
        ("envs.allegro_kuka.env", "import mujoco"),
        ("callbacks.elites", "from epo_lightning.cli.entry import main"),
        ("callbacks.elites", "from callbacks.evolution import GeneticEvolution"),
        ("cli.entry", "def main():\n    from epo_lightning import callbacks"),
    ],
)
def test_a_look_upwards_is_found(module: str, source: str) -> None:
    assert len(violations(module, source, f"epo_lightning.{module}".rpartition(".")[0])) == 1


def test_a_look_down_is_fine() -> None:
    source = "import torch, einops\nfrom .population import MASTER\nfrom epo_lightning import __version__, limits"
    assert violations("algorithm.losses", source, "epo_lightning.algorithm") == []


def imported_tests(source: str, package: str) -> list[str]:
    """Tests, and fixtures by their file, that `source` imports: what tests share lies in `tests.support`."""
    names = list(imports(source, package))
    return [name for name in names if any(part == "conftest" or part.startswith("test_") for part in name.split("."))]


@pytest.mark.parametrize("path", sorted(TESTS.rglob("*.py")), ids=lambda path: str(path.relative_to(TESTS)))
def test_no_test_imports_a_test(path: Path) -> None:
    package = ".".join(path.parent.relative_to(ROOT).parts)
    assert imported_tests(path.read_text(), package) == []


@pytest.mark.parametrize(
    "source",
    [
        "from tests.system.test_resume import assert_same",
        "from tests.system import test_resume",
        "import tests.system.test_resume as resume",
        "from .test_resume import assert_same",
        "from . import test_resume",
        "def f():\n    from ..conftest import cli",
        "import conftest",
    ],
)
def test_an_imported_test_is_found(source: str) -> None:
    assert len(imported_tests(source, "tests.system")) == 1


def test_support_is_for_everybody() -> None:
    assert imported_tests("import pytest\nfrom tests.support.training import train", "tests.system") == []


def test_tests_lie_in_the_folder_of_what_they_test() -> None:
    folders = {path.parent.relative_to(TESTS).parts[:1] for path in TESTS.rglob("test_*.py")}
    assert () not in folders
    assert {name for (name,) in folders} <= {*FLOORS, "docs", "system"} - {"limits"}
    assert all((TESTS / name / "__init__.py").exists() for (name,) in folders)  # two may have the same file name


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    """A fresh interpreter in the repository's root, which `-c` puts first on the path."""
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)


def test_importing_the_package_loads_nothing_heavy() -> None:
    heavy = "torch lightning pytorch_lightning torchmetrics mujoco numpy wandb jsonargparse"
    result = run_python(f"import sys, epo_lightning; print([m for m in {heavy.split()} if m in sys.modules])")
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "[]"


def test_the_core_runs_without_lightning_and_mujoco() -> None:
    core = sorted(name for name in MODULES if name.split(".")[0] in FLOORS[: FLOORS.index("learner") + 1])
    names = ", ".join(f"epo_lightning.{name}" for name in core)
    result = run_python(f"import sys, {names}; print([m for m in ('lightning', 'mujoco') if m in sys.modules])")
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "[]"


def test_a_training_loads_nothing_that_draws() -> None:
    code = """
        import sys, torch
        import epo_lightning.cli.fit, epo_lightning.callbacks
        from epo_lightning.envs.allegro_kuka import AllegroKuka
        AllegroKuka(1, torch.device("cpu"), 0, threads=1).reset()
        print([m for m in ("OpenGL", "mujoco.egl", "imageio_ffmpeg", "viser") if m in sys.modules])
    """
    result = run_python("\n".join(line.strip() for line in code.splitlines()))
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "[]"


@pytest.mark.skipif(not (ROOT / "callbacks").is_dir(), reason="a tree without links")
def test_callbacks_refuse_their_bare_name() -> None:
    # one file under two names would be two sets of classes
    for code in ("import callbacks", "import callbacks.evolution"):
        result = run_python(code)
        assert result.returncode != 0
        assert "ImportError" in result.stderr
        assert "epo_lightning.callbacks" in result.stderr


def test_callbacks_answer_to_their_full_name() -> None:
    result = run_python("import epo_lightning.callbacks")
    assert result.returncode == 0, result.stderr
