"""Distributions over actions with numbers worked out by hand, and against torch's own."""

import math

import pytest
import torch
from torch.distributions import Categorical as TorchCategorical
from torch.distributions import Normal, kl_divergence

from epo_lightning.algorithm.distributions import Categorical, CategoricalSampler, Gaussian, GaussianSampler

LN2 = 0.6931471805599453
HALF_LN_2PI = 0.9189385332046727


class TestGaussian:
    def test_log_prob_by_hand(self) -> None:
        # z = (3 - 1) / 2 = 1: -1/2 - ln 2 - 1/2 ln 2 pi; and a second entry at its mean with sigma 1: -1/2 ln 2 pi
        mean, log_std = torch.tensor([[1.0, -4.0]]), torch.tensor([[LN2, 0.0]])
        log_prob = Gaussian(mean, log_std).log_prob(torch.tensor([[3.0, -4.0]]))
        assert log_prob.shape == (1,)
        assert log_prob.item() == pytest.approx(-0.5 - LN2 - 2 * HALF_LN_2PI, rel=1e-6)

    def test_log_prob_is_that_of_torch_distributions(self) -> None:
        generator = torch.Generator().manual_seed(0)
        mean, actions = torch.randn(2, 5, 7, 3, generator=generator, dtype=torch.float64)
        log_std = torch.randn(7, 3, generator=generator, dtype=torch.float64)  # broadcast over the sequence
        expected = Normal(mean, log_std.exp().expand_as(mean)).log_prob(actions).sum(-1)
        torch.testing.assert_close(Gaussian(mean, log_std).log_prob(actions), expected)

    def test_entropy_by_hand(self) -> None:
        # 1/2 + 1/2 ln 2 pi + ln sigma for sigma = 1 and sigma = 2
        entropy = Gaussian(torch.zeros(2, 2), torch.tensor([[0.0, LN2], [LN2, LN2]])).entropy()
        torch.testing.assert_close(entropy, torch.tensor([1 + 2 * HALF_LN_2PI + LN2, 1 + 2 * HALF_LN_2PI + 2 * LN2]))

    def test_entropy_is_that_of_torch_distributions(self) -> None:
        log_std = torch.linspace(-3, 2, 12, dtype=torch.float64).view(4, 3)
        expected = Normal(torch.zeros_like(log_std), log_std.exp()).entropy().sum(-1)
        torch.testing.assert_close(Gaussian(torch.zeros_like(log_std), log_std).entropy(), expected)

    def test_bound_loss_by_hand(self) -> None:
        # (1.6 - 1.1)^2 + (2.1 - 1.1)^2, and nothing for entries inside
        mean = torch.tensor([[1.6, -2.1, 1.0], [-1.1, 1.1, 0.0]], dtype=torch.float64, requires_grad=True)
        loss = Gaussian(mean, torch.zeros(2, 3)).bound_loss()
        torch.testing.assert_close(loss, torch.tensor([1.25, 0.0], dtype=torch.float64))
        loss.sum().backward()
        assert mean.grad is not None
        # 2 x the excess, with the sign that brings the mean back
        expected = torch.tensor([[1.0, -2.0, 0.0], [0.0, 0.0, 0.0]], dtype=torch.float64)
        torch.testing.assert_close(mean.grad, expected)
        far = Gaussian(torch.tensor([[3.0]]), torch.zeros(1, 1))
        torch.testing.assert_close(far.bound_loss(soft_bound=2.0), torch.tensor([1.0]))

    def test_kl_by_hand(self) -> None:
        # of N(1, 2) to N(0, 1): -ln 2 + (4 + 1) / 2 - 1/2, of N(0, 1) to N(1, 2): ln 2 + (1 + 1) / 8 - 1/2
        wide = Gaussian(torch.tensor([[1.0, 5.0]]), torch.tensor([[LN2, -1.0]]))
        narrow = Gaussian(torch.tensor([[0.0, 5.0]]), torch.tensor([[0.0, -1.0]]))
        assert wide.kl(narrow).item() == pytest.approx(2 - LN2, rel=1e-6)
        assert narrow.kl(wide).item() == pytest.approx(LN2 - 0.25, rel=1e-6)
        assert wide.kl(wide).item() == 0.0

    def test_kl_is_that_of_torch_distributions(self) -> None:
        generator = torch.Generator().manual_seed(0)
        mean, other = torch.randn(2, 5, 7, 3, generator=generator, dtype=torch.float64)
        log_std, other_log_std = torch.randn(2, 7, 3, generator=generator, dtype=torch.float64)
        theirs = kl_divergence(Normal(mean, log_std.exp()), Normal(other, other_log_std.exp())).sum(-1)
        torch.testing.assert_close(Gaussian(mean, log_std).kl(Gaussian(other, other_log_std)), theirs)

    def test_halves(self) -> None:
        first, second = Gaussian(torch.arange(4.0)[:, None], torch.arange(4.0, 8.0)[:, None]).halves()
        assert (first.mean.flatten().tolist(), first.log_std.flatten().tolist()) == ([0, 1], [4, 5])
        assert (second.mean.flatten().tolist(), second.log_std.flatten().tolist()) == ([2, 3], [6, 7])

    def test_mode_and_first_steps(self) -> None:
        policy = Gaussian(torch.tensor([[[3.0, -0.5]], [[0.25, -7.0]]]), torch.zeros(1, 2))
        assert policy.mode().tolist() == [[[1.0, -0.5]], [[0.25, -1.0]]]
        assert policy.steps(1).mode().tolist() == [[[1.0, -0.5]]]


class TestCategorical:
    odds = Categorical(torch.tensor([[math.log(3.0), 0.0], [7.0, 7.0]], dtype=torch.float64))
    """3 : 1, and even odds."""

    def test_log_prob_by_hand(self) -> None:
        log_probs = self.odds.log_prob(torch.tensor([[0.0], [1.0]]))
        assert log_probs.tolist() == pytest.approx([math.log(0.75), -LN2])

    def test_entropy_by_hand(self) -> None:
        # -3/4 ln 3/4 - 1/4 ln 1/4 = 2 ln 2 - 3/4 ln 3
        assert self.odds.entropy().tolist() == pytest.approx([2 * LN2 - 0.75 * math.log(3), LN2])

    def test_kl_by_hand(self) -> None:
        # 3 : 1 against even odds: 3/4 ln (3/2) + 1/4 ln (1/2); the other way round: 1/2 ln (2/3) + 1/2 ln 2
        first, second = self.odds.halves()
        assert first.kl(second).tolist() == pytest.approx([0.75 * math.log(1.5) - 0.25 * LN2])
        assert second.kl(first).tolist() == pytest.approx([0.5 * math.log(2 / 3) + 0.5 * LN2])
        assert first.kl(first).tolist() == [0.0]

    def test_as_torch_distributions(self) -> None:
        generator = torch.Generator().manual_seed(0)
        logits = torch.randn(5, 7, 3, generator=generator, dtype=torch.float64)
        choices = torch.randint(3, (5, 7), generator=generator)
        theirs = TorchCategorical(logits=logits)
        torch.testing.assert_close(Categorical(logits).log_prob(choices[..., None].float()), theirs.log_prob(choices))
        torch.testing.assert_close(Categorical(logits).entropy(), theirs.entropy())
        other = torch.randn(5, 7, 3, generator=generator, dtype=torch.float64)
        kl = kl_divergence(theirs, TorchCategorical(logits=other))
        torch.testing.assert_close(Categorical(logits).kl(Categorical(other)), kl)

    def test_a_choice_that_is_all_but_impossible(self) -> None:
        sure = Categorical(torch.tensor([[0.0, -300.0]]))
        assert sure.entropy().item() == 0.0
        assert sure.log_prob(torch.tensor([[1.0]])).item() == -300.0

    def test_mode_first_steps_and_no_bounds(self) -> None:
        policy = Categorical(torch.tensor([[[0.0, 2.0, 1.0]], [[9.0, 2.0, 1.0]]]))
        assert policy.mode().tolist() == [[1], [0]]
        assert policy.mode().dtype == torch.int64
        assert policy.steps(1).mode().tolist() == [[1]]
        assert policy.bound_loss().tolist() == [[0.0], [0.0]]

    def test_of_equally_likely_choices_the_first_whatever_their_last_bits(self) -> None:
        assert Categorical(torch.tensor([[0.1, 0.70000005, 0.7], [0.1, 0.7, 0.70000005]])).mode().tolist() == [1, 1]


class TestSamplers:
    def test_gaussian_noise_becomes_actions_and_their_densities(self) -> None:
        actions, log_probs = torch.zeros(4, 3, 2), torch.zeros(4, 3)
        log_std = torch.tensor([[0.0, -1.0], [1.0, 0.5], [-2.0, 0.0]])
        sampler = GaussianSampler(actions, log_probs, log_std, torch.Generator().manual_seed(0))
        noise = actions.clone()
        for t in range(4):
            policy = Gaussian(torch.full((3, 2), 0.3 * t), log_std)
            given = sampler.sample(t, policy)
            torch.testing.assert_close(actions[t], 0.3 * t + log_std.exp() * noise[t])
            torch.testing.assert_close(given, actions[t].clamp(-1, 1))
            torch.testing.assert_close(log_probs[t], policy.log_prob(actions[t]))

    def test_choices_are_stored_with_their_probabilities(self) -> None:
        actions, log_probs = torch.zeros(2, 5, 1), torch.zeros(2, 5)
        sampler = CategoricalSampler(actions, log_probs, torch.zeros(5, 0), torch.Generator().manual_seed(0))
        policy = Categorical(torch.tensor([0.0, 1.0, -1.0]).expand(5, 3))
        for t in range(2):
            choices = sampler.sample(t, policy)
            assert choices.dtype == torch.int64
            assert actions[t].squeeze(-1).tolist() == choices.tolist()
            torch.testing.assert_close(log_probs[t], policy.log_prob(choices[:, None]))

    def test_choices_come_as_often_as_they_are_likely(self) -> None:
        rows = 60_000
        actions, log_probs = torch.zeros(1, rows, 1), torch.zeros(1, rows)
        sampler = CategoricalSampler(actions, log_probs, torch.zeros(rows, 0), torch.Generator().manual_seed(0))
        probabilities = torch.tensor([0.6, 0.3, 0.1])
        choices = sampler.sample(0, Categorical(probabilities.log().expand(rows, 3)))
        # five standard errors: 5 sqrt(0.6 x 0.4 / 60000) = 0.01
        torch.testing.assert_close(choices.bincount() / rows, probabilities, atol=0.01, rtol=0)
