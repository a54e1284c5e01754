"""What finds the difference of two runs: tests that compare runs hang on it."""

from typing import Any

import pytest
import torch

from tests.support.sameness import assert_same, differences

NAN = float("nan")
RUN: dict[str, Any] = {
    "epoch": 4,
    "lr": NAN,
    "state": [torch.tensor([1.0, NAN]), (torch.arange(3), None)],
    "name": "run",
}


def changed(**entries: Any) -> dict[str, Any]:
    return {**RUN, **entries}


def test_a_run_is_like_its_copy() -> None:
    copy = changed(state=[torch.tensor([1.0, NAN]), (torch.arange(3), None)], lr=float("nan"))
    assert differences(RUN, copy) == []
    assert_same(RUN, copy)


@pytest.mark.parametrize(
    ("other", "where"),
    [
        (changed(epoch=5), "/epoch"),
        (changed(epoch=4.0), "/epoch"),
        (changed(lr=0.0), "/lr"),
        (changed(more=1), ""),
        (changed(state=RUN["state"][:1]), "/state"),
        (changed(state=[torch.tensor([1.0000001, NAN]), RUN["state"][1]]), "/state[0]"),  # one last bit
        (changed(state=[torch.tensor([NAN, NAN]), RUN["state"][1]]), "/state[0]"),
        (changed(state=[torch.tensor([1.0, NAN]).double(), RUN["state"][1]]), "/state[0]"),
        (changed(state=[torch.tensor([[1.0, NAN]]), RUN["state"][1]]), "/state[0]"),
        (changed(state=[RUN["state"][0], (torch.tensor([0, 1, 3]), None)]), "/state[1][0]"),
    ],
)
def test_one_difference_is_named(other: dict[str, Any], where: str) -> None:
    for pair in ((RUN, other), (other, RUN)):
        (line,) = differences(*pair)
        assert line.startswith(f"{where}: ")
        with pytest.raises(AssertionError, match=r"epoch|lr|more|state"):
            assert_same(*pair)
