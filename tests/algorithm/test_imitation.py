"""What is imitated, by whom and how much, with numbers worked out by hand.

Shape legend: T horizon, N environments, C imitated columns, B samples.
"""

import math

import pytest
import torch
from torch import Tensor

from epo_lightning.algorithm.batch import RolloutBatch
from epo_lightning.algorithm.distributions import Gaussian
from epo_lightning.algorithm.imitation import (
    best_sequences,
    best_transitions,
    draw_imitators,
    imitated_columns,
    imitation_loss,
)
from epo_lightning.algorithm.losses import LossSettings, hybrid_loss
from epo_lightning.algorithm.population import Population

HALF_LN_2PI = 0.9189385332046727
SURPLUS = torch.tensor([[1.0, -9.0, 5.0], [2.0, 4.0, -8.0]])  # (2, 3)


def sample(*numbers: float) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float64)


def test_how_much_is_imitated() -> None:
    told = [imitated_columns(16, *given) for given in ((0.1, 0.25), (0.1, 0.001), (0.0, 0.25), (0.1, 0.0))]
    assert told == [4, 1, 0, 0]


def test_the_best_transitions_and_sequences() -> None:
    step, env = best_transitions(SURPLUS, 2)
    assert [*zip(step.flatten().tolist(), env.flatten().tolist(), strict=True)] == [(0, 2), (1, 1), (1, 0), (0, 0)]
    # positive parts add up to 3, 4 and 5
    assert best_sequences(SURPLUS, 2).tolist() == [2, 1]


def test_everybody_imitates_equally_much() -> None:
    agents = draw_imitators(Population(4, 8), 10, torch.Generator().manual_seed(0))
    counts = torch.bincount(agents, minlength=4)
    assert sorted(counts.tolist()) == [2, 2, 3, 3]


@pytest.mark.parametrize(
    ("log_mu", "advantage", "weight"),
    [
        (0.0, 0.2, math.e),
        (math.log(0.25), 0.2, math.e / 4),
        (3.0, 0.2, math.e),  # at most 1
        (0.0, 9.0, 100.0),
        (0.0, 0.0, 0.0),  # no better than expected
        (0.0, -0.1, 0.0),
    ],
)
def test_loss_by_hand(log_mu: float, advantage: float, weight: float) -> None:
    log_prob = sample(-1.5).requires_grad_()
    loss = imitation_loss(log_prob, sample(log_mu), sample(advantage), 0.2)
    assert loss.item() == pytest.approx(1.5 * weight)
    loss.sum().backward()
    assert log_prob.grad is not None
    assert log_prob.grad.item() == pytest.approx(-weight)


def test_in_the_hybrid_loss() -> None:
    """Samples: one of an agent's own, a coupled one, and two imitated by the master and by follower 2."""
    batch = RolloutBatch(
        obs=torch.zeros(4, 1),
        actions=sample(0.0, 1.0, 1.0, 1.0)[:, None],
        agent_ids=torch.tensor([1, 1, 0, 2]),
        log_probs=sample(0.0, 0.0, 0.0, 0.0),
        log_mu=sample(1.0, 1.0, 0.5, 1.0).log(),
        values=sample(0.0, 0.0, 0.0, 0.0),
        targets=sample(1.0, 9.0, 9.0, 9.0),
        advantages=sample(1.0, 0.2, 0.2, -3.0),
        off_policy=torch.tensor([False, True, True, True]),
        states=torch.zeros(0, 4, 0),
        resets=torch.zeros(4, dtype=torch.bool),
        imitated=torch.tensor([False, False, True, True]),
    )
    assert batch.coupled().tolist() == [False, True, False, False]
    policy = Gaussian(sample(0.0, 1.0, 1.0, 1.0)[:, None], torch.zeros(4, 1, dtype=torch.float64))
    settings = LossSettings(value_coefficient=0.0, bound_coefficient=0.0)
    total = hybrid_loss(policy, batch.values, batch, settings, sample(0.0, 0.0, 0.0, 0.0), 0.1, 0.01).total
    # the own sample's ratio is e^-1/2 ln 2 pi, below the clip; log pi of all others is -1/2 ln 2 pi
    own, coupled, imitated = -math.exp(-HALF_LN_2PI), math.e * HALF_LN_2PI, 0.5 * math.e * HALF_LN_2PI / 2
    assert total.item() == pytest.approx(own + 0.1 * coupled + 0.01 * imitated)
