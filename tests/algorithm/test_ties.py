"""What counts as equal where something is decided."""

import math

import pytest
import torch

from epo_lightning.algorithm.ties import exceeds, first_best

UP = torch.nextafter(torch.tensor(1.0), torch.tensor(2.0)).item()


@pytest.mark.parametrize(
    ("value", "best", "higher"),
    [
        (1.0 + 3e-6, 1.0, True),
        (UP, 1.0, False),
        (-500.0, -500.00001, False),
        (-500.0, -500.01, True),
        (1.0, 2.0, False),
        (1e-30, 0.0, True),
        (-1e9, -math.inf, True),
        (-math.inf, -math.inf, False),
        (math.nan, 1.0, False),
    ],
)
def test_higher_by_more_than_rounding(value: float, best: float, higher: bool) -> None:
    assert exceeds(value, best) == higher


def test_many_steps_too_small_to_count_add_up() -> None:
    best, taken = 1.0, 0
    for step in range(100):
        value = 1.0 + 4e-7 * step
        if exceeds(value, best):
            best, taken = value, taken + 1
    assert 30 <= taken <= 34  # every third


def test_the_first_of_those_that_tie() -> None:
    scores = torch.tensor([[1.0, UP, 0.0], [0.0, 1.0, 1.0 + 1e-5], [0.0, 1.0, UP], [-8e6, -8e6 + 0.5, -9e6]])
    assert first_best(scores).tolist() == [0, 2, 1, 0]


def test_sums_that_cancel_out_tie() -> None:
    assert first_best(torch.tensor([-1e-8, 0.0, 1e-8])).item() == 0


def test_every_row_decides_alike_whatever_its_last_bits() -> None:
    scores = torch.full((1000, 7), -3.3)
    scores[:, 3:6] = 2.7
    places = torch.rand(scores.shape, generator=torch.Generator().manual_seed(0)) < 0.5
    noisy = torch.where(places, torch.nextafter(scores, torch.tensor(math.inf)), scores)
    assert first_best(noisy).tolist() == [3] * 1000
    assert noisy.argmax(-1).unique().tolist() == [3, 4, 5]  # what it is for
