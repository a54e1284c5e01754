"""The tolerance: the distance that counts as near, which shrinks as the task is learnt.

Shape legend: N environments.
"""

from collections.abc import Mapping
from typing import Any

import torch
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
        limit: The tolerance as it is now, m: a number, or a tensor () where the device decides (see `move_to`).
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
        self.limit: float | Tensor = first
        self._waited: int | Tensor = 0
        self.held = False

    @property
    def tolerance(self) -> float:
        """As it is now, m; waits for the device, where that decides."""
        return float(self.limit)

    @property
    def since_change(self) -> int:
        """Steps since it changed; waits likewise."""
        return int(self._waited)

    def move_to(self, device: torch.device) -> None:
        """Decide on `device` from now on, so that no step waits for it: with the same numbers."""
        self.limit = torch.full((), self.tolerance, dtype=torch.float64, device=device)
        self._waited = torch.full((), self.since_change, device=device)

    def _set(self, tolerance: float, since_change: int, *, held: bool) -> None:
        device = self.limit.device if isinstance(self.limit, Tensor) else None
        self.limit, self._waited, self.held = tolerance, since_change, held
        if device is not None:
            self.move_to(device)

    def step(self, last_successes: Tensor) -> None:
        """Count a step; shrink when the last episodes, `last_successes` (N,), were good and the wait is over."""
        self._waited = self._waited + 1
        if self.held or not self.shrinks:
            return
        # Whole numbers, whose sum is exact: a mean may be rounded to just below
        enough = SUCCESSES * len(last_successes)
        if isinstance(self.limit, Tensor):
            waits = (self._waited < self.interval) | (self.limit <= self.final)
            due = (last_successes.sum() >= enough) & ~waits
            self.limit = torch.where(due, (FACTOR * self.limit).clamp(min=self.final), self.limit)
            self._waited = torch.where(due, 0, self._waited)
        elif self._waited >= self.interval and self.limit > self.final and last_successes.sum() >= enough:
            # tol <- max(final, 0.9 tol)
            self.limit, self._waited = max(self.final, FACTOR * self.limit), 0

    def hold(self, tolerance: float) -> None:
        """From now on it is `tolerance`, in m.

        Raises:
            Mistake: When that is not positive.
        """
        require_range("data.eval_difficulty.tolerance", tolerance, 0, 10, open_low=True)
        self._set(tolerance, 0, held=True)

    def true_objective(self, successes: Tensor) -> Tensor:
        """(N,) one number for tolerance and `successes` (N,) of an episode; it never falls when the tolerance does."""
        whole = self.first - self.final
        if not self.shrinks:
            return successes + 1.0
        # c + 0.01 s  with  c = (first - tol) / (first - final), from 0 to 1
        early = EARLY_WEIGHT * successes + ((self.first - self.limit) / whole if whole > 0 else 1.0)
        if isinstance(self.limit, Tensor):
            return torch.where(self.limit > self.final, early, successes + 1.0)
        return early if self.limit > self.final else successes + 1.0

    def state_dict(self) -> dict[str, Any]:
        """Where it began, tolerance, clock, and whether it is held."""
        now = {"tolerance": self.tolerance, "since_change": self.since_change, "held": self.held}
        return {"first_tolerance": self.first, **now}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state`; where that began with another first tolerance, begin anew with one's own."""
        if state["first_tolerance"] != self.first:
            self._set(self.first, 0, held=False)
            return
        self._set(float(state["tolerance"]), int(state["since_change"]), held=bool(state["held"]))
