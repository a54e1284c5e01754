"""A sequence of an LSTM as one operation, against torch's cell, step by step.

Shape legend: N rows, T steps, I inputs, H units.
"""

import pytest
import torch
from torch import Tensor, nn

from epo_lightning.learner.lstm import lstm_sequence

T, N, I, H = 5, 4, 3, 2


def by_cell(cell: nn.LSTMCell, x: Tensor, hidden: Tensor, state: Tensor, resets: Tensor) -> tuple[Tensor, Tensor]:
    hiddens, cells = [], []
    for step, reset in zip(x, resets, strict=True):
        hidden, state = (part.masked_fill(reset[:, None], 0.0) for part in (hidden, state))
        hidden, state = cell(step, (hidden, state))
        hiddens.append(hidden)
        cells.append(state)
    return torch.stack(hiddens), torch.stack(cells)


def by_sequence(cell: nn.LSTMCell, x: Tensor, hidden: Tensor, state: Tensor, resets: Tensor) -> tuple[Tensor, Tensor]:
    gates = nn.functional.linear(x, cell.weight_ih, cell.bias_ih + cell.bias_hh)
    return lstm_sequence(gates, cell.weight_hh, hidden, state, resets)


@pytest.mark.parametrize("read", [(1.0, 0.0), (0.0, 1.0), (1.0, 1.0)], ids=["hidden", "cell", "both"])
def test_states_and_all_gradients_are_those_of_the_cell_also_across_resets(read: tuple[float, float]) -> None:
    torch.manual_seed(0)
    cell = nn.LSTMCell(I, H).double()
    x, hidden, state = (torch.randn(*size).double().requires_grad_() for size in ((T, N, I), (N, H), (N, H)))
    resets = torch.tensor([[True, False, False, False]] + [[False, t == 2, t == 4, False] for t in range(1, T)])
    weights = torch.randn(2, T, N, H).double()
    found = []
    for compute in (by_cell, by_sequence):
        states = compute(cell, x, hidden, state, resets)
        parts = [share * (part * by).sum() for share, part, by in zip(read, states, weights, strict=True) if share]
        found.append((*states, *torch.autograd.grad(sum(parts), [x, hidden, state, *cell.parameters()])))
    for expected, got in zip(*found, strict=True):
        torch.testing.assert_close(got, expected, rtol=0, atol=1e-14)
    of_hidden, of_state = found[1][3], found[1][4]
    assert not torch.stack([of_hidden[0], of_state[0]]).any()  # row 0 was reset before the first step
    assert of_state[1].any()


def test_one_step_by_hand() -> None:
    """All gates get 0 from outside but for the new value, 1: c = 0.5 * 2 + 0.5 tanh(1), h = 0.5 tanh(c)."""
    gates = torch.tensor([[[0.0, 0.0, 1.0, 0.0]]])
    hiddens, cells = lstm_sequence(gates, torch.zeros(4, 1), torch.zeros(1, 1), torch.full((1, 1), 2.0))
    assert cells.item() == pytest.approx(1.3807971)
    assert hiddens.item() == pytest.approx(0.4405648)
    assert gates.tolist() == [[[0.0, 0.0, 1.0, 0.0]]]  # what was given is left alone
