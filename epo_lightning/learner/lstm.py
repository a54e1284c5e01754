"""A whole sequence of an LSTM as one operation of autograd, with episodes that begin anywhere in it.

Shape legend: N rows, T steps, H units.

A cell per step multiplies inputs and gradients step by step. Here what enters from outside is one product of all steps,
given by the caller, and so are the gradients of the weights; what is left to do step by step is H x 4H.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

_sigmoid_backward, _tanh_backward = torch.ops.aten.sigmoid_backward, torch.ops.aten.tanh_backward


def lstm_sequence(
    gates: Tensor, weight: Tensor, hidden: Tensor, cell: Tensor, resets: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Hidden and cell state after every step, (T, N, H) each, as `torch.nn.LSTMCell` computes them.

    Args:
        gates: (T, N, 4H) what enters the gates i, f, g, o from outside, biases among it.
        weight: (4H, H) of the hidden state.
        hidden: (N, H) before the first step.
        cell: (N, H) before the first step.
        resets: (T, N) bool, zero the state before this step; None for no reset.
    """
    kept = None if resets is None else (~resets).to(gates.dtype)[..., None]
    hiddens, cells = _Sequence.apply(gates, weight, hidden, cell, kept)  # type: ignore[no-untyped-call]
    return hiddens, cells


class _Sequence(torch.autograd.Function):
    """i, f, o = sigmoid, g = tanh of gates + W h;  c <- f c + i g;  h <- o tanh(c)."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401  (torch's own, without a type)
        gates: Tensor,
        weight: Tensor,
        hidden: Tensor,
        cell: Tensor,
        kept: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        """States after every step."""
        ctx.set_materialize_grads(False)
        gates, units = gates.clone(), hidden.shape[-1]
        hiddens, cells, old_hiddens, old_cells, bounded = (gates.new_empty(*gates.shape[:2], units) for _ in range(5))
        turned = weight.t()
        for t, step in enumerate(gates):
            if kept is None:
                old_hiddens[t], old_cells[t] = hidden, cell
            else:
                torch.mul(hidden, kept[t], out=old_hiddens[t])
                torch.mul(cell, kept[t], out=old_cells[t])
            step.addmm_(old_hiddens[t], turned)
            enter, forget, new, leave = step.chunk(4, dim=-1)
            step[:, : 2 * units].sigmoid_()
            new.tanh_()
            leave.sigmoid_()
            cell = torch.mul(forget, old_cells[t], out=cells[t]).addcmul_(enter, new)
            hidden = torch.mul(torch.tanh(cell, out=bounded[t]), leave, out=hiddens[t])
        ctx.save_for_backward(gates, weight, old_hiddens, old_cells, bounded, kept)
        return hiddens, cells

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        """Gradients of the gates, the weight and the first states; backwards through the steps."""
        gates, weight, old_hiddens, old_cells, bounded, kept = ctx.saved_tensors
        of_hiddens, of_cells = gradients
        of_gates = torch.empty_like(gates)
        of_hidden = of_cell = torch.zeros_like(old_cells[0])
        for t in reversed(range(len(gates))):
            enter, forget, new, leave = gates[t].chunk(4, dim=-1)
            if of_hiddens is not None:
                of_hidden = of_hidden + of_hiddens[t]
            if of_cells is not None:
                of_cell = of_cell + of_cells[t]
            # dc += dh o (1 - tanh(c)^2);  di = dc g, df = dc c, dg = dc i, do = dh tanh(c), each through its bound
            of_cell = of_cell + _tanh_backward(of_hidden * leave, bounded[t])
            outside = (of_cell * new, of_cell * old_cells[t], of_cell * enter, of_hidden * bounded[t])
            bounds = (_sigmoid_backward, _sigmoid_backward, _tanh_backward, _sigmoid_backward)
            for bound, change, value, place in zip(
                bounds, outside, (enter, forget, new, leave), of_gates[t].chunk(4, dim=-1), strict=True
            ):
                place.copy_(bound(change, value))
            of_hidden, of_cell = of_gates[t] @ weight, of_cell * forget
            if kept is not None:
                of_hidden, of_cell = of_hidden * kept[t], of_cell * kept[t]
        of_weight = of_gates.flatten(0, 1).t() @ old_hiddens.flatten(0, 1) if ctx.needs_input_grad[1] else None
        return of_gates, of_weight, of_hidden, of_cell, None
