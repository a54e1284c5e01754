"""A processor that does not exist: `pytest -p tests.support.last_bits` rounds by the place of a number.

Which kernel computes an element depends on the processor, the library, the batch's size and the element's place in it
(the body or the tail of a vectorised loop), and kernels differ in the last bit. Here about half of the float32 results
that had to be rounded move up by one last bit, chosen by their row and the tensor's size, so that equal rows of a
batch, and batches of several sizes, differ as they may anywhere. Results that are exact in any order stay, and the
same code on the same shapes computes the same as before.
"""

from collections.abc import Generator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

SUMS = {
    *("mm", "addmm", "bmm", "baddbmm", "dot", "mv", "addmv", "sum", "mean", "var", "var_mean", "std", "std_mean"),
    *("norm", "linalg_vector_norm", "linalg_cross", "cumsum", "prod", "addcmul", "addcdiv", "lerp"),
}
"""Whose order, or whose fused multiply-adds, are the kernel's own affair."""
FUNCTIONS = {
    *("exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "logsumexp", "logaddexp", "pow", "rsqrt", "hypot"),
    *("sin", "cos", "tan", "asin", "acos", "atan", "atan2", "sinh", "cosh", "tanh"),
    *("sigmoid", "elu", "silu", "gelu", "softplus", "erf", "_softmax", "_log_softmax"),
}
"""Which the standard of floating-point numbers does not round to the last bit."""


class LastBits(TorchDispatchMode):
    """Moves the last bit of inexact results."""

    def __torch_dispatch__(
        self,
        func: OpOverload[..., Any],
        types: tuple[type, ...],
        args: tuple[object, ...] = (),
        kwargs: dict[str, object] | None = None,
    ) -> object:
        kwargs = kwargs or {}
        name = func.overloadpacket.__name__
        fused = name.rstrip("_") in ("add", "sub") and kwargs.get("alpha", 1) != 1
        if not fused and name.rstrip("_") not in SUMS | FUNCTIONS:
            return func(*args, **kwargs)
        # The same in float64 tells which results float32 holds exactly
        wide = tree_map_only(Tensor, _widen, {name: value for name, value in kwargs.items() if name != "out"})
        exact = getattr(torch.ops.aten, name.rstrip("_"))(*tree_map_only(Tensor, _widen, args), **wide)
        result = func(*args, **kwargs)
        for one, other in zip(tree_leaves(result), tree_leaves(exact), strict=True):
            if one.dtype == torch.float32 and one.device.type == "cpu":
                one.copy_(_moved(one, other))
        return result


def _widen(value: Tensor) -> Tensor:
    return value.double() if value.dtype == torch.float32 else value.clone()


def _moved(result: Tensor, exact: Tensor) -> Tensor:
    rows = torch.arange(result.numel()).view(result.shape)
    if result.dim() > 1:
        rows = rows // max(1, result[0].numel())
    chosen = (rows + result.numel()) * 2654435761 % 2**32 >= 2**31  # Knuth's multiplicative hash, as a coin
    chosen &= (result != exact) & torch.isfinite(result)
    return torch.where(chosen, torch.nextafter(result, torch.full_like(result, torch.inf)), result)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None, Any, Any]:
    """Every test runs on it."""
    with LastBits():  # type: ignore[no-untyped-call]  # torch has no annotations here
        return (yield)
