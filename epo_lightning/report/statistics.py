"""Statistics of a few runs: means, the interquartile mean, the probability of improvement, profiles, their intervals.

Interquartile mean, probability of improvement, performance profile and the stratified bootstrap are those of Agarwal
et al. 2021, "Deep reinforcement learning at the edge of the statistical precipice" (NeurIPS). A stratum is a task: runs
are drawn again within each task, never across.

Shape legend: R runs of a task, S runs of another method, B resamples, G points of a curve.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

RESAMPLES = 2000
_TAIL = 2.5
"""Percent on either side of a 95 % interval."""
_T975 = [12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131]
_T975 += [2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042]
"""97.5 % quantiles of Student's t, from 1 degree of freedom on."""


class Interval(NamedTuple):
    """A 95 % interval; infinite where a single run says nothing."""

    low: float
    high: float

    def overlaps(self, other: "Interval") -> bool:
        """Whether both have a value in common."""
        return self.low <= other.high and other.low <= self.high


class Mean(NamedTuple):
    """A mean over runs.

    Attributes:
        value: The mean.
        standard_error: s / sqrt(R); NaN of a single run.
        interval: Student's: value +- t * standard error.
        runs: R.
    """

    value: float
    standard_error: float
    interval: Interval
    runs: int


def mean(values: Sequence[float] | Array) -> Mean:
    """Mean, standard error and Student's 95 % interval of values (R,).

    With few runs a bootstrap of the mean is far too narrow (of two it has three different resamples), so whether two
    methods tie is decided by Student's t.
    """
    x = np.asarray(values, dtype=np.float64)
    if len(x) < 2:
        return Mean(float(x.mean()), math.nan, Interval(-math.inf, math.inf), len(x))
    error = float(x.std(ddof=1)) / math.sqrt(len(x))
    freedom = len(x) - 1
    quantile = _T975[freedom - 1] if freedom <= len(_T975) else 1.96 + 2.4 / freedom
    value = float(x.mean())
    return Mean(value, error, Interval(value - quantile * error, value + quantile * error), len(x))


def interquartile_mean(values: Array) -> Array:
    """Mean of the middle half along the last axis (..., R) -> (...).

    Of R sorted values the lowest and the highest floor(R / 4) are left out:

        IQM(x) = 1 / (R - 2 k) * sum_{i = k + 1}^{R - k} x_(i),  k = floor(R / 4)
    """
    x = np.sort(np.asarray(values, dtype=np.float64), axis=-1)
    cut = x.shape[-1] // 4
    middle: Array = x[..., cut : x.shape[-1] - cut].mean(axis=-1)
    return middle


def probability_of_improvement(first: Array, second: Array) -> Array:
    """How likely a run of `first` (..., R) beats one of `second` (..., S) -> (...); ties count half.

    P(X > Y) = 1 / (R S) * sum_i sum_j S(x_i, y_j) with S = 1 if x_i > y_j, 1/2 if equal, else 0: the Mann-Whitney U
    statistic divided by R S.
    """
    x, y = np.asarray(first, dtype=np.float64)[..., :, None], np.asarray(second, dtype=np.float64)[..., None, :]
    result: Array = ((x > y) + 0.5 * (x == y)).mean(axis=(-2, -1))
    return result


def bootstrap(statistic: Callable[..., Any], *strata: Sequence[Array], resamples: int = RESAMPLES) -> Interval:
    """Percentile interval of the mean over strata of a statistic, runs drawn again with replacement within each.

    Args:
        statistic: As many arrays (B, R) as `strata` has -> (B,).
        strata: For each argument of the statistic its values (R,) in every stratum, in the same order.
        resamples: B.

    Returns:
        Infinite where some stratum has one run only: drawing it again tells nothing.
    """
    if any(len(values) < 2 for argument in strata for values in argument):
        return Interval(-math.inf, math.inf)
    generator = np.random.default_rng(0)  # the same runs give the same page
    totals = np.zeros(resamples)
    for arguments in zip(*strata, strict=True):
        drawn = [np.asarray(x)[generator.integers(len(x), size=(resamples, len(x)))] for x in arguments]
        totals += statistic(*drawn) / len(strata[0])
    return Interval(*(float(value) for value in np.percentile(totals, [_TAIL, 100 - _TAIL])))


def normalized(strata: Sequence[Array], others: Sequence[Sequence[Array]]) -> list[Array]:
    """Scores (R,) of each task on the scale from the lowest (0) to the highest (1) run of that task.

    Args:
        strata: A method's.
        others: Those of all methods, this one among them: of each its scores in the same tasks.
    """
    scaled = []
    for scores, rest in zip(strata, zip(*others, strict=True), strict=True):
        low, high = (float(pick(np.concatenate(rest))) for pick in (np.min, np.max))
        scaled.append((scores - low) / (high - low) if high > low else np.full_like(scores, 0.5))
    return scaled


def pooled_interquartile_mean(strata: Sequence[Array]) -> tuple[float, Interval]:
    """Of the runs of all tasks together, and its stratified bootstrap interval."""
    value = float(interquartile_mean(np.concatenate(strata)))
    if any(len(scores) < 2 for scores in strata):
        return value, Interval(-math.inf, math.inf)
    low, high = np.percentile(interquartile_mean(np.concatenate(_resampled(strata), axis=-1)), [_TAIL, 100 - _TAIL])
    return value, Interval(float(low), float(high))


class Profile(NamedTuple):
    """Which share of the runs scores more than each of G values; `low` and `high` are None where a task has one run."""

    scores: Array
    shares: Array
    low: Array | None
    high: Array | None


def performance_profile(strata: Sequence[Array], scores: Array) -> Profile:
    """F(tau) = 1 / M * sum over M tasks of 1 / R * #{runs whose score > tau}, at tau = `scores` (G,)."""
    shares = np.mean([_shares(values, scores) for values in strata], axis=0)
    if any(len(values) < 2 for values in strata):
        return Profile(scores, shares, None, None)
    drawn = np.mean([_shares(values, scores) for values in _resampled(strata)], axis=0)  # (B, G)
    low, high = np.percentile(drawn, [_TAIL, 100 - _TAIL], axis=0)
    return Profile(scores, shares, low, high)


def _shares(values: Array, scores: Array) -> Array:
    """(..., G) share of the values (..., R) above each score."""
    return np.stack([(values > score).mean(-1) for score in scores], axis=-1)


def _resampled(strata: Sequence[Array]) -> list[Array]:
    """(B, R) of each task: its runs, drawn again with replacement."""
    generator = np.random.default_rng(0)  # the same runs give the same page
    return [values[generator.integers(len(values), size=(RESAMPLES, len(values)))] for values in strata]


def mean_band(curves: Array, resamples: int = RESAMPLES) -> tuple[Array, Array]:
    """Bootstrap interval of the mean curve over runs (R, G) -> low and high (G,); a run is drawn as a whole."""
    runs = len(curves)
    generator = np.random.default_rng(0)
    weights = generator.multinomial(runs, np.full(runs, 1 / runs), size=resamples) / runs  # (B, R)
    low, high = np.percentile(weights @ curves, [_TAIL, 100 - _TAIL], axis=0)
    return low, high
