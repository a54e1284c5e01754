"""Every loss with numbers worked out by hand."""

import math
from typing import Any, Literal

import pytest
import torch
from torch import Tensor

from epo_lightning.algorithm.batch import RolloutBatch
from epo_lightning.algorithm.distributions import Categorical, Gaussian
from epo_lightning.algorithm.losses import (
    DIAGNOSTICS,
    LossSettings,
    approximate_kl,
    clipped_surrogate,
    entropy_coefficients,
    hybrid_loss,
    hybrid_mean,
    on_policy_means,
    value_loss,
)

LN2 = 0.6931471805599453
HALF_LN_2PI = 0.9189385332046727


def surrogate_and_slope(ratio: float, mu: float, advantage: float) -> tuple[float, float]:
    """The loss of one sample and its derivative by the ratio r, for epsilon = 0.2, as training computes eq. 4."""
    r = torch.tensor([ratio], dtype=torch.float64, requires_grad=True)
    loss = clipped_surrogate(r / mu, mu * torch.tensor([advantage], dtype=torch.float64), 0.2)
    loss.sum().backward()
    assert r.grad is not None
    return loss.item(), r.grad.item()


def equation_4(ratio: Tensor, mu: Tensor, advantages: Tensor, clip_eps: float) -> Tensor:
    """-min(r A, clip(r, mu (1 - eps), mu (1 + eps)) A), as the paper writes it, per sample."""
    clipped = torch.maximum(torch.minimum(ratio, mu * (1 + clip_eps)), mu * (1 - clip_eps))
    return -torch.minimum(ratio * advantages, clipped * advantages)


class TestSurrogate:
    @pytest.mark.parametrize(
        ("ratio", "advantage", "loss", "slope"),
        [
            (1.5, 2.0, -2.4, 0.0),  # good and already likelier: min(3.0, 1.2 * 2) is clipped
            (0.5, 2.0, -1.0, -2.0),  # good and unlikelier: min(1.0, 0.8 * 2) pulls it back
            (1.5, -2.0, 3.0, 2.0),  # bad and likelier: min(-3.0, 1.2 * -2) pushes it down
            (0.5, -2.0, 1.6, 0.0),  # bad and already unlikelier: min(-1.0, 0.8 * -2) is clipped
            (1.1, 2.0, -2.2, -2.0),  # inside the interval nothing is clipped
            (0.9, -2.0, 1.8, 2.0),
        ],
    )
    def test_ppo_is_the_case_mu_one(self, ratio: float, advantage: float, loss: float, slope: float) -> None:
        assert surrogate_and_slope(ratio, 1.0, advantage) == pytest.approx((loss, slope))

    @pytest.mark.parametrize(
        ("ratio", "mu", "advantage", "loss", "slope"),
        [
            # mu = 3: the interval is [2.4, 3.6], far from [0.8, 1.2]
            (3.0, 3.0, 1.0, -3.0, -1.0),  # the first update: a gradient, although |mu - 1| > eps
            (3.0, 3.0, -1.0, 3.0, 1.0),
            (3.9, 3.0, 1.0, -3.6, 0.0),
            (3.9, 3.0, -1.0, 3.9, 1.0),
            (2.0, 3.0, -1.0, 2.4, 0.0),
            (2.0, 3.0, 1.0, -2.0, -1.0),
            (1.1, 3.0, -1.0, 2.4, 0.0),  # inside PPO's interval, outside this one
            # mu = 0.5: the interval is [0.4, 0.6]
            (0.5, 0.5, 1.0, -0.5, -1.0),
            (0.5, 0.5, -1.0, 0.5, 1.0),
            (0.9, 0.5, 1.0, -0.6, 0.0),
            (0.3, 0.5, -1.0, 0.4, 0.0),
            (0.3, 0.5, 1.0, -0.3, -1.0),
        ],
    )
    def test_the_clip_is_centred_on_mu(
        self, ratio: float, mu: float, advantage: float, loss: float, slope: float
    ) -> None:
        assert surrogate_and_slope(ratio, mu, advantage) == pytest.approx((loss, slope))
        written_out = equation_4(torch.tensor([ratio]), torch.tensor([mu]), torch.tensor([advantage]), clip_eps=0.2)
        assert written_out.item() == pytest.approx(loss)

    def test_the_unit_clip_freezes_what_the_centred_clip_learns_from(self) -> None:
        assert surrogate_and_slope(3.0, 1.0, 1.0) == pytest.approx((-1.2, 0.0))
        assert surrogate_and_slope(3.0, 3.0, 1.0) == pytest.approx((-3.0, -1.0))

    @pytest.mark.parametrize(
        ("ratio", "advantage", "centred", "unit"),
        [
            # a follower's action that the master takes less often than the follower: slope of the loss by r
            (0.25, 1.0, -1.0, -1.0),  # good: towards the follower
            (0.25, -1.0, 1.0, 0.0),  # bad: further away from it, or left alone
            (4.0, 1.0, -1.0, 0.0),  # the master's more than the follower's, and good: further away, or left alone
            (4.0, -1.0, 1.0, 1.0),  # bad: back towards it
        ],
    )
    def test_with_the_unit_clip_a_sample_moves_the_master_towards_its_follower_only(
        self, ratio: float, advantage: float, centred: float, unit: float
    ) -> None:
        assert surrogate_and_slope(ratio, ratio, advantage)[1] == pytest.approx(centred)
        assert surrogate_and_slope(ratio, 1.0, advantage)[1] == pytest.approx(unit)

    def test_one_minibatch_holds_samples_with_different_mu(self) -> None:
        ratio, mu = torch.tensor([[1.5, 1.5], [1.5, 0.1]]), torch.tensor([[1.0, 1.5], [2.0, 1.0]])
        advantages = torch.tensor([[1.0, 1.0], [-1.0, -1.0]])
        # clipped at 1.2; untouched; raised to 1.6 because bad; raised to 0.8 because bad
        expected = torch.tensor([[-1.2, -1.5], [1.6, 0.8]])
        torch.testing.assert_close(clipped_surrogate(ratio / mu, mu * advantages, 0.2), expected)


class TestValueLoss:
    def test_unclipped_is_the_squared_error(self) -> None:
        loss = value_loss(torch.tensor([2.0, -1.0]), torch.tensor([0.0, 1.0]), torch.tensor([9.0, 9.0]), None)
        assert loss.tolist() == [4.0, 4.0]

    @pytest.mark.parametrize(
        ("value", "target", "old", "loss", "slope"),
        [
            (2.0, 0.0, 1.0, 4.0, 4.0),  # moved away from the target: 2^2 beats 1.5^2
            (2.0, 3.0, 1.0, 2.25, 0.0),  # moved too far towards it: (1.5 - 3)^2 beats (2 - 3)^2, no gradient
            (0.0, -1.0, 1.0, 2.25, 0.0),  # the same downwards: (0.5 + 1)^2 beats 1
            (1.25, 3.0, 1.0, 3.0625, -3.5),  # within the clip both are (1.25 - 3)^2
        ],
    )
    def test_clipped_around_the_old_value(
        self, value: float, target: float, old: float, loss: float, slope: float
    ) -> None:
        v = torch.tensor([value], requires_grad=True)
        result = value_loss(v, torch.tensor([target]), torch.tensor([old]), 0.5)
        result.sum().backward()
        assert v.grad is not None
        assert (result.item(), v.grad.item()) == pytest.approx((loss, slope))


class TestEntropyCoefficients:
    @pytest.mark.parametrize(
        ("num_agents", "scale", "expected"),
        [
            (4, 0.6, [0.0, 0.3, 0.2, 0.1]),  # linspace(0.3, 0, 4) is 0.3, 0.2, 0.1, 0: the master has the 0
            (3, 1.0, [0.0, 0.5, 0.25]),
            (2, 1.0, [0.0, 0.5]),
            (1, 1.0, [0.0]),
            (3, 0.0, [0.0, 0.0, 0.0]),
        ],
    )
    def test_by_hand(self, num_agents: int, scale: float, expected: list[float]) -> None:
        torch.testing.assert_close(entropy_coefficients(num_agents, scale), torch.tensor(expected))

    def test_the_floor_is_added_for_everybody(self) -> None:
        torch.testing.assert_close(entropy_coefficients(4, 0.6, 0.05), torch.tensor([0.05, 0.35, 0.25, 0.15]))
        torch.testing.assert_close(entropy_coefficients(1, 0.6, 0.05), torch.tensor([0.05]))


class TestMeans:
    samples = torch.tensor([1.0, 2.0, 3.0, 4.0])
    off_policy = torch.tensor([False, True, False, True])

    @pytest.mark.parametrize(
        ("weight", "expected"),
        [
            (0.5, 1.75),  # (1 + 3 + 0.5 (2 + 4)) / 4
            (1.0, 2.5),
            (2.0, 4.0),  # (4 + 12) / 4
            (0.0, 1.0),  # 4 / 4: the off-policy samples stay in the count
        ],
    )
    def test_hybrid_mean(self, weight: float, expected: float) -> None:
        assert hybrid_mean(self.samples, self.off_policy, weight).item() == pytest.approx(expected)

    def test_hybrid_mean_of_sequences(self) -> None:
        # columns are sequences, the second is off-policy: (1 + 3 + 0.5 (2 + 4)) / 4
        samples, off_policy = torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([False, True])
        assert hybrid_mean(samples, off_policy, 0.5).item() == pytest.approx(1.75)

    def test_on_policy_mean(self) -> None:
        assert on_policy_means(self.samples[None], self.off_policy).item() == 2.0  # (1 + 3) / 2

    def test_on_policy_mean_of_sequences(self) -> None:
        samples, off_policy = torch.tensor([[1.0, 20.0], [4.0, 50.0]]), torch.tensor([False, True])
        assert on_policy_means(samples[None], off_policy).item() == 2.5  # (1 + 4) / 2

    def test_on_policy_mean_without_on_policy_samples_is_zero(self) -> None:
        assert on_policy_means(self.samples[None], torch.ones(4, dtype=torch.bool)).item() == 0.0

    @pytest.mark.parametrize("odd", [math.inf, math.nan])
    def test_on_policy_mean_is_deaf_to_off_policy_samples(self, odd: float) -> None:
        # exp of an off-policy log-ratio may overflow; the KL rule must not see it
        samples = torch.tensor([1.0, odd, 3.0, odd])
        assert on_policy_means(samples[None], self.off_policy).item() == 2.0


class TestApproximateKL:
    def test_by_hand(self) -> None:
        # r = 2: 2 - 1 - ln 2; r = 1/2: 1/2 - 1 + ln 2; r = 1: 0
        kl = approximate_kl(torch.tensor([LN2, -LN2, 0.0], dtype=torch.float64))
        expected = torch.tensor([0.3068528194400547, 0.1931471805599453, 0.0], dtype=torch.float64)
        torch.testing.assert_close(kl, expected)

    def test_never_negative_also_where_float32_cancels(self) -> None:
        small = torch.logspace(-12, 0.5, 5000)
        kl = approximate_kl(torch.cat([small, -small, torch.zeros(1)]))
        assert (kl >= 0).all()
        # x^2 / 2 to second order, which r - 1 - log r by subtraction would lose
        assert approximate_kl(torch.tensor(1e-3)).item() == pytest.approx(5e-7, rel=1e-2)

    def test_no_gradient_at_ratio_one(self) -> None:
        log_ratio = torch.tensor([0.0, LN2], dtype=torch.float64, requires_grad=True)
        approximate_kl(log_ratio).sum().backward()
        assert log_ratio.grad is not None
        assert log_ratio.grad.tolist() == pytest.approx([0.0, 1.0])  # r - 1

    def test_estimates_the_divergence_of_two_gaussians(self) -> None:
        # KL(N(0, 1) || N(0.5, 1)) = 0.5^2 / 2 = 0.125; the estimate's standard error here is about 5e-4
        actions = torch.randn(200_000, 1, generator=torch.Generator().manual_seed(1))
        zeros = torch.zeros_like(actions)
        log_ratio = Gaussian(zeros + 0.5, zeros).log_prob(actions) - Gaussian(zeros, zeros).log_prob(actions)
        assert approximate_kl(log_ratio).mean().item() == pytest.approx(0.125, abs=3e-3)


class TestHybridLoss:
    """Two samples: the first on-policy with r = 1.5, the second relabelled with r = 3 and mu = 2."""

    coefficients = torch.tensor([0.3, 0.7], dtype=torch.float64)

    @staticmethod
    def sample(*numbers: float) -> Tensor:
        return torch.tensor(numbers, dtype=torch.float64)

    def batch(self) -> RolloutBatch:
        # The actions sit on the means and sigma is 1, so that log pi = -1/2 ln 2 pi
        return RolloutBatch(
            obs=torch.zeros(2, 1),
            actions=self.sample(0.0, 2.1)[:, None],
            agent_ids=torch.tensor([1, 0]),
            log_probs=-HALF_LN_2PI - self.sample(1.5, 3.0).log(),
            log_mu=self.sample(1.0, 2.0).log(),
            values=self.sample(1.0, 1.0),
            targets=self.sample(0.0, 3.0),
            advantages=self.sample(2.0, 1.0),
            off_policy=torch.tensor([False, True]),
            states=torch.zeros(0, 2, 0),
            resets=torch.zeros(2, dtype=torch.bool),
        )

    def terms(self, batch: RolloutBatch, steps: int | None = None, **changes: Any) -> dict[str, float]:
        settings: dict[str, Any] = {"off_policy_weight": 0.5, "value_coefficient": 1.0, "bound_coefficient": 0.1}
        mean, values = self.sample(0.0, 2.1)[:, None], self.sample(1.0, 2.0)
        if steps:
            mean, values = mean.expand(steps, -1, -1), values.expand(steps, -1)
        log_std = torch.zeros(2, 1, dtype=torch.float64)
        chosen = LossSettings(**(settings | changes))
        result = hybrid_loss(Gaussian(mean, log_std), values, batch, chosen, self.coefficients)
        return {"total": result.total.item(), **dict(zip(DIAGNOSTICS, result.diagnostics.tolist(), strict=True))}

    by_hand = {  # noqa: RUF012
        # the diagnostics are of the on-policy sample alone: min(1.5 x 2, 1.2 x 2), 1^2 and no mean beyond 1.1
        "policy_loss": -2.4,
        "value_loss": 1.0,
        "bound_loss": 0.0,
        "entropy": 0.5 + HALF_LN_2PI,
        "approx_kl": 0.5 - 0.4054651081081644,  # the on-policy sample's 1.5 - 1 - ln 1.5
        "clip_fraction": 1.0,  # 1.5 is outside [0.8, 1.2]
        # on: min(1.5 x 2, 1.2 x 2) = 2.4; off: min(3, 2 x 1.2) = 2.4, max((2 - 3)^2, (1.2 - 3)^2) = 3.24 and 0.1 x 1^2;
        # on: -2.4 + 1/2 - 0.3 H; off: -2.4 + 3.24/2 + 0.1 - 0.7 H; ((-1.9 - 0.3 H) + 0.5 (-0.68 - 0.7 H)) / 2
        "total": -1.12 - 0.325 * (0.5 + HALF_LN_2PI),
    }

    def test_by_hand(self) -> None:
        assert self.terms(self.batch()) == pytest.approx(self.by_hand)

    @pytest.mark.parametrize("off_policy", [False, True])
    def test_the_surrogate_and_its_gradient_are_those_of_equation_4(self, off_policy: bool) -> None:
        # 200 samples around the clip: r / mu between 0.6 and 1.6, mu between 0.1 and 10 (1 on-policy)
        draw = torch.Generator().manual_seed(0)
        spread, log_mu, advantages = torch.randn(3, 200, generator=draw, dtype=torch.float64)
        log_mu = log_mu if off_policy else torch.zeros_like(log_mu)
        log_ratio = log_mu + 0.2 * spread
        nothing = torch.zeros(200, dtype=torch.float64)
        batch = self.batch()._replace(
            actions=nothing[:, None] + 1.0,
            log_probs=-HALF_LN_2PI - 0.5 - log_ratio,  # of an action one sigma away
            log_mu=log_mu,
            values=nothing,
            targets=nothing,
            advantages=advantages,
            off_policy=torch.full((200,), off_policy),
        )
        mean = torch.zeros(200, 1, dtype=torch.float64, requires_grad=True)
        policy = Gaussian(mean, torch.zeros(200, 1, dtype=torch.float64))
        total = hybrid_loss(policy, nothing, batch, LossSettings(), nothing).total
        ratio = (policy.log_prob(batch.actions) - batch.log_probs).exp()
        paper = equation_4(ratio, log_mu.exp(), advantages, 0.2).mean()
        assert total.item() == pytest.approx(paper.item())
        slopes = [torch.autograd.grad(loss, mean, retain_graph=True)[0] for loss in (total, paper)]
        torch.testing.assert_close(*slopes)
        assert 20 < (slopes[1] == 0).sum() < 180  # some are clipped, some are not

    def test_unit_clip(self) -> None:
        # off: min(3, 1.2) instead of min(3, 2.4): -1.2 + 1.62 + 0.1 = 0.52; ((-1.9) + 0.26) / 2 = -0.82
        terms = self.terms(self.batch(), off_policy_clip="unit")
        assert terms["total"] == pytest.approx(-0.82 - 0.325 * (0.5 + HALF_LN_2PI))

    @pytest.mark.parametrize(
        ("clip", "ratio", "mu", "loss", "pulls"),
        [
            # A = -1, eps = 0.2, c = 3. Centred: max(r, 0.8 mu), at most 3 mu
            ("centered", 3.0, 2.0, 3.0, True),  # r / mu = 1.5
            ("centered", 8.0, 2.0, 6.0, False),  # 4 is more than 3
            ("centered", 0.2, 0.1, 0.2, True),
            ("centered", 0.5, 0.1, 0.3, False),
            # Unit: max(r, 0.8), at most 3 mu
            ("unit", 10.0, 10.0, 10.0, True),  # before the first update, r / mu = 1, nothing is bounded
            ("unit", 29.0, 10.0, 29.0, True),
            ("unit", 31.0, 10.0, 30.0, False),
            ("unit", 0.9, 0.5, 0.9, True),
            ("unit", 1.6, 0.5, 1.5, False),
            ("unit", 0.5, 0.5, 0.8, False),  # below the unit clip, as without a bound
        ],
    )
    def test_the_dual_clip_bounds_the_ratio_to_mu(
        self, clip: Literal["centered", "unit"], ratio: float, mu: float, loss: float, pulls: bool
    ) -> None:
        batch = self.batch()._replace(
            actions=self.sample(1.0, 1.0)[:, None],
            log_probs=-HALF_LN_2PI - 0.5 - self.sample(1.0, ratio).log(),
            log_mu=self.sample(1.0, mu).log(),
            advantages=self.sample(0.0, -1.0),
        )
        mean = torch.zeros(2, 1, dtype=torch.float64, requires_grad=True)
        policy = Gaussian(mean, torch.zeros(2, 1, dtype=torch.float64))
        settings = LossSettings(off_policy_clip=clip, dual_clip=3.0, value_coefficient=0.0, bound_coefficient=0.0)
        total = hybrid_loss(policy, self.sample(0.0, 0.0), batch, settings, self.sample(0.0, 0.0)).total
        assert 2 * total.item() == pytest.approx(loss)
        total.backward()
        assert mean.grad is not None
        assert 2 * mean.grad[1].item() == pytest.approx(ratio if pulls else 0.0)  # dr / dmean = r (a - mean) / sigma^2

    def test_unclipped_values(self) -> None:
        # off: (2 - 3)^2 = 1 instead of 3.24: -2.4 + 0.5 + 0.1 = -1.8; ((-1.9) - 0.9) / 2 = -1.4
        terms = self.terms(self.batch(), value_clip_eps=None)
        assert terms["total"] == pytest.approx(-1.4 - 0.325 * (0.5 + HALF_LN_2PI))

    def test_sequences_of_equal_steps_give_the_same(self) -> None:
        flat = self.batch()
        per_step = ("obs", "actions", "log_probs", "log_mu", "values", "targets", "advantages", "resets")
        stacked = {name: torch.stack([getattr(flat, name)] * 3) for name in per_step}
        assert self.terms(flat._replace(**stacked), steps=3) == pytest.approx(self.by_hand)

    def test_the_first_update_is_the_policy_gradient(self) -> None:
        # r = mu for both: d loss / d mean = -r A (a - mean) / sigma^2 / 2, by r of 1 and 2, by A of 2 and 1
        batch = self.batch()._replace(
            actions=self.sample(1.0, 0.5)[:, None],
            log_probs=-HALF_LN_2PI - self.sample(0.5, 0.125) - self.sample(1.0, 2.0).log(),
        )
        mean = torch.zeros(2, 1, dtype=torch.float64, requires_grad=True)
        log_std = torch.zeros(2, 1, dtype=torch.float64, requires_grad=True)
        values = self.sample(1.0, 2.0).requires_grad_()
        terms = hybrid_loss(Gaussian(mean, log_std), values, batch, LossSettings(), self.coefficients)
        terms.total.backward()
        assert mean.grad is not None
        assert mean.grad.squeeze(1).tolist() == pytest.approx([-1.0, -0.5])
        assert terms.diagnostics[DIAGNOSTICS.index("approx_kl")].item() == pytest.approx(0.0, abs=1e-12)
        assert terms.diagnostics[DIAGNOSTICS.index("clip_fraction")].item() == 0.0
        assert not terms.diagnostics.requires_grad
        # d loss / d log sigma = (-r A (z^2 - 1) - c_ent) / 2
        assert log_std.grad is not None
        assert log_std.grad.squeeze(1).tolist() == pytest.approx([-0.15, 0.4])

    def test_actions_far_from_the_master_leave_the_divergence_finite(self) -> None:
        # 23 joints, sigma 0.05, a follower's action 20 sigma away, and means that moved by 0.3 sigma: the log-ratio of
        # that sample is about 23 x 20 x 0.3 = 138, beyond the 88 that exp takes in float32
        actions, mean = torch.tensor([[0.0], [1.0]]).expand(2, 23), torch.full((2, 23), 0.015)
        log_std = torch.full((2, 23), 0.05).log()
        old = Gaussian(torch.zeros(2, 23), log_std).log_prob(actions)
        behaviour = torch.stack([old[0], torch.tensor(-23 * HALF_LN_2PI)])
        batch = self.batch()._replace(actions=actions, log_probs=behaviour, log_mu=old - behaviour)
        values, coefficients = torch.zeros(2), torch.zeros(2)
        terms = hybrid_loss(Gaussian(mean, log_std), values, batch, LossSettings(), coefficients)
        # on-policy, at the old mean: log r = -23 x 0.3^2 / 2 = -1.035, so exp(-1.035) - 1 + 1.035
        assert terms.diagnostics[DIAGNOSTICS.index("approx_kl")].item() == pytest.approx(0.3902, abs=1e-3)
        assert torch.isfinite(terms.total)

    def test_choices_by_hand(self) -> None:
        # Two choices with odds 3 : 1 and 1 : 1. On-policy: choice 0, pi = 3/4, pi_old = 1/2: r = 1.5; off-policy:
        # choice 1, pi = 1/2, behaviour 1/6, mu = 2: r = 3. The same ratios as above, hence the same surrogate and
        # critic losses; no bound; H_on = 2 ln 2 - 3/4 ln 3, H_off = ln 2
        logits = torch.tensor([[math.log(3.0), 0.0], [5.0, 5.0]], dtype=torch.float64, requires_grad=True)
        batch = self.batch()._replace(
            actions=self.sample(0.0, 1.0)[:, None],
            log_probs=self.sample(1 / 2, 1 / 6).log(),
        )
        settings = LossSettings(off_policy_weight=0.5, value_coefficient=1.0, bound_coefficient=0.1)
        result = hybrid_loss(Categorical(logits), self.sample(1.0, 2.0), batch, settings, self.coefficients)
        h_on, h_off = 2 * LN2 - 0.75 * math.log(3), LN2
        # ((-2.4 + 1/2 - 0.3 H_on) + 0.5 (-2.4 + 3.24/2 - 0.7 H_off)) / 2
        assert result.total.item() == pytest.approx((-1.9 - 0.3 * h_on + 0.5 * (-0.78 - 0.7 * h_off)) / 2)
        on_policy = dict(zip(DIAGNOSTICS, result.diagnostics.tolist(), strict=True))
        expected = {name: self.by_hand[name] for name in DIAGNOSTICS} | {"entropy": h_on}
        assert on_policy == pytest.approx(expected)
        # on-policy the surrogate is clipped, which leaves the entropy: d(-c H) / dz_i = c p_i (log p_i + H)
        result.total.backward()
        assert logits.grad is not None
        slope = 0.3 * 0.25 * (math.log(0.25) + h_on) / 2
        assert logits.grad[0].tolist() == pytest.approx([-slope, slope])

    @pytest.mark.parametrize(
        ("key", "value"),
        [
            ("clip_eps", 0.0),
            ("clip_eps", 1.5),
            ("value_clip_eps", 0.0),
            ("off_policy_weight", -1.0),
            ("value_coefficient", -1.0),
            ("entropy_scale", -0.1),
            ("entropy_floor", -0.1),
            ("bound_coefficient", -1e-3),
            ("coupling_coefficient", -1e-3),
            ("coupling_temperature", 0.0),
        ],
    )
    def test_settings_out_of_range_are_refused_by_name(self, key: str, value: float) -> None:
        with pytest.raises(ValueError, match=f"model.loss.{key} must"):
            LossSettings(**{key: value})  # type: ignore[arg-type]
