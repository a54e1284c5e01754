"""What came of a run, when it ends: `summary.txt` for people, `summary.json` for programs.

A run without them is still going on, or was killed.
"""

import json
import os
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from epo_lightning.run.columns import ITERATION, STEP
from epo_lightning.run.folder import RunFolder, part_of, writing
from epo_lightning.run.history import now

LAYOUT = 1
_WIDTH = 80
_INDENT = 12
_RETURN, _SUCCESSES = "charts/episodic_return", "charts/episodic_successes"


@dataclass(frozen=True)
class Ending:
    """How a training ended.

    Attributes:
        status: `finished`, `stopped` (by a time limit or a callback), `interrupted` (by a signal) or `failed`.
        why: The signal, or the error in one line; empty where the status says it all.
    """

    status: str
    why: str = ""


@dataclass(frozen=True)
class Score:
    """What the master was worth at the end of an iteration; None for what is not known.

    Attributes:
        iteration: Counted from 1.
        episodic_return: Of the run's own measure, while it explores.
        successes: The same; None where no episode of the run ever had one.
        file: Its checkpoint, relative to the run folder; None where there is none.
    """

    iteration: int
    episodic_return: float | None
    successes: float | None
    file: str | None


@dataclass(frozen=True)
class RunSummary:
    """What came of a run.

    Attributes:
        ending: How it ended.
        algorithm: What trained.
        task: In which task.
        agents: How many.
        envs: How many, of all ranks.
        device: The kind.
        seconds: How long it trained, over all continuations.
        continuations: How often it was continued.
        env_steps: How many were made.
        iterations: How many were made.
        best: The iteration with the highest return; None where there was no score.
        last: The last iteration; None where none ended.
        folder: The run folder.
        files: What is in there.
        commands: How to go on: a command for each purpose.
        coverage: Share of the master's environments whose return is known, of which a score needs all.
    """

    ending: Ending
    algorithm: str
    task: str
    agents: int
    envs: int
    device: str
    seconds: float
    continuations: int
    env_steps: int
    iterations: int
    best: Score | None
    last: Score | None
    folder: str
    files: Sequence[str]
    commands: Mapping[str, str]
    coverage: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        told = {key: value for key, value in asdict(self).items() if key not in ("ending", "best", "last", "commands")}
        return {
            "layout": LAYOUT,
            "status": self.ending.status,
            "why": self.ending.why or None,
            "ended": now(),
            **told,
            "env_steps_per_second": self.env_steps / self.seconds if self.seconds > 0 else None,
            "best": _as_dict(self.best),
            "last": _as_dict(self.last),
            "commands": {purpose.lower(): command for purpose, command in self.commands.items()},
        }

    def as_text(self) -> str:
        """Lines for a terminal of 80 columns; a path and a command stay whole."""
        why = f" ({self.ending.why})" if self.ending.why else ""
        kinds = [f"{self.agents} agent{'s' * (self.agents != 1)}", f"{self.envs:,} envs", self.device]
        times = f"{self.continuations} time{'s' * (self.continuations != 1)}"
        steps = f"{self.env_steps:,} env steps in {self.iterations:,} iterations"
        again = f", continued {times}" if self.continuations else ""
        rate = f", {self.env_steps / self.seconds:,.0f}/s" if self.seconds > 0 else ""
        covered = f"charts/episodic_coverage {self.coverage or 0:g} below 1"
        is_score = self.coverage is None or self.coverage >= 1
        rows = {
            "run": f"{self.task} by {self.algorithm}, {', '.join(kinds)}",
            "took": f"{duration(self.seconds)}{again}; {steps}{rate}",
            "best": _tell(self.best) if self.best else f"- ({covered}: no score yet)",
            "last": f"{_tell(self.last)}{'' if is_score else f' ({covered}: no score)'}",
            "folder": self.folder,
            "files": ", ".join(self.files),
        }  # fmt: skip
        lines = [*_wrap(f"{self.ending.status.capitalize()}{why}", "")]
        for name, text in rows.items():
            lines += _wrap(text, f"  {name}")
        lines += [f"{f'{purpose}:':11}{command}" for purpose, command in self.commands.items()]
        return "\n".join(lines)

    def write(self, folder: RunFolder) -> None:
        """Replace both files, each in one step."""
        texts = {
            folder.summary_text: self.as_text() + "\n",
            folder.summary: json.dumps(self.as_dict(), indent=2) + "\n",
        }
        for path, text in texts.items():
            with writing(path):
                part_of(path).write_text(text, encoding="utf-8")
                os.replace(part_of(path), path)


def score_of(rows: Sequence[Mapping[str, str]], iteration: int, file: str | None) -> Score:
    """What `metrics.csv` says of an iteration.

    Args:
        rows: All of it.
        iteration: Counted from 1.
        file: Its checkpoint.
    """
    row = next((row for row in rows if row.get(ITERATION) == str(iteration)), {})
    succeeds = any((_number(each, _SUCCESSES) or 0.0) > 0 for each in rows)
    return Score(iteration, _number(row, _RETURN), _number(row, _SUCCESSES) if succeeds else None, file)


def coverage_of(rows: Sequence[Mapping[str, str]]) -> float | None:
    """Of the last iteration."""
    return _number(rows[-1], "charts/episodic_coverage") if rows else None


def last_row(rows: Sequence[Mapping[str, str]]) -> tuple[int, int] | None:
    """Iterations and env steps of the last row; None where there is none."""
    iteration, step = (_number(rows[-1], name) for name in (ITERATION, STEP)) if rows else (None, None)
    return None if iteration is None or step is None else (int(iteration), int(step))


def duration(seconds: float) -> str:
    """Hours, minutes and seconds, the two largest."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 24 else f"{hours // 24} d {hours % 24} h"


def _as_dict(score: Score | None) -> dict[str, Any] | None:
    if score is None:
        return None
    worth = {"return": score.episodic_return, "successes": score.successes}
    return {"iteration": score.iteration, **worth, "file": score.file}


def _tell(score: Score | None) -> str:
    if score is None:
        return "-"
    values = f"return {_dash(score.episodic_return)}, successes {_dash(score.successes)}"
    return f"{values}, iteration {score.iteration:,}" + (f": {score.file}" if score.file else "")


def _dash(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _wrap(text: str, name: str) -> list[str]:
    return textwrap.wrap(
        text, _WIDTH, initial_indent=f"{name:{_INDENT}}" if name else "", subsequent_indent=" " * _INDENT,
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip


def _number(row: Mapping[str, str], name: str) -> float | None:
    """A cell; None where it is empty or no number."""
    try:
        return float(row.get(name) or "")
    except ValueError:
        return None
