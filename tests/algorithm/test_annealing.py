"""What is left of a weight, by hand."""

import pytest

from epo_lightning.algorithm.annealing import require_interval, share_left
from epo_lightning.limits import Mistake


@pytest.mark.parametrize(
    ("env_steps", "left"), [(0, 1.0), (100, 1.0), (150, 0.75), (200, 0.5), (299, 0.005), (300, 0.0), (900, 0.0)]
)
def test_by_hand(env_steps: int, left: float) -> None:
    assert share_left(env_steps, (100, 300)) == pytest.approx(left)
    assert share_left(env_steps, None) == 1.0


@pytest.mark.parametrize("interval", [None, (0, 1), (5, 900)])
def test_an_interval(interval: tuple[int, int] | None) -> None:
    require_interval(interval)


@pytest.mark.parametrize(
    ("interval", "words"),
    [
        ((-1, 5), r"^model\.loss\.entropy_anneal \(its first\) must be at least 0, got -1$"),
        ((5, 5), r"^model\.loss\.entropy_anneal: the second .* must be above the first, got \[5, 5\]$"),
        ((9, 5), r"above the first, got \[9, 5\]$"),
    ],
)
def test_what_is_none(interval: tuple[int, int], words: str) -> None:
    with pytest.raises(Mistake, match=words):
        require_interval(interval)
