"""The x axis of every metric is env steps, whoever logs it.

Lightning counts batches, and callbacks log at that count, or at `trainer.global_step`. So the loggers themselves are
told the step: whatever reaches `log_metrics` (`self.log`, `LearningRateMonitor`, `DeviceStatsMonitor`, films) stands at
the env steps that the training has made by then.
"""

import math
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from lightning.pytorch.loggers import Logger


class Counter(Protocol):
    """Who counts."""

    @property
    def env_steps(self) -> int:
        """Those made so far, over all environments and ranks."""


class _AtEnvSteps:
    """Stands for the `log_metrics` of one logger.

    What is logged a second time at the same step, with the same value, is left out: Lightning logs the values of
    `self.log` after the iteration has told them.
    """

    def __init__(self, plain: Callable[..., None], counter: Counter) -> None:
        self.plain, self.counter = plain, counter
        self._step = -1
        self._told: dict[str, Any] = {}

    def __call__(self, metrics: dict[str, Any], step: int | None = None, **others: Any) -> None:
        step = self.counter.env_steps
        if step != self._step:
            self._step, self._told = step, {}
        new = {name: value for name, value in metrics.items() if not self._knows(name, value)}
        self._told |= new
        if new:
            self.plain(new, step=step, **others)

    def _knows(self, name: str, value: object) -> bool:
        """Whether it was logged at this step; tensors and objects are never compared."""
        if not isinstance(value, int | float) or name not in self._told:
            return False
        told = self._told[name]
        return isinstance(told, int | float) and (told == value or (math.isnan(told) and math.isnan(value)))


def put_on_env_steps(loggers: Iterable[Logger], counter: Counter) -> None:
    """Let `loggers` log at the env steps of `counter`, whatever step they are given.

    Args:
        loggers: Changed in place; once is enough, and more often does not matter.
        counter: Tells the env steps.
    """
    for logger in loggers:
        plain: Callable[..., None] = logger.log_metrics
        if isinstance(plain, _AtEnvSteps):
            plain = plain.plain
        vars(logger)["log_metrics"] = _AtEnvSteps(plain, counter)
