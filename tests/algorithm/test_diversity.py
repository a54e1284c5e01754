"""The reward for being told apart, with numbers worked out by hand."""

import math
from typing import Any

import pytest
import torch

from epo_lightning.algorithm.diversity import DiversitySettings, diversity_bonus
from epo_lightning.limits import Mistake


def test_the_bonus_by_hand() -> None:
    """Three agents; who is as likely as the others gets c log 1/3, who is certain nothing, the master nothing ever."""
    third = math.log(1 / 3)
    log_probs = torch.tensor([[third] * 3, [math.log(0.5), math.log(0.4), math.log(0.1)], [-9.0, -8.0, 0.0]])
    followers = diversity_bonus(log_probs, torch.tensor([1, 2, 2]), 0.1)
    assert followers.tolist() == pytest.approx([0.1 * third, 0.1 * math.log(0.1), 0.0])
    assert diversity_bonus(log_probs, torch.tensor([0, 0, 0]), 0.1).tolist() == [0.0, 0.0, 0.0]


def test_of_every_step() -> None:
    log_probs = torch.randn(4, 5, 3, generator=torch.Generator().manual_seed(0)).log_softmax(-1)
    agents = torch.tensor([0, 1, 2, 1, 0])
    bonus = diversity_bonus(log_probs, agents.expand(4, 5), 0.5)
    for t in range(4):
        for env, agent in enumerate(agents.tolist()):
            assert bonus[t, env].item() == (0.5 * log_probs[t, env, agent].item() if agent else 0.0)


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"coefficient": -0.1}, r"model\.diversity\.coefficient must be at least 0, got -0\.1"),
        ({"hidden": (8, 0)}, r"model\.diversity\.hidden must be at least 1, got 0"),
        ({"learning_rate": 0.0}, r"model\.diversity\.learning_rate must be greater than 0, got 0"),
        ({"num_minibatches": 0}, r"model\.diversity\.num_minibatches must be at least 1, got 0"),
    ],
)
def test_out_of_range(setting: dict[str, Any], words: str) -> None:
    with pytest.raises(Mistake, match=words):
        DiversitySettings(**setting)
