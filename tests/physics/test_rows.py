"""Numbers of environments and a mask choose the same."""

import pytest
import torch
from torch import Tensor

from epo_lightning.physics.rows import put, take

MASK = torch.tensor([True, False, True, False])
IDS = torch.tensor([0, 2])


@pytest.mark.parametrize("kind", [torch.float32, torch.float64, torch.bool])
@pytest.mark.parametrize("shape", [(4,), (4, 3), (4, 2, 3)])
def test_a_mask_writes_what_numbers_write(shape: tuple[int, ...], kind: torch.dtype) -> None:
    values = torch.rand(shape).round() if kind is torch.bool else torch.rand(shape)
    by_ids, by_mask = (torch.zeros(shape, dtype=kind) for _ in range(2))
    put(by_ids, IDS, values[IDS].to(kind))
    put(by_mask, MASK, values)
    assert torch.equal(by_ids, by_mask)
    assert torch.equal(by_mask[IDS], values[IDS].to(kind))
    assert not by_mask[~MASK].any()


@pytest.mark.parametrize("chosen", [IDS, MASK])
def test_a_number_goes_into_all_chosen_rows(chosen: Tensor) -> None:
    field = torch.zeros(4, 2)
    put(field[:, 1], chosen, 7)
    assert field.tolist() == [[0, 7], [0, 0], [0, 7], [0, 0]]


def test_what_is_taken_is_a_copy() -> None:
    field = torch.arange(4.0)
    for chosen, wanted in ((IDS, [0.0, 2.0]), (MASK, [0.0, 1.0, 2.0, 3.0])):
        taken = take(field, chosen)
        assert taken.tolist() == wanted
        taken.zero_()
    assert field.tolist() == [0.0, 1.0, 2.0, 3.0]
