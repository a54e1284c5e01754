"""Products of matrices on a CPU, by the library that is the faster one there.

Shape legend: N rows, I inputs, O outputs.

torch multiplies by Intel's MKL, which reaches 80 to 90 % of what oneDNN does on an AMD processor. torch has both, but
offers no choice for float32: so large products go to oneDNN here, by the operator that its own compiler uses.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

LEAST = 2**24
"""Multiplications from which on a product takes longer than finding oneDNN's kernel for it."""


def _prefers_onednn() -> bool:
    """Whether this is an AMD processor, and torch has oneDNN's operator."""
    try:
        vendor = "AuthenticAMD" in Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False
    return vendor and torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


ONEDNN = _prefers_onednn()
"""Whether large products go to oneDNN; read once."""


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """(..., O) as `torch.nn.functional.linear` of x (..., I), weight (O, I), bias (O,); large ones round otherwise."""
    if not _goes_to_onednn(x, weight):
        return functional.linear(x, weight, bias)
    product: Tensor = _product(x.reshape(-1, x.shape[-1]), weight.contiguous(), bias)
    return product if x.dim() == 2 else product.unflatten(0, x.shape[:-1])


def linear_with(offsets: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    """(..., O) of x (..., I) and weight (O, I), with offsets (N, O), one a row, in the place of a bias."""
    if x.dim() == 2 and not _goes_to_onednn(x, weight):
        return torch.addmm(offsets, x, weight.t())  # one kernel
    return linear(x, weight) + offsets


def through(layers: Iterable[nn.Module], x: Tensor) -> Tensor:
    """Of x (..., I), through layers one after the other."""
    for layer in layers:
        x = linear(x, layer.weight, layer.bias) if isinstance(layer, nn.Linear) else layer(x)
    return x


def _goes_to_onednn(x: Tensor, weight: Tensor) -> bool:
    """Whether it is large, in float32 on a CPU, where oneDNN is the faster one; never in what is written for others."""
    if torch.compiler.is_exporting() or torch.jit._trace.is_tracing():
        return False
    return (
        x.dtype == torch.float32
        and x.device.type == "cpu"
        and x.numel() * len(weight) >= LEAST
        and ONEDNN
        and not torch.is_autocast_enabled("cpu")
    )


@torch.library.custom_op("epo_lightning::product", mutates_args=())
def _product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Of x and weight: x weight^T + bias."""
    result: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return result


@_product.register_fake
def _(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:  # noqa: ARG001
    """Its size."""
    return x.new_empty(len(x), len(weight))


def _keep(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor | None], output: Tensor) -> None:  # noqa: ANN401, ARG001
    x, weight, _ = inputs
    ctx.save_for_backward(x, weight)


def _backward(ctx: Any, of_output: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:  # noqa: ANN401
    """Gradients: dx = g W, dW = g^T x, db = the sum of g."""
    x, weight = ctx.saved_tensors
    needs_x, needs_weight, needs_bias = ctx.needs_input_grad
    return (
        _product(of_output.contiguous(), weight.t().contiguous(), None) if needs_x else None,
        of_output.t() @ x if needs_weight else None,
        of_output.sum(0) if needs_bias else None,
    )


_product.register_autograd(_backward, setup_context=_keep)
