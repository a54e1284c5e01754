"""`COMMAND --help` shows our keys with defaults and ranges, and what the package has, in 80 columns."""

import re

import pytest

from epo_lightning.cli.settings.own_classes import CALLBACKS, ENVIRONMENTS
from epo_lightning.cli.settings.ranges import ranges_of
from epo_lightning.modules import ALGORITHMS, algorithm_class
from tests.support.command_line import Cli


@pytest.fixture
def shown(cli: Cli, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> "Shown":
    monkeypatch.setenv("COLUMNS", "80")
    return Shown(cli, capsys)


class Shown:
    """What help prints, for 80 columns."""

    def __init__(self, cli: Cli, capsys: pytest.CaptureFixture[str]) -> None:
        self.cli, self.capsys = cli, capsys

    def __call__(self, *args: str) -> str:
        with pytest.raises(SystemExit) as end:
            self.cli(*args)
        assert end.value.code == 0
        return self.capsys.readouterr().out


def about(text: str, key: str) -> str:
    """What help says of a key, in one line."""
    (found,) = re.findall(rf"^  --{re.escape(key)} .*\n(?:   .*\n?)*", text, re.MULTILINE)
    return " ".join(found.split())


@pytest.mark.parametrize("algorithm", [*ALGORITHMS])
def test_the_ranges_are_those_that_are_checked(shown: Shown, algorithm: str) -> None:
    text = shown("fit", "--algorithm", algorithm, "--help")
    ranges = ranges_of(algorithm_class(algorithm))
    assert len(ranges) > 25
    for key, words in ranges.items():
        assert words in about(text, key)


@pytest.mark.parametrize("key", ["model.loss.clip_eps", "model.loss.dual_clip", "model.rollout.gamma", "data.num_envs"])
def test_a_value_outside_is_refused_in_the_words_of_the_help(shown: Shown, key: str) -> None:
    words = ranges_of(algorithm_class("epo"))[key]
    assert words in about(shown("fit", "--help"), key)
    refusal = shown.cli("fit", "--config", "tiny.yaml", f"--{key}", "-1").err
    assert refusal.startswith(f"error: {key} must be {words}, got -1")


@pytest.mark.parametrize("command", ["fit", "validate", "test", "play", "view", "export"])
def test_it_fits_80_columns(shown: Shown, command: str) -> None:
    text = shown(command, "--help")
    assert max(map(len, text.splitlines())) <= 80
    assert text.startswith(f"usage: epo-lightning {command} ")


def test_it_shows_our_classes_and_no_others(shown: Shown) -> None:
    text = shown("fit", "--help")
    for name in [*CALLBACKS, *ENVIRONMENTS]:
        (line,) = re.findall(rf"^  {name}(?:  |\n) *(\S.*)$", text, re.MULTILINE)
        assert len(line) > 20
    assert "known subclasses" not in text
    assert "LearningRateMonitor" not in text
    assert "--trainer.detect_anomaly" not in text
    assert "--trainer.detect_anomaly" in shown("fit", "--help=all")


def test_it_tells_of_one_key_or_of_all_below_it(shown: Shown) -> None:
    assert re.findall(r"--(\S+)", shown("fit", "--model.loss.clip_eps.help")) == ["model.loss.clip_eps"]
    keys = re.findall(r"^  --(\S+)", shown("fit", "--model.loss.help"), re.MULTILINE)
    assert len(keys) > 5
    assert all(key.startswith("model.loss.") for key in keys)
    assert "--trainer.detect_anomaly" in shown("fit", "--trainer.help")
    assert "WallMaze" in shown("fit", "--data.env.help")


def test_it_tells_of_a_class(shown: Shown) -> None:
    text = shown("fit", "--data.env.help", "WallMaze")
    assert text.startswith("epo_lightning.envs.classic.WallMaze: ")
    assert "greater than 0, default: 0.1" in about(text, "data.env.speed")
    assert "num_envs" not in text
    assert "num_elites" in shown("fit", "--trainer.callbacks.help=GeneticEvolution")
    assert "save_dir" in shown("fit", "--trainer.logger.help", "TensorBoardLogger")
    assert max(map(len, text.splitlines())) <= 80


def test_what_there_is_no_help_for_is_one_line(cli: Cli) -> None:
    for args, words in {
        ("--data.env.help", "WallMase"): "data.env: there is no class WallMase (did you mean WallMaze?)",
        ("--help=model",): "--help=model: it is --help, --help=all for all keys, or --KEY.help",
        ("--modl.help",): "fit: --modl.help is not a flag (did you mean --model.help?)",
    }.items():
        outcome = cli("fit", *args)
        assert (outcome.code, outcome.err) == (2, f"error: {words}\n")
