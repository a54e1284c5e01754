"""How soon a method is good: area under its learning curve, and what it takes until its master succeeds so often."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from epo_lightning.report.curves import Line, line_of
from epo_lightning.report.grouping import Group
from epo_lightning.report.reading import RETURN, SUCCESSES, Run
from epo_lightning.report.statistics import Array

LEVELS = (0.5, 0.9)
"""Successes an episode of the master in training, at which env steps and seconds are told."""


class Reached(NamedTuple):
    """When runs first had so many successes an episode.

    Attributes:
        level: How many.
        env_steps: (R,) infinite for a run that never had.
        seconds: (R,) spent in iterations until then; NaN where a run does not tell.
    """

    level: float
    env_steps: Array
    seconds: Array

    @property
    def never(self) -> int:
        """How many runs never had."""
        return int(np.isinf(self.env_steps).sum())

    @property
    def median_env_steps(self) -> float:
        """Of all runs; infinite where half of them, or more, never had."""
        return float(np.median(self.env_steps))

    @property
    def median_seconds(self) -> float:
        """As the env steps."""
        return float(np.median(self.seconds))


class Efficiency(NamedTuple):
    """Of a method on a task.

    Attributes:
        start: From how many env steps on all runs of the task have returns.
        end: Until when.
        returns: (R,) mean over these env steps of a run's return while it explores; NaN where there are none.
        successes: (R,) the same of successes, NaN where a run does not tell; None where the task counts none.
        reached: By level; empty where the task counts no successes, or a run does not tell.
    """

    start: float
    end: float
    returns: Array
    successes: Array | None
    reached: tuple[Reached, ...]


def efficiencies(groups: Sequence[Group]) -> list[Efficiency]:
    """Of all methods of a task, over the env steps that all of their runs cover."""
    runs = [run for one in groups for run in one.runs]
    lines = [line for run in runs if (line := line_of(run, RETURN)) is not None]
    start, end = max(float(line.x[0]) for line in lines), min(float(line.x[-1]) for line in lines)
    counted = any(run.succeeds for run in runs)
    found = []
    for one in groups:
        tells = all(line_of(run, SUCCESSES) is not None for run in one.runs)
        found.append(
            Efficiency(
                start,
                end,
                _areas(one.runs, RETURN, start, end),
                _areas(one.runs, SUCCESSES, start, end) if counted else None,
                tuple(_reached(one.runs, level) for level in LEVELS) if counted and tells else (),
            )
        )
    return found


def height(line: Line, start: float, end: float) -> float:
    """The mean of a curve between two places, linear between its points; NaN where it does not cover them.

    The area under it, divided by `end - start`:

        1 / (x_n - x_0) * sum_i (x_{i+1} - x_i) * (y_i + y_{i+1}) / 2
    """
    if not (line.x[0] <= start < end <= line.x[-1]):
        return math.nan
    inside = (line.x > start) & (line.x < end)
    x = np.concatenate([[start], line.x[inside], [end]])
    y = np.interp(x, line.x, line.y)
    return float((np.diff(x) * (y[1:] + y[:-1]) / 2).sum() / (end - start))


def _areas(runs: Sequence[Run], metric: str, start: float, end: float) -> Array:
    lines = [line_of(run, metric) for run in runs]
    return np.array([math.nan if line is None else height(line, start, end) for line in lines])


def _reached(runs: Sequence[Run], level: float) -> Reached:
    env_steps, seconds = np.full(len(runs), np.inf), np.full(len(runs), np.inf)
    for place, run in enumerate(runs):
        high = np.flatnonzero(np.nan_to_num(run.metrics[SUCCESSES]) >= level)
        if len(high):
            env_steps[place], seconds[place] = run.env_steps[high[0]], run.seconds[high[0]]
    return Reached(level, env_steps, seconds)
