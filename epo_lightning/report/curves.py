"""Curves of several runs on one axis: their mean, its interval, and every run thinned to what can be seen."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from epo_lightning.report.reading import Run
from epo_lightning.report.statistics import Array, mean_band

_POINTS = 150
"""Points of a mean curve, and most points of a run's."""

Axis = Callable[[Run], Array]


def env_steps(run: Run) -> Array:
    """(T,) the axis of experience."""
    return run.env_steps


def time_axis(runs: Sequence[Run]) -> tuple[str, Axis]:
    """The axis of time, what was spent in iterations, and its name: in a unit that suits these runs."""
    longest = max(float(np.nan_to_num(run.seconds[-1])) for run in runs)
    size, unit = (3600, "hours") if longest > 7200 else (60, "minutes") if longest > 120 else (1, "seconds")
    return f"{unit} in iterations", lambda run: run.seconds / size


class Line(NamedTuple):
    """Points (G,) of a curve."""

    x: Array
    y: Array


class Curve(NamedTuple):
    """A metric of some runs.

    Attributes:
        runs: Each run's line, thinned.
        mean: Where all of the runs are known, so that it never jumps when one ends; None where they do not overlap.
        low: (G,) of the bootstrap interval of the mean; None of a single run.
        high: (G,).
    """

    runs: list[Line]
    mean: Line | None
    low: Array | None
    high: Array | None


def line_of(run: Run, metric: str, axis: Axis = env_steps) -> Line | None:
    """A run's metric where it is known, or None."""
    y = run.metrics.get(metric)
    if y is None:
        return None
    x = axis(run)
    known = ~(np.isnan(x) | np.isnan(y))
    return Line(x[known], y[known]) if known.any() else None


def curve_of(runs: Sequence[Run], metric: str, axis: Axis = env_steps) -> Curve | None:
    """A metric of several runs, or None where no run has it; who does not have it is left out."""
    lines = [line for line in (line_of(run, metric, axis) for run in runs) if line is not None]
    return join(lines) if lines else None


def join(lines: Sequence[Line]) -> Curve:
    """Lines and their mean on a grid over the part that all of them cover, linear between their points."""
    thin = [thinned(line) for line in lines]
    start, end = max(line.x[0] for line in lines), min(line.x[-1] for line in lines)
    if end < start:
        return Curve(thin, None, None, None)
    grid = np.linspace(start, end, _POINTS) if end > start else np.array([start])
    values = np.stack([np.interp(grid, line.x, line.y) for line in lines])  # (R, G)
    low, high = mean_band(values) if len(lines) > 1 else (None, None)
    return Curve(thin, Line(grid, values.mean(0)), low, high)


def thinned(line: Line, most: int = _POINTS) -> Line:
    """At most that many of the points, evenly, with the first and the last."""
    if len(line.x) <= most:
        return line
    kept = np.linspace(0, len(line.x) - 1, most).round().astype(int)
    return Line(line.x[kept], line.y[kept])
