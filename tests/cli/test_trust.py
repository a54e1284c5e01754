"""Somebody else's checkpoint is data: it imports, starts, reads and writes nothing without its user's consent."""

import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from epo_lightning.cli.settings.values import as_text
from epo_lightning.cli.trust import embedded_config
from epo_lightning.documents.plain_yaml import dump, marked, plain
from epo_lightning.documents.plain_yaml import load as load_yaml
from epo_lightning.modules.contents import CONFIG as CONFIG_KEY
from tests.support.command_line import Cli
from tests.support.strangers import GENES, GYM, K_POINT, KUKA, PROBE, WORKER, forge, load, refused, save, spec

pytestmark = pytest.mark.usefixtures("evil_module")

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
