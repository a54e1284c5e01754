"""Runs of a study without a training: `python -m tests.support.fake_runs OUT RUNS JOBS` drives some of them.

A fake run counts to its number of iterations, a row of `metrics.csv` each, saves where it is, answers SIGTERM as a
training does, and goes on from there. What its configuration says decides how it goes.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from epo_lightning.sweep.driver import Driver
from epo_lightning.sweep.plan import ListPlan
from epo_lightning.sweep.progress import Screen
from epo_lightning.sweep.runs import StudyRun

SCRIPT = """
import pathlib, signal, sys, time
run, total, seconds, value, end = pathlib.Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), *sys.argv[4:]
stopped = []
signal.signal(signal.SIGTERM, lambda number, frame: stopped.append(number))
last = run / "checkpoints" / "last.ckpt"
last.parent.mkdir(parents=True, exist_ok=True)
(run / "config.yaml").write_text("")
start = int(last.read_text()) if last.exists() else 0
print("from", start, flush=True)
table = run / "metrics.csv"
if not table.exists():
    table.write_text("charts/env_steps,charts/iteration,score\\n")
for iteration in range(start + 1, total + 1):
    with table.open("a") as file:
        file.write(f"{10 * iteration},{iteration},{eval(value, {'i': iteration})}\\n")
    last.write_text(str(iteration))
    time.sleep(seconds)
    if stopped:
        sys.exit(143)
    if iteration == total // 2 and end != "well":
        print("iteration", iteration)
        print("error: " + end)
        sys.exit(2) if end != "killed" else signal.raise_signal(signal.SIGKILL)
"""


class FakeRun(StudyRun):
    """Its configuration: `seconds` of an iteration, `value` (of i), `end` (`well`, `killed` or what is wrong)."""

    @property
    def training(self) -> list[str]:
        """Count."""
        said: dict[str, Any] = yaml.safe_load(self.config.read_text())
        its = [said.get("seconds", 0), said.get("value", "i"), said.get("end", "well")]
        return [sys.executable, "-c", SCRIPT, str(self.run.path), str(self.iterations), *map(str, its)]


def make_run(folder: Path, seed: int = 0, iterations: int = 10, **said: object) -> FakeRun:
    """A fake run whose configuration lies there."""
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "method.yaml"
    config.write_text(yaml.safe_dump(said))
    return FakeRun(folder.name, folder, seed, iterations, config, None)


class _Screen(Screen):
    def __init__(self, told: Callable[[str], object], shown: Callable[[str], object]) -> None:
        super().__init__()
        self._told, self._also_shown = told, shown

    def say(self, line: str) -> None:
        self._told(line)

    def show(self, line: str, *, is_news: bool = False) -> None:
        self._also_shown(line)


def drive(
    runs: list[FakeRun], jobs: int = 2, told: Callable[[str], object] = print, shown: Callable[[str], object] = str
) -> Driver:
    """Carry out all of them; `told` gets the lines that stay, `shown` those of the progress."""
    driver = Driver(ListPlan(runs), jobs, 1, _Screen(told, shown))
    driver.drive()
    return driver


if __name__ == "__main__":
    slow = [make_run(Path(sys.argv[1]) / "slow", seed, 400, seconds=0.05) for seed in range(int(sys.argv[2]))]
    sys.exit(128 + drive(slow, int(sys.argv[3]), lambda line: print(line, flush=True)).signal)
