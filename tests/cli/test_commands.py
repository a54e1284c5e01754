"""The table of commands: one row and one file make a command."""

import subprocess
import sys
from pathlib import Path

import pytest

from epo_lightning.cli.commands import COMMANDS, Command, RunCommand
from epo_lightning.cli.invocation import Invocation
from tests.support.command_line import Cli

ROOT = Path(__file__).parents[2]


def count(args: list[str]) -> int:
    """A command without a configuration."""
    print(f"{len(args)} arguments")
    return 3


def tell(run: Invocation, words: str = "nothing", times: int = 1) -> int:
    """Tell something.

    Args:
        run: What the command line means.
        words: What is told.
        times: How often.
    """
    print(*[f"{words} of {run.model.num_agents} agents in {run.datamodule.num_envs} envs"] * times, sep="\n")
    return 4


def test_a_row_and_a_function_are_a_command(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(COMMANDS, "count", Command("Count.", f"{__name__}:count"))
    outcome = cli("count", "--config", "nowhere", "-x")
    assert (outcome.code, outcome.out) == (3, "3 arguments\n")
    assert "\n  count       Count.\n" in cli("--help").out + "\n"


def test_a_command_of_a_run_gets_what_the_configuration_says_and_its_own_flags(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(COMMANDS, "tell", RunCommand("Tell.", f"{__name__}:tell"))
    outcome = cli("tell", "--config", "tiny.yaml", "--times", "2", "--words=much", "--data.num_envs=8")
    assert (outcome.code, outcome.out) == (4, "much of 4 agents in 8 envs\n" * 2)
    assert not list(Path().glob("runs*"))
    with pytest.raises(SystemExit):
        cli("tell", "--help")
    text = capsys.readouterr().out
    assert text.startswith("usage: epo-lightning tell ")
    assert "Tell something:\n  --words WORDS         What is told. (type: str, default: nothing)\n" in text


@pytest.mark.parametrize("args", [[], ["--help"], ["-h"]])
def test_the_overview_has_a_line_for_every_command(cli: Cli, args: list[str]) -> None:
    outcome = cli(*args)
    assert outcome.code == 0
    lines = outcome.out.splitlines()
    for name, command in COMMANDS.items():
        assert f"  {name:12}{command.help}" in lines
    assert max(map(len, lines)) <= 90


@pytest.mark.parametrize(("first", "hint"), [("fitt", " (did you mean fit?)"), ("--config", "")])
def test_another_first_word_is_one_line(cli: Cli, first: str, hint: str) -> None:
    outcome = cli(first, "fit")
    assert outcome.code == 2
    assert outcome.err == (
        f"error: {first} is not a command{hint}; the first word must be one of: fit, validate, test, play, view,"
        " export, pretrained, report, sweep, doctor\n"
    )


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_an_overview_loads_nothing_heavy(option: str) -> None:
    heavy = "torch lightning jsonargparse mujoco numpy"
    code = (
        f"import sys; from epo_lightning.cli.entry import main; main(['{option}'])\n"
        f"print([name for name in '{heavy}'.split() if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"
