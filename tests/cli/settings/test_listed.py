"""One argument of one callback, by the name of its class: in files, as flags, over a checkpoint's."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.command_line import Cli

FILE = """\
base: wall_maze
trainer.callbacks.GeneticEvolution.num_elites: 3
trainer.callbacks.ElitePreservation.archive_size: 5
"""
EVOLUTION = "--trainer.callbacks.GeneticEvolution"


Callbacks = Callable[..., dict[str, dict[str, Any]]]


@pytest.fixture
def callbacks(cli: Cli, capsys: pytest.CaptureFixture[str]) -> Callbacks:
    """Arguments of the callbacks of a command by the names of their classes."""

    def found(*words: str | int) -> dict[str, dict[str, Any]]:
        with pytest.raises(SystemExit, match="0"):
            cli("fit", *words, "--print_config")
        listed = yaml.safe_load(capsys.readouterr().out)["trainer"]["callbacks"]
        return {each["class_path"].rpartition(".")[2]: each.get("init_args") or {} for each in listed}

    return found


def test_a_file_and_a_flag_change_one_argument_and_leave_the_rest(callbacks: Callbacks) -> None:
    Path("mine.yaml").write_text(FILE)
    before, after = callbacks("--config", "wall_maze"), callbacks("--config", "mine.yaml")
    assert [*before] == [*after]
    assert after["GeneticEvolution"] == before["GeneticEvolution"] | {"num_elites": 3}
    assert after["ElitePreservation"] == before["ElitePreservation"] | {"archive_size": 5}
    flagged = callbacks("--config", "mine.yaml", f"{EVOLUTION}.num_elites", 2, f"{EVOLUTION}.crossover=uniform")
    assert flagged["GeneticEvolution"] == before["GeneticEvolution"] | {"num_elites": 2, "crossover": "uniform"}
    assert flagged["ElitePreservation"] == after["ElitePreservation"]
    together = callbacks("--config", "wall_maze", EVOLUTION, "{num_elites: 2, mutation_sigma: 3e-1}")
    assert together["GeneticEvolution"] == before["GeneticEvolution"] | {"num_elites": 2, "mutation_sigma": 0.3}


def test_nested_in_a_file_it_is_the_same(callbacks: Callbacks) -> None:
    Path("mine.yaml").write_text("trainer: {callbacks: {GeneticEvolution: {num_elites: 3}}}\n")
    found = callbacks("--config", "wall_maze", "--config", "mine.yaml")
    assert found["GeneticEvolution"]["num_elites"] == 3
    assert {"ElitePreservation", "NaNGuard"} <= found.keys()


def test_callbacks_that_were_added_and_those_of_a_list_that_came_later(callbacks: Callbacks) -> None:
    profiler = "--trainer.callbacks.NetworkScaleProfiler.num_iterations"
    words = ("--config", "wall_maze", "--trainer.callbacks+", "NetworkScaleProfiler", profiler, 7)
    found = callbacks(*words, f"{EVOLUTION}.num_elites", 2)
    assert (found["NetworkScaleProfiler"]["num_iterations"], found["GeneticEvolution"]["num_elites"]) == (7, 2)
    last = ("--trainer.callbacks+=GeneticEvolution", "--trainer.callbacks.num_elites=1")
    found = callbacks("--config", "sapg", *last, f"{EVOLUTION}.mutation_sigma", 0.3)
    assert (found["GeneticEvolution"]["num_elites"], found["GeneticEvolution"]["mutation_sigma"]) == (1, 0.3)
    later = ("--trainer.callbacks", "[NaNGuard, GeneticEvolution]", f"{EVOLUTION}.num_elites", 1)
    found = callbacks("--config", "wall_maze", *later)
    assert [*found] == ["NaNGuard", "GeneticEvolution"]
    assert found["GeneticEvolution"]["num_elites"] == 1


def test_over_a_checkpoint_and_kept_in_the_run(cli: Cli, callbacks: Callbacks) -> None:
    small = ("--data.num_envs", 64, "--model.rollout.horizon", 4, "--run_dir", "run")
    outcome = cli("fit", "--config", "wall_maze", f"{EVOLUTION}.num_elites", 1, *small, "--trainer.max_epochs", 1)
    assert outcome.code == 0, outcome.err
    kept = yaml.safe_load(Path("run/config.yaml").read_text())["trainer"]["callbacks"][1]["init_args"]
    assert kept["num_elites"] == 1
    changed = callbacks("--ckpt_path", "run", f"{EVOLUTION}.num_elites", 2)
    assert changed["GeneticEvolution"] == kept | {"num_elites": 2}


LIST = "[{class_path: GeneticEvolution, init_args: {num_elites: 3}}, NaNGuard]"


@pytest.mark.parametrize("below", ["ours", "checkpoint"])
@pytest.mark.parametrize("given", ["file", "flag"])
def test_a_whole_list_keeps_nothing_of_the_list_before(cli: Cli, callbacks: Callbacks, below: str, given: str) -> None:
    fresh = callbacks("--config", "ppo", "--trainer.callbacks", LIST)
    words: tuple[str, ...] = ("--config", "wall_maze", "--config", below)
    if below == "checkpoint":
        small = ("--data.num_envs", 64, "--model.rollout.horizon", 4, "--run_dir", "run", "--trainer.max_epochs", 1)
        outcome = cli("fit", "--config", "two_goals_far", *small)
        assert outcome.code == 0, outcome.err
        words = ("--ckpt_path", "run")
        assert callbacks(*words)["GeneticEvolution"]["adoption_margin"] == 0.2
    Path("mine.yaml").write_text(f"trainer.callbacks: {LIST}\n")
    own = ("--config", "mine.yaml") if given == "file" else ("--trainer.callbacks", LIST)
    assert callbacks(*words, *own) == fresh
    added = callbacks(*words, *own, "--trainer.callbacks+", "PopulationDiagnostics")
    assert added == fresh | {"PopulationDiagnostics": added["PopulationDiagnostics"]}


def test_loggers_alike(cli: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    first = "[{class_path: CSVLogger, init_args: {save_dir: logs, name: mine}}]"
    Path("first.yaml").write_text(f"base: wall_maze\ntrainer.logger: {first}\n")
    second = ("--trainer.logger", "[{class_path: CSVLogger, init_args: {save_dir: there}}]")
    with pytest.raises(SystemExit, match="0"):
        cli("fit", "--config", "first.yaml", *second, "--print_config")
    (logger,) = yaml.safe_load(capsys.readouterr().out)["trainer"]["logger"]
    assert (logger["init_args"]["save_dir"], logger["init_args"]["name"]) == ("there", "lightning_logs")


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("--trainer.callbacks.VideoRecorder.num_envs=2",), "trainer.callbacks.VideoRecorder: there is none in this"),
        ((f"{EVOLUTION}=2",), "trainer.callbacks.GeneticEvolution needs the name of an argument behind the class"),
        ((f"{EVOLUTION}.num_elite=2",), "trainer.callbacks: GeneticEvolution has no argument num_elite (did you mean"),
        ((f"{EVOLUTION}.num_elites=two",), "trainer.callbacks GeneticEvolution.num_elites must be an integer; got two"),
        (("--config", "mine.yaml"), "config: mine.yaml, line 1: trainer.callbacks.Wrong: there is none in this conf"),
    ],
)
def test_what_is_not_there_is_one_line(cli: Cli, words: tuple[str, ...], line: str) -> None:
    Path("mine.yaml").write_text("trainer.callbacks.Wrong.x: 1\n")
    outcome = cli("fit", "--config", "wall_maze", *words)
    assert outcome.code == 2
    assert outcome.err.startswith(f"error: {line}"), outcome.err
