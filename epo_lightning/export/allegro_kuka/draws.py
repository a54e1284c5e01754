"""The random numbers of a task from outside: noted down as it plays, or handed in from a list.

Both stand between torch and the task, which is the same code either way.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

_KINDS = {torch.rand: "uniform", torch.randn: "normal"}


class Draw(NamedTuple):
    """So many random numbers in a row of one kind: `uniform` in [0, 1), or `normal`."""

    kind: str
    size: int


class Noted(TorchFunctionMode):
    """Inside, what is drawn is noted down.

    Attributes:
        values: Since it was made or `take`n last.
    """

    def __init__(self) -> None:
        super().__init__()
        self.values: list[float] = []

    def take(self) -> list[float]:
        """What was drawn since the last time."""
        values, self.values = self.values, []
        return values

    def __torch_function__(
        self, func: Callable[..., Any], types: object, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> object:
        """See torch."""
        drawn = func(*args, **(kwargs or {}))
        if func in _KINDS:
            self.values += drawn.flatten().tolist()
        return drawn


class Given(TorchFunctionMode):
    """Inside, what is drawn are the next numbers of a list.

    Args:
        values: (1, R) the list.

    Attributes:
        drawn: What was asked for so far.
    """

    def __init__(self, values: Tensor) -> None:
        super().__init__()
        self._values = values[0]
        self.drawn: list[Draw] = []

    def __torch_function__(
        self, func: Callable[..., Any], types: object, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> object:
        """See torch."""
        if func not in _KINDS:
            return func(*args, **(kwargs or {}))
        shape = torch.Size(args[0] if isinstance(args[0], Sequence) else args)
        begin, size = sum(draw.size for draw in self.drawn), shape.numel()
        self.drawn.append(Draw(_KINDS[func], size))
        return self._values[begin : begin + size].clone().reshape(shape)
