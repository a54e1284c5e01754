"""The losses of Parallel Q-Learning by hand. Shape legend: C critics, B samples, M atoms."""

import math
from typing import Any

import pytest
import torch

from epo_lightning.algorithm.pql import (
    PQLLossSettings,
    actor_loss,
    critic_loss,
    critic_targets,
    mixed_sigmas,
    smooth,
)
from epo_lightning.algorithm.q_values import CategoricalValues, ScalarValues
from epo_lightning.limits import Mistake

ATOMS = torch.tensor([-1.0, 0.0, 1.0])


def told(*probabilities: list[float]) -> CategoricalValues:
    """(C, 1, M) distributions, one of each critic."""
    return CategoricalValues(torch.tensor(probabilities)[:, None].log(), ATOMS)


class TestSmoothing:
    def test_noise_is_clipped_first_and_then_the_action(self) -> None:
        # 0.8 x 0.1 = 0.08; 0.8 x 1 and 0.8 x -2 are clipped to 0.2; 0.9 + 0.2 is clipped to 1
        actions, noise = torch.tensor([[0.5, 0.5, 0.5, 0.9]]), torch.tensor([[0.1, 1.0, -2.0, 1.0]])
        wanted = torch.tensor([[0.58, 0.7, 0.3, 1.0]])
        torch.testing.assert_close(smooth(actions, noise, PQLLossSettings()), wanted)

    def test_none(self) -> None:
        actions = torch.tensor([[0.5, -0.5]])
        assert torch.equal(smooth(actions, torch.ones(1, 2), PQLLossSettings(smoothing_clip=0.0)), actions)
        assert torch.equal(smooth(actions, torch.ones(1, 2), PQLLossSettings(smoothing_sigma=0.0)), actions)


class TestTargets:
    def test_the_smaller_critic_is_believed_of_each_sample(self) -> None:
        following = ScalarValues(torch.tensor([[1.0, 5.0, 7.0], [2.0, 3.0, 9.0]]))
        rewards, discount = torch.tensor([10.0, 20.0, 30.0]), torch.tensor([0.5, 0.25, 0.0])
        targets = critic_targets(following, rewards, discount, PQLLossSettings(reward_scale=0.1))
        assert targets.tolist() == [[1 + 0.5 * 1, 2 + 0.25 * 3, 3.0]]

    def test_of_distributions_it_is_the_least_probability_of_each_atom(self) -> None:
        # r = 0.5 and nothing discounted but by 1: atoms move up by half of their distance, the last one stays
        following = told([0.5, 0.5, 0.0], [0.0, 0.5, 0.5])
        targets = critic_targets(following, torch.tensor([0.5]), torch.tensor([1.0]), PQLLossSettings())
        # the first becomes (0.25, 0.5, 0.25), the second (0, 0.25, 0.75)
        torch.testing.assert_close(targets, torch.tensor([[[0.0, 0.25, 0.25]]]))

    def test_where_nothing_follows_both_lie_on_the_scaled_reward(self) -> None:
        following = told([0.5, 0.5, 0.0], [0.0, 0.5, 0.5])
        targets = critic_targets(following, torch.tensor([25.0]), torch.zeros(1), PQLLossSettings(reward_scale=0.01))
        torch.testing.assert_close(targets, torch.tensor([[[0.0, 0.75, 0.25]]]))


class TestCriticLoss:
    def test_numbers(self) -> None:
        values = ScalarValues(torch.tensor([[1.0, 2.0], [4.0, 0.0]]))
        # (0 + 1) / 2 + (9 + 1) / 2
        assert critic_loss(values, torch.tensor([[1.0, 1.0]])).item() == pytest.approx(5.5)

    def test_distributions(self) -> None:
        values, targets = told([0.5, 0.25, 0.25], [0.2, 0.3, 0.5]), torch.tensor([[[0.5, 0.0, 0.25]]])
        wanted = 0.0
        for probabilities in ([0.5, 0.25, 0.25], [0.2, 0.3, 0.5]):
            for p, t in zip(probabilities, (0.5, 0.0, 0.25), strict=True):
                wanted -= (t * math.log(p) + (1 - t) * math.log(1 - p)) / 3
        assert critic_loss(values, targets).item() == pytest.approx(wanted, rel=1e-6)

    def test_gradients_of_a_sure_critic_are_finite(self) -> None:
        logits = torch.tensor([[[200.0, 0.0, -200.0]]], requires_grad=True)
        critic_loss(CategoricalValues(logits, ATOMS), torch.tensor([[[0.0, 1.0, 0.0]]])).backward()
        assert logits.grad is not None
        assert torch.isfinite(logits.grad).all()
        assert logits.grad[0, 0, 1] < 0


def test_the_actor_climbs_the_smaller_critic() -> None:
    values = torch.tensor([[1.0, 5.0], [2.0, 3.0]], requires_grad=True)
    loss = actor_loss(ScalarValues(values))
    assert loss.item() == -(1.0 + 3.0) / 2
    loss.backward()
    assert values.grad is not None
    assert values.grad.tolist() == [[-0.5, 0.0], [0.0, -0.5]]
    # means 0.5 and -0.25
    assert actor_loss(told([0.0, 0.5, 0.5], [0.5, 0.25, 0.25])).item() == 0.25


class TestSigmas:
    def test_of_four_environments(self) -> None:
        torch.testing.assert_close(mixed_sigmas(0.05, 0.8, 0, 4, 4), torch.tensor([0.05, 0.3, 0.55, 0.8]))

    def test_ranks_share_one_schedule(self) -> None:
        both = torch.cat([mixed_sigmas(0.05, 0.8, first, 3, 6) for first in (0, 3)])
        assert torch.equal(both, mixed_sigmas(0.05, 0.8, 0, 6, 6))
        torch.testing.assert_close(both[[0, 1, 5]], torch.tensor([0.05, 0.2, 0.8]))

    def test_one_environment_has_the_least(self) -> None:
        assert mixed_sigmas(0.05, 0.8, 0, 1, 1).tolist() == pytest.approx([0.05])


@pytest.mark.parametrize(
    "changes",
    [
        {"gamma": 1.1}, {"n_step": 0}, {"tau": 0.0}, {"smoothing_sigma": -1.0}, {"smoothing_clip": -0.1},
        {"reward_scale": 0.0},
    ],
    ids=str,
)  # fmt: skip
def test_out_of_range(changes: dict[str, Any]) -> None:
    with pytest.raises(Mistake, match=rf"model\.loss\.{next(iter(changes))} must be"):
        PQLLossSettings(**changes)
