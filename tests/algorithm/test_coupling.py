"""The coupling of followers to the master, with numbers worked out by hand.

Shape legend: B samples, K agents.
"""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from epo_lightning.algorithm.batch import RolloutBatch
from epo_lightning.algorithm.coupling import coupled_followers, coupling_loss, coupling_weight, draw_coupled
from epo_lightning.algorithm.distributions import Categorical, Gaussian
from epo_lightning.algorithm.losses import COUPLING_DIAGNOSTICS, DIAGNOSTICS, LossSettings, hybrid_loss
from epo_lightning.algorithm.population import Population

HALF_LN_2PI = 0.9189385332046727


def sample(*numbers: float) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float64)


class TestCouplingLoss:
    @pytest.mark.parametrize(
        ("advantage", "weight"),
        [
            (0.0, 1.0),
            (0.2, math.e),  # A = lambda
            (-0.4, math.exp(-2.0)),  # what was bad hardly counts
            (0.9, math.exp(4.5)),  # 90.02: the cap of 100 is at A = lambda ln 100 = 0.921
            (0.93, 100.0),
            (1e30, 100.0),  # no overflow
        ],
    )
    def test_by_hand(self, advantage: float, weight: float) -> None:
        log_prob = sample(-1.5).requires_grad_()
        loss = coupling_loss(log_prob, sample(advantage), 0.2)
        assert loss.item() == pytest.approx(1.5 * weight)
        loss.sum().backward()
        assert log_prob.grad is not None
        assert log_prob.grad.item() == pytest.approx(-weight)


class TestDraw:
    @pytest.mark.parametrize("followers", [1, 3, 5])
    def test_different_followers_for_each_environment_and_equally_many_for_each_follower(self, followers: int) -> None:
        population = Population(6, 6 * 4)
        env, agent = draw_coupled(population, followers, torch.Generator().manual_seed(0))
        assert env.tolist() == [e for e in range(4) for _ in range(followers)]
        of_env = agent.view(4, followers).tolist()
        assert all(len(set(row)) == followers and 0 not in row for row in of_env)
        counts = torch.bincount(agent, minlength=6)[1:]
        assert counts.max() - counts.min() <= 1

    def test_every_pair_is_drawn_sooner_or_later_alike(self) -> None:
        population, generator = Population(4, 8), torch.Generator().manual_seed(0)
        drawn = [draw_coupled(population, 2, generator) for _ in range(3000)]
        counts = torch.zeros(2, 4)
        for env, agent in drawn:
            counts.index_put_((env, agent), torch.ones(4), accumulate=True)
        assert counts[:, 0].tolist() == [0, 0]
        # 2 of 3 followers of each environment: 2000 of 3000 times, standard deviation 26
        assert (counts[:, 1:] - 2000).abs().max() < 130

    def test_how_many(self) -> None:
        assert coupled_followers(64, 1e-3, 5) == 5
        assert coupled_followers(4, 1e-3, 5) == 3
        assert coupled_followers(64, 0.0, 5) == 0


def test_each_follower_weighs_each_transition_of_the_master_with_beta() -> None:
    """Written out: every follower on every transition of the master, over the number of all other samples."""
    population, off_policy_columns = Population(6, 12), 2
    # 2 environments x 5 followers, beside 12 + 2
    assert coupling_weight(population, off_policy_columns, 1e-3) == pytest.approx(1e-3 * 10 / 14)


class TestInTheHybridLoss:
    """Four samples: two that count as ever, and the master's transition under followers 1 and 2."""

    def batch(self, advantages: Tensor) -> RolloutBatch:
        count = len(advantages)
        return RolloutBatch(
            obs=torch.zeros(count, 1),
            actions=sample(0.0, 2.1, 1.0, 1.0)[:count, None],
            agent_ids=torch.tensor([1, 0, 1, 2])[:count],
            log_probs=-HALF_LN_2PI - sample(1.5, 3.0, 1.0, 1.0)[:count].log(),
            log_mu=sample(1.0, 2.0, 1.0, 1.0)[:count].log(),
            values=sample(1.0, 1.0, 0.0, 0.0)[:count],
            targets=sample(0.0, 3.0, 50.0, -50.0)[:count],
            advantages=advantages,
            off_policy=torch.tensor([False, True, True, True])[:count],
            states=torch.zeros(0, count, 0),
            resets=torch.zeros(count, dtype=torch.bool),
        )

    def terms(self, count: int, coupling: float, **changes: Any) -> dict[str, float]:
        settings = LossSettings(off_policy_weight=0.5, value_coefficient=1.0, bound_coefficient=0.1, **changes)
        mean = sample(0.0, 2.1, 1.5, 3.0)[:count, None]
        policy = Gaussian(mean, torch.zeros(count, 1, dtype=torch.float64))
        batch = self.batch(sample(2.0, 1.0, 0.1, -0.2)[:count])
        coefficients = sample(0.3, 0.7, 9.0, 9.0)[:count]
        result = hybrid_loss(policy, sample(1.0, 2.0, 7.0, 8.0)[:count], batch, settings, coefficients, coupling)
        names = COUPLING_DIAGNOSTICS if coupling else DIAGNOSTICS
        return {"total": result.total.item(), **dict(zip(names, result.diagnostics.tolist(), strict=True))}

    def test_by_hand(self) -> None:
        """All else, the KL that sets the step size too, is as if the coupled samples were not there."""
        coupled, without = self.terms(4, 0.01), self.terms(2, 0.0)
        # means 1.5 and 3 for the action 1: -log pi = 0.125 + 1/2 ln 2 pi and 2 + 1/2 ln 2 pi; weights e^0.5 and e^-1
        first = math.exp(0.5) * (0.125 + HALF_LN_2PI)
        second = math.exp(-1.0) * (2.0 + HALF_LN_2PI)
        assert coupled.pop("coupling_loss") == pytest.approx((first + second) / 2)
        assert coupled.pop("total") == pytest.approx(without.pop("total") + 0.01 * (first + second) / 2)
        assert coupled == pytest.approx(without)

    def test_the_temperature(self) -> None:
        first = math.exp(0.2) * (0.125 + HALF_LN_2PI)
        second = math.exp(-0.4) * (2.0 + HALF_LN_2PI)
        coupled = self.terms(4, 0.01, coupling_temperature=0.5)
        assert coupled["coupling_loss"] == pytest.approx((first + second) / 2)

    def test_a_minibatch_without_coupled_samples(self) -> None:
        coupled = self.terms(2, 0.01)
        assert coupled.pop("coupling_loss") == 0.0
        assert coupled == pytest.approx(self.terms(2, 0.0))

    def test_the_critic_does_not_learn_from_them(self) -> None:
        values = sample(1.0, 2.0, 7.0, 8.0).requires_grad_()
        mean = sample(0.0, 2.1, 1.5, 3.0)[:, None].requires_grad_()
        policy = Gaussian(mean, torch.zeros(4, 1, dtype=torch.float64))
        batch = self.batch(sample(2.0, 1.0, 0.1, -0.2))
        settings = LossSettings(value_clip_eps=None)
        hybrid_loss(policy, values, batch, settings, torch.zeros(4, dtype=torch.float64), 0.01).total.backward()
        assert values.grad is not None
        assert mean.grad is not None
        assert values.grad[:2].abs().min() > 0
        assert values.grad[2:].tolist() == [0.0, 0.0]
        # d/dm of -w log pi = w (m - a), over two samples, times 0.01: e^0.5 x 0.5 and e^-1 x 2
        wanted = [0.005 * math.exp(0.5) * 0.5, 0.005 * math.exp(-1.0) * 2.0]
        assert mean.grad[2:, 0].tolist() == pytest.approx(wanted)

    def test_choices(self) -> None:
        """Two equally likely choices, and one of probability 3/4."""
        logits = torch.stack([sample(0.0, 0.0), sample(0.0, 0.0), sample(0.0, 0.0), sample(0.0, math.log(3.0))])
        batch = self.batch(sample(2.0, 1.0, 0.1, -0.2))._replace(actions=sample(0.0, 0.0, 0.0, 1.0)[:, None])
        nothing = torch.zeros(4, dtype=torch.float64)
        result = hybrid_loss(Categorical(logits), nothing, batch, LossSettings(), nothing, 0.01)
        imitation = (math.exp(0.5) * math.log(2.0) - math.exp(-1.0) * math.log(0.75)) / 2
        assert result.diagnostics[-1].item() == pytest.approx(imitation)
