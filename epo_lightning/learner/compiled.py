"""Functions of tensors that torch compiles, where that pays, and where it works.

Compiling fuses what stands between the products of matrices and saves what every small operation costs the host. It
takes a C++ compiler and a minute, rounds differently, and comes to the same results in every run of the same machine.
"""

import warnings
from collections.abc import Callable, Iterable
from typing import Generic, Literal, ParamSpec, TypeVar

import torch
from torch import Tensor, nn

Compilation = Literal["auto", "always", "never"]
"""`auto`: on a CPU, where a run is long enough to gain more than compiling takes."""

COMPILE_SECONDS = 90.0
"""What compiling takes without a cache on two cores that do other work, too; a quiet core needs less."""
HOST_SECONDS = 0.5e-3
"""What an optimizer step saves of the host's time, whatever the network is."""
ACTIVATION_SECONDS = 1.5e-9
"""What it saves per activation of a hidden layer."""

P = ParamSpec("P")
R = TypeVar("R")


def saved_seconds(samples: int, widths: Iterable[int]) -> float:
    """What compiling saves in an optimizer step, as measured on one thread (docs/benchmarks.md).

    Args:
        samples: Of a minibatch.
        widths: Of the hidden layers.
    """
    return HOST_SECONDS + ACTIVATION_SECONDS * samples * sum(widths)


def break_even(samples: int, widths: Iterable[int]) -> float:
    """Optimizer steps after which compiling is paid back."""
    return COMPILE_SECONDS / saved_seconds(samples, widths)


class Compiled(Generic[P, R]):
    """A function that torch compiles at its first call; where that fails the function as it is, with one line.

    Args:
        function: Of tensors; it draws no random numbers.
        name: What it is, for the line.
        total: Of what the function returns, what a backward pass begins with; None where there is none.
        parameters: What that pass is for.

    Attributes:
        works: Whether it runs compiled; None before the first call.
    """

    def __init__(
        self,
        function: Callable[P, R],
        name: str,
        total: Callable[[R], Tensor] | None = None,
        parameters: Iterable[nn.Parameter] = (),
    ) -> None:
        self.function, self.name, self.total = function, name, total
        self.parameters = [each for each in parameters if each.requires_grad]
        self.works: bool | None = None
        self._compiled: Callable[P, R] = torch.compile(
            function,
            dynamic=False,
            options={"compile_threads": 1},  # no processes of torch's own beside the run
        )

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """The same as of the function, but for rounding."""
        if self.works is None:
            self.works = self._try(*args, **kwargs)
        return (self._compiled if self.works else self.function)(*args, **kwargs)

    def _try(self, *args: P.args, **kwargs: P.kwargs) -> bool:
        """Compile forward and backward pass; what they compute is dropped."""
        try:
            result = self._compiled(*args, **kwargs)
            if self.total is not None:
                torch.autograd.grad(self.total(result), self.parameters, allow_unused=True)
        except Exception as error:  # whatever a compiler raises; what is the function's own comes again
            warnings.warn(
                f"model.compile: {self.name} could not be compiled and runs as it is ({reason(error)});"
                " model.compile never does not try",
                stacklevel=2,
            )
            return False
        return True


def reason(error: BaseException) -> str:
    """What a failed compile says of its cause, in one line."""
    while (cause := getattr(error, "inner_exception", None) or error.__cause__) is not None:
        error = cause
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
    return told if len(told) < _LONGEST else told[: _LONGEST - 3] + "..."


_LONGEST = 200
