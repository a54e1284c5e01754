"""Somebody else's checkpoint is data: it imports, starts, reads and writes nothing without its user's consent."""

import copy
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, Never

import pytest
import torch
import yaml

from epo_lightning.cli.arguments import CONFIGS, OF_WANDB
from epo_lightning.cli.entry import main
from epo_lightning.cli.settings.values import as_text
from epo_lightning.cli.trust import embedded_config
from epo_lightning.cli.trust.allowlist import findings
from epo_lightning.cli.trust.signature import is_signed, key_file, sign
from epo_lightning.documents.plain_yaml import dump, marked, plain
from epo_lightning.documents.plain_yaml import load as load_yaml
from epo_lightning.modules.contents import CONFIG as CONFIG_KEY
from epo_lightning.modules.contents import SIGNATURE as SIGNATURE_KEY
from tests.support.command_line import TINY, Cli
from tests.support.overlays import command_line

COMMANDS = ("fit", "validate", "test", "play", "view", "export")
EVIL = """
from pathlib import Path
Path("canary").touch()
from epo_lightning.envs.classic import Probe
from lightning import Callback
from lightning.pytorch.loggers import CSVLogger
class Env(Probe): pass
class Spy(Callback): pass
class Log(CSVLogger): pass
def make(*args, **kwargs): Path("canary").touch()
"""
MINE = """
from epo_lightning.envs.classic import Probe
class Mine(Probe):
    def __init__(self, num_envs, device, seed, max_steps=3, flavour="plain"):
        super().__init__(num_envs, device, seed, max_steps)
        self.flavour = flavour
"""
GYM, WORKER = "epo_lightning.envs.gymnasium.GymnasiumEnv", "epo_lightning.envs.worker.WorkerEnv"
KUKA, PROBE = "epo_lightning.envs.allegro_kuka.AllegroKuka", "epo_lightning.envs.classic.Probe"
GENES = "epo_lightning.callbacks.GeneticEvolution"
K_POINT = "epo_lightning.algorithm.crossover.KPoint"


def spec(class_path: str, **init_args: Any) -> dict[str, Any]:
    return {"class_path": class_path, "init_args": init_args}


HOSTILE: dict[str, tuple[str, Any, str]] = {
    "a function as environment": ("data.env", spec("os.system", command="touch canary"), "import os.system"),
    "a process as environment": ("data.env", spec("subprocess.Popen", args="touch canary"), "import subprocess.Popen"),
    "a module of the working folder": ("data.env", spec("evil.Env"), "import evil.Env"),
    "a class by its short name": ("data.env", spec("Env"), "import Env"),
    "another name of an own class": ("data.env", spec("evil.Probe", max_steps=3), "import evil.Probe"),
    "an id that imports a module": ("data.env", spec(GYM, id="evil:Env-v0"), "set data.env.id to evil:Env-v0"),
    "an id that names a function": ("data.env", spec(GYM, id="evil:make"), "evil:make"),
    "a path among the arguments": (
        "data.env", spec(GYM, id="Ant-v5", env_args={"xml_file": "secret"}), "set data.env.env_args.xml_file to secret"
    ),
    "a class among the arguments": (
        "data.env", spec(GYM, id="Ant-v5", env_args={"x": spec("evil.Spy")}), "import evil.Spy"
    ),
    "more arguments than the class has": ("data.env", {**spec(PROBE), "dict_kwargs": {"x": 1}}, f"import {PROBE}"),
    "a worker's interpreter": (
        "data.env", spec(WORKER, python="./evil.sh", factory="mjlab"), "start ./evil.sh with the factory mjlab"
    ),
    "a worker's factory": (
        "data.env", spec(WORKER, python=sys.executable, factory="evil.py:make"), "with the factory evil.py:make"
    ),
    "names from a file": ("data.env", spec(GYM, id="Pendulum-v1", privileged="secret"), "set data.env.privileged to"),
    "names that are paths": (
        "data.env", spec(GYM, id="Pendulum-v1", privileged=["mass", "/etc/passwd"]), "set data.env.privileged to /etc"
    ),
    "objects from a file": ("data.env", spec(KUKA, objects="secret"), "set data.env.objects to secret"),
    "obstacles from a file": ("data.env", spec(KUKA, obstacles="secret"), "set data.env.obstacles to secret"),
    "a callback": ("trainer.callbacks", [spec(GENES), spec("evil.Spy")], "import evil.Spy"),
    "a callback that is alone": ("trainer.callbacks", spec("evil.Spy"), "import evil.Spy"),
    "a class inside a callback": (
        "trainer.callbacks", [spec("lightning.pytorch.callbacks.LambdaCallback", on_fit_start=spec("evil.make"))],
        "import lightning.pytorch.callbacks.LambdaCallback, evil.make",
    ),
    "a function as crossover": ("trainer.callbacks", [spec(GENES, crossover=spec("evil.make"))], "import evil.make"),
    "a class as crossover": ("trainer.callbacks", [spec(GENES, crossover=spec("evil.Spy"))], "import evil.Spy"),
    "a crossover by its path": (
        "trainer.callbacks", [spec(GENES, crossover="evil.Spy")], "set trainer.callbacks.crossover to evil.Spy"
    ),
    "a text inside a crossover": (
        "trainer.callbacks", [spec(GENES, crossover=spec(K_POINT, points="evil.make"))], "to evil.make"
    ),
    "a crossover elsewhere": ("trainer.callbacks", [spec(GENES, seed=spec(K_POINT))], f"import {K_POINT}"),
    "a text inside a callback": ("trainer.callbacks", [spec(GENES, seed="evil.make")], "to evil.make"),
    "a logger": ("trainer.logger", spec("evil.Log", save_dir="elsewhere"), "import evil.Log"),
    "one logger of several": (
        "trainer.logger", [spec("lightning.pytorch.loggers.CSVLogger", save_dir="/tmp"), spec("evil.Log")], "evil.Log"
    ),
    "a strategy": ("trainer.strategy", spec("evil.Spy"), "import evil.Spy"),
    "a strategy by name": ("trainer.strategy", "evil.Spy", "set trainer.strategy to evil.Spy"),
    "a profiler": ("trainer.profiler", spec("lightning.pytorch.profilers.SimpleProfiler", dirpath="/tmp"), "import"),
    "plugins": ("trainer.plugins", [spec("evil.Spy")], "import evil.Spy"),
    "a folder for everything": ("trainer.default_root_dir", "elsewhere", "set trainer.default_root_dir to elsewhere"),
    "an accelerator": ("trainer.accelerator", spec("evil.Spy"), "import evil.Spy"),
    "devices from a file": ("trainer.devices", "secret", "set trainer.devices to secret"),
    "a process per environment": (
        "data.env", spec(GYM, id="Pendulum-v1", vectorization="async"), "set data.env.vectorization to async"
    ),
    "a million threads": ("data.env", spec(KUKA, threads=10**6), "set data.env.threads to 1000000"),
    "a list of processes": ("trainer.devices", [0] * 65, "set trainer.devices to [0, 0"),
    "a thousand processes": ("trainer.devices", 1000, "set trainer.devices to 1000"),
    "other machines": ("trainer.num_nodes", 2, "set trainer.num_nodes to 2"),
    "a class where none is": ("model.network", {**spec("evil.Spy"), "hidden": [8]}, "import evil.Spy"),
    "a class as a number": ("model.num_agents", spec("evil.Spy"), "import evil.Spy"),
    "a text as a number": ("data.num_envs", "evil.make", "set data.num_envs to evil.make"),
    "the parser's own keys": ("data.__path__", "secret", "set data.__path__"),
    "a dotted key": ("data.eval_difficulty", {"env.class_path": "evil.Env"}, "set data.eval_difficulty.env.class_path"),
    "a key that appends": ("trainer.callbacks+", [spec("evil.Spy")], "import evil.Spy"),
    "a class in a list": ("data.env", spec(KUKA, obstacles=[spec("evil.Spy")]), "import evil.Spy"),
    "arguments that are none": ("data.env", {"class_path": PROBE, "init_args": "secret"}, f"import {PROBE}"),
    "arguments that are nothing": ("data.env", {"class_path": PROBE, "init_args": ""}, f"import {PROBE}"),
    "a key with escapes": ("trainer.\x1b[2J", 1, r"set 'trainer.\x1b[2J'"),
    "escapes of the terminal": ("data.env", spec("evil.\x1b[2JEnv\n"), r"'evil.\x1b[2JEnv\n'"),
}  # fmt: skip
"""By name: a key, its value, and what the refusal says."""

NO_DATA: dict[str, tuple[Any, str]] = {
    "the name of a file": ("secret.yaml", "not a mapping"),
    "an absolute path": (str(Path(__file__).resolve()), "not a mapping"),
    "a URL": ("file:///etc/passwd", "not a mapping"),
    "an empty text": ("", "not a mapping"),
    "a list": ("- secret.yaml", "not a mapping"),
    "bytes": (b"model: {}", "not a text but bytes"),
    "a number": (3, "not a text but int"),
    "an object": ("data: !!python/object/apply:os.system ['touch canary']", "not plain YAML"),
    "a set": ("model: !!set {a, b}", "not plain (set)"),
    "keys that are no names": ("model: {1: 2}", "a key that is not a name"),
    "broken YAML": ("model: {", "not plain YAML"),
    "not UTF-8": ("model: \udcff\x00", "not plain YAML"),
    "a bomb of aliases": (
        "a: &a [1,1,1,1,1,1,1,1,1]\n"
        + "".join(f"{b}: &{b} [{','.join(['*' + a] * 9)}]\n" for a, b in pairwise("abcdefghijkl"))
        + "model: *l",
        "more than",
    ),
    "a bomb of merge keys": (
        "a: &a {x: 1}\n"
        + "".join(f"{b}: &{b} {{<<: [{','.join(['*' + a] * 9)}]}}\n" for a, b in pairwise("abcdefghi"))
        + "model: *i",
        "not plain YAML",
    ),
    "an endless list": ("model: &a [*a]", "more than"),
    "deep nesting": ("model: " + "[" * 100_000, "not plain YAML"),
    "a thousand levels": ("model: " + "{a: " * 60 + "1" + "}" * 60, "more than"),
    "megabytes": ("model: {}\n#" + "x" * 3_000_000, "characters"),
    "an endless number": ("seed_everything: " + "9" * 100_000, "not plain YAML"),
    **{
        f"a file under {key}": (yaml.safe_dump({top: {rest: "secret.yaml"} if rest else "secret.yaml"}), key)
        for key in ("model", "model.network", "model.loss", "model.optimizer", "data", "model.rollout", "model.replay",
                    "data.env", "trainer", "trainer.callbacks", "trainer.logger", "checkpoint")
        for top, _, rest in [key.partition(".")]
    },
    "a file among callbacks": ("trainer: {callbacks: [secret.yaml]}", "trainer.callbacks"),
}  # fmt: skip
"""By name: what stands where the configuration must be, and what the refusal says."""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder of this user."""
    folder = tmp_path_factory.mktemp("trained")
    callbacks = [spec(GENES, num_elites=1), spec("epo_lightning.callbacks.NaNGuard")]
    (folder / "tiny.yaml").write_text(TINY)
    (folder / "more.yaml").write_text(yaml.safe_dump({"trainer": {"callbacks": callbacks}}))
    args = [
        f"--config={folder}/tiny.yaml",
        f"--config={folder}/more.yaml",
        "--run_dir",
        folder / "own",
        "--trainer.max_epochs",
        1,
    ]
    assert main(["fit", *map(str, args)]) == 0
    return folder / "own"


@pytest.fixture
def own(cli: Cli, trained: Path) -> Cli:
    """The command line in a folder with a run of this user, and files that nobody may touch."""
    shutil.copytree(trained, "own")
    Path("secret.yaml").write_text("model: {password: TOPSECRET}\n")
    Path("secret").write_text("TOPSECRET\n")
    Path("evil.sh").write_text("#!/bin/sh\ntouch canary\n")
    Path("evil.sh").chmod(0o755)
    return cli


@pytest.fixture(autouse=True)
def evil_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A module of the working folder; `python -m` finds such."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "evil.py").write_text(EVIL)
    (tmp_path / "mine.py").write_text(MINE)
    yield
    for name in ("evil", "mine"):
        sys.modules.pop(name, None)


def load(path: str = "own/checkpoints/last.ckpt") -> dict[str, Any]:
    checkpoint: dict[str, Any] = torch.load(path, weights_only=True)
    return checkpoint


def forge(*changes: tuple[str, Any], name: str = "foreign.ckpt", mark: object = None) -> str:
    """Somebody else's checkpoint: the own one with other values in its configuration."""
    checkpoint = load()
    config = yaml.safe_load(checkpoint[CONFIG_KEY])
    for key, value in changes:
        *groups, last = key.split(".")
        group = config
        for each in groups:
            group = group[each]
        group[last] = copy.deepcopy(value)
    return save({**checkpoint, CONFIG_KEY: yaml.safe_dump(config)}, name, mark)


def save(checkpoint: dict[str, Any], name: str = "foreign.ckpt", mark: object = None) -> str:
    """A file that this user's key has not signed."""
    checkpoint = {**checkpoint, SIGNATURE_KEY: mark}
    if mark is None:
        del checkpoint[SIGNATURE_KEY]
    torch.save(checkpoint, name)
    return name


def snapshot() -> dict[str, bytes | None]:
    return {
        str(path): path.read_bytes() if path.is_file() else None
        for path in Path().rglob("*")
        if "__pycache__" not in str(path)
    }


def refused(cli: Cli, words: str, *args: str, commands: tuple[str, ...] = COMMANDS) -> None:
    """Every command says `words` in one line, and nothing has happened."""
    for command in commands:
        before = snapshot()
        outcome = cli(command, *args)
        assert outcome.code == 2, command
        assert outcome.err.startswith("error: ckpt_path: "), outcome.err
        assert outcome.err.count("\n") == 1
        assert outcome.err.strip().isprintable()
        assert words in outcome.err
        assert "TOPSECRET" not in outcome.err + outcome.out
        assert "evil" not in sys.modules
        assert not Path("canary").exists()
        assert snapshot() == before


@pytest.mark.parametrize("case", HOSTILE)
def test_nothing_runs(own: Cli, case: str) -> None:
    key, value, words = HOSTILE[case]
    path = forge((key, value))
    refused(own, words, "--ckpt_path", path)
    refused(own, "add --trust if you trust who made it, or give ", "--ckpt_path", path, commands=("fit",))


@pytest.mark.parametrize("case", NO_DATA)
def test_a_configuration_is_a_mapping_of_plain_values(own: Cli, case: str) -> None:
    text, words = NO_DATA[case]
    path = save({**load(), CONFIG_KEY: text})
    refused(own, words, "--ckpt_path", path)
    if "file" in case:
        refused(own, words, "--ckpt_path", path, "--trust", commands=("validate",))


@pytest.mark.usefixtures("own")
def test_nothing_runs_in_a_process_of_its_own() -> None:
    """As a user calls it: there the working folder is where Python looks for modules."""
    forge(("data.env", spec("evil.Env")), ("trainer.callbacks", [spec("evil.Spy")]))
    for command in ("play", "fit"):
        process = [sys.executable, "-m", "epo_lightning", command, "--ckpt_path", "foreign.ckpt"]
        result = subprocess.run(process, capture_output=True, text=True, timeout=100, check=False)
        assert result.returncode == 2, result.stderr
        assert result.stderr.count("\n") == 1
        assert "import evil.Spy, import evil.Env" in result.stderr
        assert not Path("canary").exists()


@pytest.mark.parametrize("command", ["fit", "validate", "test"])
def test_a_stranger_who_names_our_classes_only_needs_no_consent(own: Cli, command: str) -> None:
    path = save(load())
    outcome = own(
        command, "--ckpt_path", path, "--run_dir", "new", *(["--trainer.max_epochs=2"] if command == "fit" else [])
    )
    assert outcome.code == 0, outcome.err
    assert "--trust" not in outcome.err


def test_a_stranger_who_names_our_classes_only_is_played(own: Cli) -> None:
    pytest.importorskip("imageio_ffmpeg")
    pendulum = ("--data.env", "epo_lightning.envs.classic.Pendulum")
    assert own("fit", "--config", "tiny.yaml", *pendulum, "--run_dir", "pendulum").code == 0
    save(load("pendulum/checkpoints/last.ckpt"))
    outcome = own("play", "--ckpt_path", "foreign.ckpt", "--seconds", "0.2")
    assert outcome.code == 0, outcome.err
    assert Path("foreign-0.mp4").exists()


def test_view_takes_the_same_way(own: Cli) -> None:
    pytest.importorskip("viser")
    assert "Probe has no physics" in own("view", "--ckpt_path", forge(), "--port", "0").err


class TestConsent:
    def run(self, cli: Cli) -> None:
        """A run of this user with an environment of the working folder."""
        assert cli("fit", "--config", "tiny.yaml", "--data.env", "mine.Mine", "--run_dir", "mine").code == 0

    def test_an_own_run_needs_none(self, own: Cli) -> None:
        self.run(own)
        assert own("fit", "--ckpt_path", "mine", "--trainer.max_epochs", 3).code == 0
        Path("mine").rename("moved")
        assert own("fit", "--ckpt_path", "moved", "--trainer.max_epochs", 4).code == 0
        assert own("validate", "--ckpt_path", "moved").code == 0

    def test_a_stranger_needs_it(self, own: Cli) -> None:
        self.run(own)
        sys.modules.pop("mine")
        save(load("mine/checkpoints/last.ckpt"))
        refused(own, "import mine.Mine", "--ckpt_path", "foreign.ckpt", commands=("fit", "validate"))
        assert "mine" not in sys.modules
        assert own("validate", "--ckpt_path", "foreign.ckpt", "--trust").code == 0

    def test_another_users_mark_does_not_count(self, own: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        self.run(own)
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "another user"))
        refused(own, "import mine.Mine", "--ckpt_path", "mine", commands=("fit",))
        assert own("fit", "--ckpt_path", "mine", "--trust", "--trainer.max_epochs", 3).code == 0
        assert own("fit", "--ckpt_path", "mine", "--trainer.max_epochs", 4).code == 0  # that was this user's own fit

    @pytest.mark.parametrize("mark", ["0" * 64, "", "\udcff", 3, b"x", torch.ones(3)])
    def test_a_forged_mark_does_not_count(self, own: Cli, mark: object) -> None:
        forge(("data.env", spec("evil.Env")), mark=mark)
        refused(own, "import evil.Env", "--ckpt_path", "foreign.ckpt", commands=("validate",))

    def test_the_mark_of_another_configuration_does_not_count(self, own: Cli) -> None:
        forge(("data.env", spec("evil.Env")), mark=load()[SIGNATURE_KEY])
        refused(own, "import evil.Env", "--ckpt_path", "foreign.ckpt", commands=("validate",))

    def test_the_same_command_line_may_give_it(self, own: Cli) -> None:
        self.run(own)
        path = save(load("mine/checkpoints/last.ckpt"))
        Path("again.yaml").write_text("data: {env: {class_path: mine.Mine, init_args: {max_steps: 3}}}")
        for given in (["--config", "again.yaml"], ["--data.env=mine.Mine"], ["--data.env", "{class_path: mine.Mine}"]):
            outcome = own("validate", "--ckpt_path", path, *given)
            assert outcome.code == 0, outcome.err
            assert outcome.err == "notice: data.env: as your command line has it, nothing of it from the checkpoint\n"
        more = ("--run_dir", "new", "--trainer.max_epochs", 3)
        outcome = own("fit", "--ckpt_path", path, "--config", "again.yaml", *more)
        assert outcome.code == 0, outcome.err
        assert "iteration 3/3" in outcome.out

    def test_what_the_user_gives_replaces_what_the_stranger_says(self, own: Cli) -> None:
        forge(("data.env", spec("evil.Env", max_steps=3)))
        assert own("validate", "--ckpt_path", "foreign.ckpt", "--config", "tiny.yaml").code == 0
        forge(("trainer.logger", spec("evil.Log", save_dir="elsewhere")))
        assert own("validate", "--ckpt_path", "foreign.ckpt", "--trainer.logger", "null").code == 0
        assert "evil" not in sys.modules

    def test_a_single_value_may_be_given(self, own: Cli) -> None:
        forge(("data.env", spec(GYM, id="evil:make", env_args={"x": {"y": "evil.make"}, "max_episode_steps": 5})))
        given = ("--data.env.init_args.id", "Pendulum-v1", "--ckpt_path", "foreign.ckpt")
        refused(own, "would set data.env.env_args.x.y to evil.make: ", *given, commands=("validate",))
        outcome = own("validate", *given, "--data.env.env_args.x.y", "1")
        assert "data.env.env_args.x.y, data.env.id: as your command line has it" in outcome.err
        assert "evil" not in sys.modules

    def test_a_part_is_not_the_whole(self, own: Cli) -> None:
        forge(("data.env", spec("evil.Env", max_steps=3)))
        part = ("--ckpt_path", "foreign.ckpt", "--data.env.init_args.max_steps", "4")
        refused(own, "import evil.Env", *part, commands=("validate",))
        Path("part.yaml").write_text("data: {env: {init_args: {max_steps: 4}}, num_envs: 16}")
        refused(own, "import evil.Env", "--ckpt_path", "foreign.ckpt", "--config", "part.yaml", commands=("validate",))
        forge(("data.env", spec(WORKER, python="./evil.sh", factory="mjlab")))
        part = ("--ckpt_path", "foreign.ckpt", "--data.env.init_args.factory", "mjlab")
        refused(own, "start ./evil.sh", *part, commands=("validate",))

    def test_consent_to_one_thing_is_not_consent_to_another(self, own: Cli) -> None:
        forge(("data.env", spec("evil.Env")), ("trainer.callbacks", [spec("evil.Spy")]))
        one = ("--ckpt_path", "foreign.ckpt", "--config", "tiny.yaml")
        refused(own, "would import evil.Spy: ", *one, commands=("validate",))

    def test_trust_is_no_key_of_a_file(self, own: Cli) -> None:
        Path("trust.yaml").write_text("trust: true")
        outcome = own("validate", "--ckpt_path", "own", "--config", "trust.yaml")
        assert outcome.code == 2
        words = "config: trust.yaml, line 1: trust is for the command line only"
        assert outcome.err.startswith(f"error: {words}")
        forge(("data.env", spec("evil.Env")))
        assert words in own("validate", "--ckpt_path", "foreign.ckpt", "--config", "trust.yaml").err
        assert "evil" not in sys.modules
        assert "trust" not in yaml.safe_load(Path("own/config.yaml").read_text())


class TestOneInvocation:
    def test_its_keys_do_not_come_from_a_checkpoint(self, own: Cli) -> None:
        checkpoint = load()
        keys = {"out": "elsewhere.mp4", "run_dir": "elsewhere", "ckpt_path": "elsewhere.ckpt", "config": "secret.yaml",
                "base": "secret.yaml", "trust": True, "port": 1, "fit": {"run_dir": "elsewhere"}}  # fmt: skip
        text = checkpoint[CONFIG_KEY] + yaml.safe_dump(keys)
        for path in (save({**checkpoint, CONFIG_KEY: text}), save({**checkpoint, CONFIG_KEY: text}, mark=sign(text))):
            outcome = own("fit", "--ckpt_path", path, "--run_dir", f"new{path}", "--trainer.max_epochs", 2)
            assert outcome.code == 0, outcome.err
            assert not list(Path().glob("elsewhere*"))
            assert "TOPSECRET" not in outcome.out + outcome.err
            Path(f"new{path}").rename(f"done{len(list(Path().glob('done*')))}")

    @pytest.mark.parametrize("folder", ["{}/elsewhere", "../elsewhere", "~/elsewhere"])
    def test_a_trusted_stranger_does_not_say_where_to_save(
        self, own: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str
    ) -> None:
        monkeypatch.setenv("HOME", str(tmp_path))
        logger = spec("lightning.pytorch.loggers.CSVLogger", save_dir=folder.format(tmp_path))
        forge(("trainer.logger", logger))
        outcome = own("fit", "--ckpt_path", "foreign.ckpt", "--run_dir", "new", "--trust", "--trainer.max_epochs", 2)
        assert outcome.code == 0, outcome.err
        assert not list(Path().rglob("elsewhere"))
        assert Path("new/lightning_logs").is_dir()
        assert "save_dir" in outcome.err

    def test_an_own_run_goes_on_saving_where_it_did(self, own: Cli) -> None:
        logger = ("--trainer.logger", "CSVLogger", "--trainer.logger.save_dir", str(Path("mine").resolve()))
        assert own("fit", "--config", "tiny.yaml", "--run_dir", "logged", *logger).code == 0
        assert own("fit", "--ckpt_path", "logged", "--trainer.max_epochs", 3).code == 0
        assert len(list(Path("mine/lightning_logs").iterdir())) == 2


class TestHostileFolder:
    @pytest.mark.parametrize(
        "link", ["metrics.csv", ".config.yaml", "lineage.jsonl", "videos", "checkpoints/last.evaluation.json",
                 "checkpoints/.last.ckpt.part"],
    )  # fmt: skip
    def test_links_lead_nowhere(self, own: Cli, link: str) -> None:
        save(load(), "own/checkpoints/last.ckpt")
        Path("own", link).unlink(missing_ok=True)
        Path("own", link).symlink_to(Path("secret").resolve())
        refused(own, f"own/{link} is a link to", "--ckpt_path", "own")
        assert own("validate", "--ckpt_path", "own", "--trust").code in (0, 2)

    def test_a_link_beside_a_single_file(self, own: Cli) -> None:
        save(load())
        Path("foreign.evaluation.json").symlink_to(Path("own/config.yaml").resolve())
        Path("foreign.test.json").symlink_to("/etc/hostname")
        refused(own, "foreign.test.json is a link to /etc/hostname", "--ckpt_path", "foreign.ckpt", commands=("test",))

    def test_a_link_instead_of_a_checkpoint_is_not_shown(self, own: Cli) -> None:
        Path("own/checkpoints/last.ckpt").unlink()
        Path("own/checkpoints/last.ckpt").symlink_to(Path("secret").resolve())
        refused(own, "cannot be read", "--ckpt_path", "own")

    def test_links_of_an_own_run_stay(self, own: Cli) -> None:
        Path("big").mkdir()
        Path("own/metrics.csv").rename("big/metrics.csv")
        Path("own/metrics.csv").symlink_to(Path("big/metrics.csv").resolve())
        assert own("validate", "--ckpt_path", "own").code == 0


class TestKey:
    def test_it_is_made_once_for_this_user_alone(self, own: Cli) -> None:
        assert stat.S_IMODE(key_file().stat().st_mode) == 0o600
        key = key_file().read_bytes()
        assert own("fit", "--config", "tiny.yaml", "--run_dir", "other").code == 0
        assert key_file().read_bytes() == key
        assert list(key_file().parent.iterdir()) == [key_file()]

    def test_the_mark_is_of_the_text(self) -> None:
        mark = sign("a")
        assert is_signed("a", mark)
        assert not is_signed("b", mark)
        assert not is_signed("a", mark.upper())

    @pytest.mark.parametrize("damage", ["readable by others", "empty", "a link"])
    def test_a_key_that_others_may_know_counts_for_nothing(
        self, damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        mark = sign("a")
        key = key_file().read_bytes()
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
        key_file().parent.mkdir(parents=True)
        if damage == "a link":
            (tmp_path / "key").write_bytes(key)
            (tmp_path / "key").chmod(0o600)
            key_file().symlink_to(tmp_path / "key")
        else:
            key_file().write_bytes(b"" if damage == "empty" else key)
            key_file().chmod(0o600 if damage == "empty" else 0o644)
        assert not is_signed("a", mark)
        with pytest.raises(OSError, match=r"key|symbolic"):
            sign("a")

    def test_without_a_home_a_run_says_once_that_it_is_nobodys(
        self, own: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        (tmp_path / "file").touch()
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
        outcome = own("fit", "--config", "tiny.yaml", "--run_dir", "plain")
        assert (outcome.code, outcome.err.count("notice")) == (0, 0)  # these classes need no consent
        outcome = own("fit", "--config", "tiny.yaml", "--data.env", "mine.Mine", "--run_dir", "mine")
        assert outcome.code == 0
        assert outcome.err.count("notice: these checkpoints cannot be marked as yours") == 1
        assert SIGNATURE_KEY not in load("mine/checkpoints/last.ckpt")
        refused(own, "import mine.Mine", "--ckpt_path", "mine", commands=("fit",))
        assert own("fit", "--ckpt_path", "mine", "--trust", "--trainer.max_epochs", 3).code == 0


@pytest.mark.usefixtures("own")
def test_two_ranks_sign() -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    for args in (
        ["--config", "tiny.yaml", "--data.env", "mine.Mine", "--run_dir", "two"],
        ["--ckpt_path", "two", "--trainer.max_epochs", "3"],
    ):
        command = [sys.executable, "-m", "epo_lightning", "fit", *args, "--trainer.devices", "2"]
        result = subprocess.run(command, capture_output=True, text=True, timeout=200, env=environment, check=False)
        assert result.returncode == 0, result.stderr
        checkpoint = load("two/checkpoints/last.ckpt")
        assert is_signed(checkpoint[CONFIG_KEY], checkpoint[SIGNATURE_KEY])


class TestContents:
    """What else is in the file."""

    @pytest.mark.parametrize(
        ("name", "value", "words"),
        [
            ("network.colour", "red", "'network.colour', which this version does not know"),
            ("network.hidden", (10**6,) * 3, "its weights are not those"),
            ("network.hidden", (10**12, 10**12), "no network of the sizes"),
            ("network.hidden", (1,) * 10**5, "no network of the sizes"),
            ("network.width", 10**9, "its weights are not those"),
            ("network.activation", "os", "no network of the sizes"),
            ("network.obs_clip", torch.ones(()), "no network of the sizes"),
            ("num_agents", "4\x1b[2J", "no network of the sizes"),
            ("num_agents", 5, "genes has shape (4, 3) instead of (5, 3)"),
            ("obs_dim", 10**15, "its weights are not those"),
            ("discrete", True, "its weights are not those"),
        ],
    )  # fmt: skip
    def test_sizes_are_those_of_the_weights(self, own: Cli, name: str, value: object, words: str) -> None:
        checkpoint = load()
        identity = checkpoint["identity"]
        (identity if name in identity else identity["model"])[name] = value
        refused(own, words, "--ckpt_path", save(checkpoint))

    @pytest.mark.parametrize(
        ("kind", "words"),
        [
            ("missing", "genes is missing"),
            ("too many", r"'evil\x1b[2J' is none of its parameters"),
            ("not a tensor", "genes is not a plain tensor"),
            ("sparse", "ckpt_path: "),
            ("no identity", "it does not say for which network"),
            ("no state_dict", "it has no state_dict"),
        ],
    )
    def test_other_weights(self, own: Cli, kind: str, words: str) -> None:
        checkpoint = load()
        state = checkpoint["state_dict"]
        if kind == "missing":
            del state["policy.genes"]
        elif kind == "too many":
            state["policy.evil\x1b[2J"] = torch.ones(1)
        elif kind == "not a tensor":
            state["policy.genes"] = [1.0]
        elif kind == "sparse":
            state["policy.genes"] = state["policy.genes"].to_sparse()
        else:
            del checkpoint["identity" if kind == "no identity" else "state_dict"]
        refused(own, words, "--ckpt_path", save(checkpoint))

    def test_weights_beside_the_network(self, own: Cli) -> None:
        checkpoint = load()
        checkpoint["state_dict"]["evil"] = torch.ones(1)
        for command in ("fit", "validate", "test"):
            outcome = own(
                command,
                "--ckpt_path",
                save(checkpoint),
                "--run_dir",
                "new",
                *(["--trainer.max_epochs=2"] if command == "fit" else []),
            )
            assert outcome.code == 2
            assert outcome.err.endswith("lack, or have too much, 'evil'\n")

    def test_the_configuration_asks_for_the_network_that_is_there(self, own: Cli) -> None:
        path = forge(("model.network.hidden", [10**6, 10**6]))
        refused(own, "another model.network.hidden", "--ckpt_path", path)
        refused(own, "another model.num_agents", "--ckpt_path", forge(("model.num_agents", 10**9)))

    @pytest.mark.parametrize(
        "values", [None, 3, {"a": "b"}, {"\x1b[2J": 1.0}, {1: 1.0}, {"a": torch.ones(2)}, {"a": {"b": 1}}]
    )
    def test_a_curriculum_is_names_and_numbers(self, own: Cli, values: object) -> None:
        checkpoint = load()
        checkpoint["ranks"][0]["curriculum"] = values
        refused(own, "its curriculum is not names and numbers", "--ckpt_path", save(checkpoint))

    @pytest.mark.parametrize(
        ("name", "value"), [("loops", 3), ("callbacks", []), ("epoch", "x"), ("optimizer_states", 1)]
    )
    def test_what_lightning_restores(self, own: Cli, name: str, value: object) -> None:
        refused(own, f"its {name} is of the type", "--ckpt_path", save({**load(), name: value}))

    @pytest.mark.parametrize("ranks", [3, {"ranks": 3}, [3]])
    def test_ranks_are_ranks(self, own: Cli, ranks: object) -> None:
        refused(own, "does not hold the ranks", "--ckpt_path", save({**load(), "ranks": ranks}))


@pytest.mark.parametrize("name", sorted(file.stem for file in CONFIGS.glob("*.yaml") if file != OF_WANDB))
def test_packaged_configurations_need_no_consent(cli: Cli, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Except for those that start another interpreter."""
    resolved = []

    def stop(text: str) -> Never:
        resolved.append(text)
        raise ValueError("enough")

    monkeypatch.setattr("epo_lightning.cli.invocation.signature_of", stop)
    args = command_line(name)
    with pytest.raises(ValueError, match="enough"):
        cli("fit", *args)
    config = embedded_config.parse(resolved[0], limited=True)
    needs = findings(config)
    assert [each.key for each in needs] == (["data.env"] if config["data"]["env"]["class_path"] == WORKER else [])
    assert embedded_config.parse(dump(config), limited=True) == config


@pytest.mark.parametrize("crossover", ["average", "uniform", "k_point", spec(K_POINT, points=3)])
def test_crossover_of_our_own_needs_no_consent(crossover: str | dict[str, Any]) -> None:
    assert findings({"trainer": {"callbacks": [spec(GENES, crossover=crossover)]}}) == []


def test_a_setting_that_is_gone_and_had_no_effect_is_left_out() -> None:
    assert embedded_config.parse("model: {loss: {entropy_evolves: false, clip_eps: 0.1}}", limited=True) == {
        "model": {"loss": {"clip_eps": 0.1}}
    }
    with_effect = {"model": {"loss": {"entropy_evolves": True}}}
    assert embedded_config.parse(dump(with_effect), limited=True) == with_effect  # and then it is no key


def test_texts_stay_texts() -> None:
    config = {
        "data": {"a": ["1e-5", "2020-01-01", "null", "yes", "", "a\nb: c", "0:10"], "b": float("inf"), "c": 1.0e-6}
    }
    assert embedded_config.parse(dump(config), limited=True) == config
    text = as_text(marked(config))
    assert plain(load_yaml(text)) == config
    assert len(text.partition("\n")[0]) > os.pathconf("/", "PC_NAME_MAX")
    with pytest.raises(OSError, match="too long"):
        Path(text).stat()


def test_names_of_privileged_groups_need_no_consent() -> None:
    assert findings({"data": {"env": spec(GYM, id="Pendulum-v1", privileged=["robot.mass", "goal"])}}) == []
