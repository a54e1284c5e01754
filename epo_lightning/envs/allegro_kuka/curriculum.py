"""The tolerance: the distance that counts as near, which shrinks as the task is learnt.

Shape legend: N environments.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from epo_lightning.limits import Mistake, require_range

SUCCESSES, FACTOR = 3.0, 0.9
"""Successes that the last episodes must have brought on average, and what the tolerance is then multiplied with."""
EARLY_WEIGHT = 0.01
"""Of a success in `true_objective` before the final tolerance: a smaller tolerance always counts more."""


class Curriculum:
    """One tolerance for all environments.

    Args:
        first: Where it begins, m.
        final: Where it ends, m.
        interval: Steps between two changes, at least.
        shrinks: Whether it changes at all.

    Attributes:
        tolerance: As it is now, m.
        since_change: Steps since it changed.
        held: Whether it was set from outside and no longer changes.

    Raises:
        Mistake: When a number is out of range.
    """

    def __init__(self, first: float = 0.075, final: float = 0.01, interval: int = 300, *, shrinks: bool = True) -> None:
        require_range("data.env.init_args.tolerance", first, 0, open_low=True)
        if not 0 < final <= first:
            raise Mistake(
                "data.env.init_args.final_tolerance must be positive and at most data.env.init_args.tolerance"
                f" ({first}); got {final}"
            )
        require_range("data.env.init_args.curriculum_interval", interval, 1)
        self.first, self.final, self.interval, self.shrinks = first, final, interval, shrinks
        self.tolerance, self.since_change, self.held = first, 0, False

    def step(self, last_successes: Tensor) -> None:
        """Count a step; shrink when the last episodes, `last_successes` (N,), were good and the wait is over."""
        self.since_change += 1
        waits = self.since_change < self.interval or self.tolerance <= self.final
        if waits or self.held or not self.shrinks:
            return
        # Whole numbers, whose sum is exact: a mean may be rounded to just below
        if last_successes.sum() >= SUCCESSES * len(last_successes):
            # tol <- max(final, 0.9 tol)
            self.tolerance = max(self.final, FACTOR * self.tolerance)
            self.since_change = 0

    def hold(self, tolerance: float) -> None:
        """From now on it is `tolerance`, in m.

        Raises:
            Mistake: When that is not positive.
        """
        require_range("data.eval_difficulty.tolerance", tolerance, 0, 10, open_low=True)
        self.tolerance, self.since_change, self.held = tolerance, 0, True

    def true_objective(self, successes: Tensor) -> Tensor:
        """(N,) one number for tolerance and `successes` (N,) of an episode; it never falls when the tolerance does."""
        if self.shrinks and self.tolerance > self.final:
            # c + 0.01 s  with  c = (first - tol) / (first - final), from 0 to 1
            whole = self.first - self.final
            return EARLY_WEIGHT * successes + ((self.first - self.tolerance) / whole if whole > 0 else 1.0)
        return successes + 1.0

    def state_dict(self) -> dict[str, Any]:
        """Where it began, tolerance, clock, and whether it is held."""
        now = {"tolerance": self.tolerance, "since_change": self.since_change, "held": self.held}
        return {"first_tolerance": self.first, **now}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state`; where that began with another first tolerance, begin anew with one's own."""
        if state["first_tolerance"] != self.first:
            self.tolerance, self.since_change, self.held = self.first, 0, False
            return
        self.tolerance, self.since_change = float(state["tolerance"]), int(state["since_change"])
        self.held = bool(state["held"])
