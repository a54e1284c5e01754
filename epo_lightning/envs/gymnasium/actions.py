"""The learner's actions as Gymnasium's.

Shape legend: N environments, A action entries, or choices of a discrete task.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from epo_lightning.envs.signals import Signal
from epo_lightning.limits import Mistake

if TYPE_CHECKING:
    from gymnasium import Space


class ActionMap:
    """Turns actions of `VectorEnv.step` into a batch of one action space.

    An entry of a Box with two finite bounds goes from [-1, 1] to these bounds; any other entry is passed through, and
    stops at a bound where there is one. The largest number of float32, or of the Box's own type, is no bound. A choice
    of a Discrete space is counted from its first value.

    Args:
        space: Action space of a single environment: a Box of floats, or Discrete.

    Attributes:
        size: A.
        discrete: Whether A is a number of choices.

    Raises:
        Mistake: When the space is something else.
    """

    def __init__(self, space: "Space[Any]") -> None:
        from gymnasium import spaces

        self.discrete = isinstance(space, spaces.Discrete)
        if isinstance(space, spaces.Discrete):
            self.size, self._start = int(space.n), int(space.start)
        elif isinstance(space, spaces.Box) and np.issubdtype(space.dtype, np.floating) and space.shape != (0,):
            self.size, self._shape, self._dtype = int(np.prod(space.shape)), space.shape, space.dtype
            low, high = (bound.ravel().astype(np.float64) for bound in (space.low, space.high))
            if not (low <= high).all():
                raise Mistake(f"data.env.init_args.id: an action needs low <= high, and no NaN; got {space}")
            largest = min(float(np.finfo(each).max) for each in (space.dtype, np.float32))
            self._low, self._high = np.where(low <= -largest, -np.inf, low), np.where(high >= largest, np.inf, high)
            bounded = np.isfinite(self._low) & np.isfinite(self._high)
            low, high = np.where(bounded, self._low, -1.0), np.where(bounded, self._high, 1.0)
            self._half, self._middle = high / 2 - low / 2, high / 2 + low / 2
        else:
            raise Mistake(f"data.env.init_args.id: actions must be Discrete, or a Box of floats; got {space}")

    def __call__(self, actions: Tensor) -> np.ndarray:
        """A new array: (N, *shape) of a Box, (N,) int64 of a Discrete space."""
        given = actions.cpu().numpy()
        if self.discrete:
            return given + self._start
        # middle + half a, which lies between the bounds but for rounding
        scaled = np.clip(given * self._half + self._middle, self._low, self._high)
        return scaled.astype(self._dtype).reshape(len(given), *self._shape)

    def signals(self) -> tuple[Signal, ...]:
        """What the task's own action is; bounds where all are finite."""
        if self.discrete:
            return tuple(Signal(f"choice_{self._start + number}", 1) for number in range(self.size))
        low, high = self._middle - self._half, self._middle + self._half
        meaning = "-1 and 1 are the bounds of the task's action space, low and high; without bounds the number itself"
        return (Signal("action", self.size, "", meaning, tuple(low.tolist()), tuple(high.tolist())),)
