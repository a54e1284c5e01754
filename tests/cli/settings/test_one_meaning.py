"""A key in a file and the same flag do the same: all keys of all commands, taken from the parser."""

import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar, Literal, Union, get_args, get_origin

import pytest
import torch
import yaml

from epo_lightning.cli import invocation
from epo_lightning.cli.settings.keys import ParserKeys
from epo_lightning.documents.plain_yaml import dump
from epo_lightning.envs.classic import Probe
from epo_lightning.learner.networks import NetworkSettings
from epo_lightning.modules import ALGORITHMS
from epo_lightning.modules.epo import EPOModule
from tests.support.command_line import Cli

COMMANDS = ("fit", "validate", "test", "play", "view")
CLASSES = {
    "data.env": "WallMaze", "trainer.callbacks": "NaNGuard", "trainer.logger": "TensorBoardLogger",
    "trainer.accelerator": "cpu", "trainer.strategy": "ddp", "trainer.profiler": "simple",
}  # fmt: skip
NOT_COMPARED = ("base", "trust", "resume", "ckpt_path", "pretrained")
"""`base` and `trust` are not for both; what the others do has tests of their own below."""
TEXTS = ["1e-3", "007", "no", "null", "0x10", "1_000", "2020-01-01", "~", "1:30"]
MADE: list[dict[str, Any]] = []


class Named(Probe):
    """Remembers what it was made with."""

    def __init__(
        self, num_envs: int, device: torch.device, seed: int, name: str = "", anything: Any = None,
        either: int | str | None = None, options: dict[str, Any] | None = None, loose: dict | None = None,  # type: ignore[type-arg]
    ) -> None:  # fmt: skip
        super().__init__(num_envs, device, seed, 3)
        MADE.append({"name": name, "anything": anything, "either": either, "options": options, "loose": loose})


def value_of(kind: Any, default: object) -> Any:
    """Something of a type that is not the default."""
    if get_origin(kind) is Literal:
        return next(each for each in get_args(kind) if each != default)
    if kind is bool:
        return not default
    plain = {int: 7, float: 0.375, str: "some", dict: {"tolerance": 0.5}, list: [5, 6], tuple: [5, 6]}
    if (get_origin(kind) or kind) in plain:
        return plain[get_origin(kind) or kind]
    parts = [each for each in get_args(kind) if each is not type(None)]
    assert get_origin(kind) in (Union, type(int | str)), kind
    return value_of(parts[0], default)


def printed(cli: Cli, capsys: pytest.CaptureFixture[str], *args: str) -> Any:
    with pytest.raises(SystemExit) as end:
        cli(*args, "--print_config")
    assert end.value.code == 0
    return yaml.safe_load(capsys.readouterr().out)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_key_of_the_parser_is_the_same_in_a_file_and_as_a_flag(
    cli: Cli, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    seen: list[ParserKeys] = []

    class Seen(ParserKeys):
        def __init__(self, parser: Any) -> None:
            super().__init__(parser)
            seen.append(self)

    monkeypatch.setattr(invocation, "ParserKeys", Seen)
    defaults = printed(cli, capsys, command, "--data.env", "Probe")
    (keys,) = seen
    values = {
        key: CLASSES[key] if key in keys.classes else value_of(keys.type_of(key), action.default)
        for key, action in keys.leaves.items()
        if key not in NOT_COMPARED and key != "algorithm"
    }
    assert len(values) > 50
    nested: dict[str, Any] = {}
    for key, value in values.items():
        *groups, name = key.split(".")
        place = nested
        for group in groups:
            place = place.setdefault(group, {})
        place[name] = value
    Path("nested.yaml").write_text(yaml.safe_dump(nested))
    Path("dotted.yaml").write_text(yaml.safe_dump(values))
    flags: list[str] = []
    for key, value in values.items():
        flags += [f"--{key}", yaml.safe_dump(value, default_flow_style=True).removesuffix("...\n").strip()]
    from_flags = printed(cli, capsys, command, *flags)
    assert printed(cli, capsys, command, "--config", "nested.yaml") == from_flags
    assert printed(cli, capsys, command, "--config", "dotted.yaml") == from_flags
    for key in values:
        told, usual = from_flags, defaults
        for name in key.split("."):
            told, usual = told[name], usual[name]
        assert told != usual, key


def test_quoted_texts_stay_texts_in_files_and_flags_before_and_after_a_resume(cli: Cli) -> None:
    arguments = {
        "name": "007",
        "anything": TEXTS,
        "either": "5",
        "options": {"a": TEXTS, "b": {"c": "no"}},
        "loose": {"d": "1e-3"},
    }
    said = {"data": {"env": {"class_path": f"{__name__}.Named", "init_args": arguments}}}
    Path("named.yaml").write_text(dump(said))
    MADE.clear()
    assert cli("fit", "--config", "tiny.yaml", "--config", "named.yaml", "--run_dir", "run").code == 0
    assert cli("fit", "--ckpt_path", "run", "--trainer.max_epochs", 3).code == 0
    assert cli("fit", "--config", "run/config.yaml", "--run_dir", "again", "--trainer.max_epochs", 1).code == 0
    assert cli("validate", "--ckpt_path", "run").code == 0
    saved = yaml.safe_load(Path("run/config.yaml").read_text())["data"]["env"]["init_args"]
    assert [saved, *MADE] == [arguments] * (1 + len(MADE))
    assert len(MADE) >= 4

    cases: list[tuple[str, str, Any]] = [
        ("name", '"007"', "007"),
        ("name", "007", "007"),
        ("anything", "'1e-3'", "1e-3"),
        ("anything", "1e-3", 0.001),
        ("anything", '"null"', "null"),
        ("anything", '"-5"', "-5"),
        ("anything", '["no", no, 1e-3]', ["no", False, 0.001]),
        ("either", '"5"', "5"),
        ("either", "5", 5),
        ("options", '{a: "~", b: ~}', {"a": "~", "b": None}),
        ("loose", "{d: '1_0'}", {"d": "1_0"}),
        ("loose.d", "007", 7),
        ("loose.d", '"007"', "007"),
        ("options.a", "1e-3", 0.001),
        ("options.a", '"1e-3"', "1e-3"),
    ]
    for key, value, wanted in cases:
        for option in (f"--data.env.init_args.{key}", f"--data.env.{key}"):
            MADE.clear()
            args = ("validate", "--config", "tiny.yaml", "--data.env", f"{__name__}.Named", option, value)
            assert cli(*args).code == 0
            argument, _, inside = key.partition(".")
            made = MADE[0][argument][inside] if inside else MADE[0][argument]
            assert made == wanted
            assert type(made) is type(wanted)


def test_a_number_without_quotes_is_one_wherever_it_stands(cli: Cli) -> None:
    Path("named.yaml").write_text(
        f"data:\n  env:\n    class_path: {__name__}.Named\n    init_args:\n"
        "      {name: 007, anything: 1e-3, options: {a: [1e-3, 007]}, loose: {b: 1e-3}}\n"
    )
    MADE.clear()
    assert cli("validate", "--config", "tiny.yaml", "--config", "named.yaml").code == 0
    wanted = {"name": "007", "anything": 0.001, "either": None, "options": {"a": [0.001, 7]}, "loose": {"b": 0.001}}
    assert MADE[0] == wanted  # `name` takes a text, so it is one, as it is as a flag


def test_a_file_names_checkpoint_folder_and_resume_as_the_flags_do(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(Path.cwd()))
    Path("first.yaml").write_text("base: ~/tiny.yaml\nrun_dir: ~/run\nresume: true\n")
    assert cli("fit", "--config", "~/first.yaml").code == 0
    assert Path("run/checkpoints/last.ckpt").exists()
    assert "Nothing to do" in cli("fit", "--config", "first.yaml").out
    Path("more.yaml").write_text("base: first.yaml\nresume: false\nckpt_path: last\ntrainer: {max_epochs: 3}\n")
    assert cli("fit", "--config", "more.yaml").code == 0
    assert len(Path("run/metrics.csv").read_text().splitlines()) == 4
    saved = yaml.safe_load(Path("run/config.yaml").read_text())
    assert not saved.keys() & {"base", "run_dir", "resume", "ckpt_path", "config", "trust"}
    Path("evaluate.yaml").write_text("ckpt_path: ~/run\ndata: {eval_episodes: 4}\n")
    assert "4 episodes of the master" in cli("validate", "--config", "evaluate.yaml").out
    Path("none.yaml").write_text("base: [tiny.yaml, evaluate.yaml]\nckpt_path: null\n")
    assert "untrained" in cli("validate", "--config", "none.yaml").out
    assert "untrained" in cli("validate", "--config", "evaluate.yaml", "--config=tiny.yaml", "--ckpt_path=null").out


def test_short_names_are_ours_in_files_and_flags_and_after_a_resume(cli: Cli) -> None:
    Path("short.yaml").write_text(
        "data: {env: {class_path: WallMaze, init_args: {max_steps: 5}}}\n"
        "trainer:\n  callbacks:\n    - class_path: GeneticEvolution\n"
        "      init_args: {num_elites: 1, crossover: {class_path: KPoint, init_args: {points: 1}}}\n    - NaNGuard\n"
    )
    args = ("--config", "tiny.yaml", "--config", "short.yaml", "--run_dir", "run")
    outcome = cli("fit", *args)
    assert outcome.code == 0
    assert "EPO: 4 agents, evolved by GeneticEvolution\n" in outcome.out
    saved = yaml.safe_load(Path("run/config.yaml").read_text())
    assert saved["data"]["env"]["class_path"] == "epo_lightning.envs.classic.WallMaze"
    evolution, guard = saved["trainer"]["callbacks"]
    assert evolution["class_path"] == "epo_lightning.callbacks.GeneticEvolution"
    assert evolution["init_args"]["crossover"]["class_path"] == "epo_lightning.algorithm.crossover.KPoint"
    assert guard["class_path"] == "epo_lightning.callbacks.NaNGuard"
    assert cli("fit", "--ckpt_path", "run", "--data.env", "WallMaze", "--trainer.max_epochs", 3).code == 0
    outcome = cli("fit", "--config", "tiny.yaml", "--data.env", "MountainCar", "--trainer.callbacks+", "NaNGuard")
    assert outcome.code == 0
    assert "SAPG: 4 agents, no evolution (GeneticEvolution in trainer.callbacks makes it EPO)\n" in outcome.out


def test_a_group_of_keys_may_be_a_file_or_a_mapping(cli: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    Path("loss.yaml").write_text("clip_eps: 0.5\ndual_clip: 3\n")
    Path("model.yaml").write_text("num_agents: 2\nloss: loss.yaml\n")
    Path("whole.yaml").write_text("model: model.yaml\n")
    results = [
        printed(cli, capsys, "fit", "--data.env", "Probe", *args)["model"]
        for args in (["--model", "model.yaml"], ["--config", "whole.yaml"],
                     ["--model", "{num_agents: 2, loss: {clip_eps: 0.5, dual_clip: 3}}"])
    ]  # fmt: skip
    assert results[0] == results[1] == results[2]
    assert (results[0]["num_agents"], results[0]["loss"]["dual_clip"]) == (2, 3.0)


def test_paths_begin_at_home_or_in_the_working_folder(
    cli: Cli, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    Path("folder").mkdir()
    Path("folder/paths.yaml").write_text(
        "trainer:\n  logger: {class_path: TensorBoardLogger, init_args: {save_dir: ~/logs}}\nout: films/a.mp4\n"
        "data: {env: {class_path: WorkerEnv, init_args: {factory: x, python: ~/bin/python, options: {path: [~/a]}}}}\n"
    )
    config = printed(cli, capsys, "play", "--config", "folder/paths.yaml", "--run_dir=~/run")
    assert config["trainer"]["logger"]["init_args"]["save_dir"] == "/home/somebody/logs"
    assert config["data"]["env"]["init_args"]["python"] == "/home/somebody/bin/python"
    assert config["data"]["env"]["init_args"]["options"] == {"path": ["/home/somebody/a"]}
    assert (config["out"], config["run_dir"]) == ("films/a.mp4", "/home/somebody/run")
    assert printed(cli, capsys, "play", "--data.env", "Probe", "--out=~/a.mp4")["out"] == "/home/somebody/a.mp4"


def test_the_console_script_finds_modules_of_the_working_folder(tmp_path: Path) -> None:
    script = (
        "import sys; sys.path = [p for p in sys.path if p]; from epo_lightning.cli.entry import main; sys.exit(main())"
    )
    (tmp_path / "script.py").write_text(script)
    folder = tmp_path / "work"
    folder.mkdir()
    (folder / "mine.py").write_text("from epo_lightning.envs.classic import Probe\nclass Env(Probe): ...\n")
    arguments = ["validate", "--data.env", "mine.Env", "--data.eval_episodes=2", "--trainer.accelerator=cpu"]
    command = [sys.executable, str(tmp_path / "script.py"), *arguments, "--data.eval_envs=2"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr


class NotedModule(EPOModule):
    """Remembers a setting of any type."""

    notes: ClassVar[list[Any]] = []

    def __init__(self, note: Any = None) -> None:
        super().__init__(1, NetworkSettings(gene_dim=0, hidden=(4,)))
        self.notes.append(note)


def test_texts_reach_an_algorithm_of_ones_own_as_they_are(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    path = f"{__name__}.NotedModule"
    monkeypatch.setitem(ALGORITHMS, path, path)  # for this test alone
    NotedModule.notes.clear()
    args = ("--data.env=Probe", "--data.eval_episodes=2", "--data.eval_envs=2", "--trainer.accelerator=cpu")
    for value in ('"007"', "{a: ['no', no]}"):
        assert cli("validate", *args, "--algorithm", path, "--model.note", value).code == 0
    assert NotedModule.notes == ["007", {"a": ["no", False]}]


def test_a_key_with_dots_is_the_same_key(cli: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    Path("dots.yaml").write_text(
        "data.env.class_path: WallMaze\ndata.env.init_args: {max_steps: 5}\ndata:\n  num_envs: 8\n"
        "model.loss: {clip_eps: 0.5}\n"
    )
    config = printed(cli, capsys, "fit", "--config", "dots.yaml")
    assert config["data"]["env"]["class_path"] == "epo_lightning.envs.classic.WallMaze"
    assert config["data"]["env"]["init_args"]["max_steps"] == 5
    assert (config["data"]["num_envs"], config["model"]["loss"]["clip_eps"]) == (8, 0.5)
    Path("dots.yaml").write_text("model:\n  num_agents: 2\nmodel.num_agents: 3\n")
    words = "error: config: dots.yaml, line 3: the key model.num_agents stands twice, once with dots\n"
    assert cli("fit", "--config", "dots.yaml").err == words


def test_a_key_of_another_command_says_so(cli: Cli) -> None:
    Path("film.yaml").write_text("seconds: 3\n")
    words = "error: config: film.yaml, line 1: seconds is not a key; it belongs to play\n"
    assert cli("fit", "--config", "tiny.yaml", "--config", "film.yaml").err == words
    assert cli("fit", "tiny.yaml").err == "error: fit: tiny.yaml means nothing here; settings are --config tiny.yaml\n"
