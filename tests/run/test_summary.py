"""What came of a run: told in 80 columns and as JSON, and finished, stopped, interrupted and failed are told apart."""

import json
from pathlib import Path
from typing import Any

import pytest

from epo_lightning.envs.base import StepResult
from epo_lightning.envs.classic import Probe
from epo_lightning.run.folder import RunFolder
from epo_lightning.run.summary import Ending, RunSummary, Score, duration, last_row, score_of
from tests.support.command_line import Cli

NAMES = ("charts/iteration", "charts/env_steps", "charts/episodic_return", "charts/episodic_successes")
ROWS = [dict(zip(NAMES, row, strict=True)) for row in (("1", "64", "", "0"), ("2", "128", "-3", "0.5"))]


def summary(**changes: Any) -> RunSummary:
    told: dict[str, Any] = {
        "ending": Ending("interrupted", "SIGTERM"), "algorithm": "epo", "task": "WallMaze", "agents": 16, "envs": 2048,
        "device": "cpu", "seconds": 125.0, "continuations": 1, "env_steps": 1_000_000, "iterations": 40,
        "best": Score(38, 12.345678, 0.9, "checkpoints/best.ckpt"), "last": Score(40, 1.5, None, None),
        "folder": "runs/a", "files": ["config.yaml", "metrics.csv"], "commands": {"Continue": "fit", "Evaluate": "val"},
    }  # fmt: skip
    return RunSummary(**(told | changes))


def test_a_summary_as_text() -> None:
    assert summary().as_text().splitlines() == [
        "Interrupted (SIGTERM)",
        "  run       WallMaze by epo, 16 agents, 2,048 envs, cpu",
        "  took      2 min 5 s, continued 1 time; 1,000,000 env steps in 40 iterations,",
        "            8,000/s",
        "  best      return 12.35, successes 0.9, iteration 38: checkpoints/best.ckpt",
        "  last      return 1.5, successes -, iteration 40",
        "  folder    runs/a",
        "  files     config.yaml, metrics.csv",
        "Continue:  fit",
        "Evaluate:  val",
    ]


def test_a_long_summary_has_80_columns() -> None:
    long = summary(
        ending=Ending("failed", "a word " * 40), files=[f"file{n}.csv" for n in range(40)], best=None, coverage=0.25
    )
    assert max(map(len, long.as_text().splitlines())) <= 80
    assert "  best      - (charts/episodic_coverage 0.25 below 1: no score yet)" in long.as_text()
    told = " ".join(long.as_text().split())
    assert "iteration 40 (charts/episodic_coverage 0.25 below 1: no score)" in told  # a master that took over just now
    assert "no score" not in summary().as_text()


def test_a_summary_as_json(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    summary().write(folder)
    told = json.loads(folder.summary.read_text())
    assert (told["status"], told["why"], told["env_steps_per_second"]) == ("interrupted", "SIGTERM", 8000.0)
    best = {"iteration": 38, "return": 12.345678, "successes": 0.9, "file": "checkpoints/best.ckpt"}
    assert told["best"] == best
    assert told["last"] == {"iteration": 40, "return": 1.5, "successes": None, "file": None}
    assert told["commands"] == {"continue": "fit", "evaluate": "val"}
    assert folder.summary_text.read_text() == summary().as_text() + "\n"


def test_scores_come_from_the_table() -> None:
    assert score_of(ROWS, 2, "a") == Score(2, -3.0, 0.5, "a")
    assert score_of(ROWS, 1, None) == Score(1, None, 0.0, None)
    assert score_of(ROWS[:1], 1, None) == Score(1, None, None, None), "a task without successes"
    assert score_of(ROWS, 9, None) == Score(9, None, None, None)
    assert last_row(ROWS) == (2, 128)
    assert last_row([]) is None


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.25, "0.2 s"), (59.5, "59.5 s"), (60, "1 min 0 s"), (3599, "59 min 59 s"), (3600, "1 h 0 min"),
     (90_000, "1 d 1 h")],
)  # fmt: skip
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


class Breaking(Probe):
    """Fails after six steps, in the second iteration."""

    steps = 0

    def step(self, actions: Any) -> StepResult:  # noqa: ANN401
        Breaking.steps += 1
        if Breaking.steps > 6:
            raise ValueError("the arm\nbroke")
        return super().step(actions)


def told(folder: str = "run") -> dict[str, Any]:
    content: dict[str, Any] = json.loads(Path(folder, "summary.json").read_text())
    return content


def test_how_a_run_ended(cli: Cli) -> None:
    command = ("fit", "--config", "tiny.yaml", "--run_dir", "run")
    outcome = cli(*command)
    assert (told()["status"], told()["why"], told()["iterations"], told()["env_steps"]) == ("finished", None, 2, 128)
    assert told()["commands"]["continue"].endswith("last.ckpt --trainer.max_epochs 4")
    assert Path("run/summary.txt").read_text() in outcome.out
    assert f"  best      return {told()['best']['return']:.4g}, successes -, " in outcome.out
    before = Path("run/summary.json").read_bytes()
    assert "Nothing to do" in cli("fit", "--ckpt_path", "run").out
    assert Path("run/summary.json").read_bytes() == before

    cli("fit", "--ckpt_path", "run", "--trainer.max_epochs=-1", "--trainer.max_time=00:00:00:01")
    assert (told()["status"], told()["why"], told()["continuations"]) == ("stopped", "trainer.max_time", 1)
    done = told()["iterations"]
    assert done > 2
    assert told()["last"]["file"] == "checkpoints/last.ckpt"

    (Path("run/summary.json")).unlink()
    cli("fit", "--ckpt_path", "run", f"--trainer.max_epochs={done}")
    assert told()["status"] == "finished", "a run that was killed between its end and its summary"


def test_a_run_that_fails_says_why(cli: Cli) -> None:
    Breaking.steps = 0
    with pytest.raises(ValueError, match="broke"):
        cli("fit", "--config", "tiny.yaml", "--run_dir", "run", "--data.env", f"{__name__}.Breaking",
            "--checkpoint.every_n_iterations=1")  # fmt: skip
    assert (told()["status"], told()["why"], told()["iterations"]) == ("failed", "the arm broke", 1)
    assert told()["commands"]["continue"].endswith("--ckpt_path run/checkpoints/last.ckpt")
