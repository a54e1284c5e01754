"""What counts as equal where something is decided: rounding differs between processors, libraries and batch sizes.

Shape legend: A alternatives.
"""

import math
from collections.abc import Mapping

from torch import Tensor

TIE = 1e-6
"""Differences below this, relative to the numbers, are rounding; above it they are real."""


def exceeds(value: float, best: float) -> bool:
    """Whether `value` is higher than `best` by more than rounding."""
    return value > best and not math.isclose(value, best, rel_tol=TIE)


def alike(one: Mapping[str, float], other: Mapping[str, float]) -> bool:
    """Whether two difficulties (`VectorEnv.curriculum`) are the same but for rounding."""
    return one.keys() == other.keys() and all(math.isclose(one[name], other[name], rel_tol=TIE) for name in one)


def first_best(scores: Tensor) -> Tensor:
    """(...,) int64, the first of those `scores` (..., A) that are the highest but for rounding."""
    best = scores.amax(-1, keepdim=True)
    # Sums of terms of about 1 have an absolute error, too
    return (scores >= best - TIE * (1 + best.abs())).int().argmax(-1)
