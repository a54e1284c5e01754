"""The squashed Gaussian with numbers worked out by hand, and against torch's own."""

import math

import pytest
import torch
from torch.distributions import Independent, Normal, TanhTransform, TransformedDistribution

from epo_lightning.algorithm.squashed import LOG_2, SquashedGaussian, log_slope

HALF_LN_2PI = 0.9189385332046727


def test_a_draw_by_hand() -> None:
    # x = 0.5 ln 3 + 0 * e^0 = 0.5 ln 3: tanh x = (3 - 1) / (3 + 1) = 1/2, 1 - tanh^2 = 3/4
    # x = 0 + 2 * e^-ln 2 = 1 for the second entry: 1 - tanh(1)^2 = 0.41997434
    policy = SquashedGaussian(torch.tensor([[0.5 * math.log(3), 0.0]]), torch.tensor([[0.0, -LOG_2]]))
    actions, log_probs = policy.place(torch.tensor([[0.0, 2.0]]))
    assert actions[0].tolist() == pytest.approx([0.5, 0.7615942])
    first = -HALF_LN_2PI - math.log(0.75)
    second = -0.5 * 4 + LOG_2 - HALF_LN_2PI - math.log(0.41997434)
    assert log_probs.tolist() == pytest.approx([first + second])


def test_log_probs_are_those_of_torch_distributions() -> None:
    generator = torch.Generator().manual_seed(0)
    mean, log_std = 0.7 * torch.randn(2, 5, 7, 3, generator=generator, dtype=torch.float64)
    theirs = TransformedDistribution(Independent(Normal(mean, log_std.exp()), 1), [TanhTransform()])
    actions, log_probs = SquashedGaussian(mean, log_std).sample(generator)
    assert log_probs.shape == (5, 7)
    torch.testing.assert_close(log_probs, theirs.log_prob(actions))


def test_the_slope_by_hand_and_where_tanh_has_rounded_to_one() -> None:
    # x = 0: log 1 = 0. x = 0.5 ln 3: log 3/4. Far out 1 - tanh^2 = 4 e^-2|x|: ln 4 - 2 * 40
    x = torch.tensor([0.0, 0.5 * math.log(3), -0.5 * math.log(3), 40.0, -40.0], requires_grad=True)
    assert x.tanh()[3] == 1.0
    expected = [0.0, math.log(0.75), math.log(0.75), 2 * LOG_2 - 80, 2 * LOG_2 - 80]
    slope = log_slope(x)
    assert slope.tolist() == pytest.approx(expected, rel=1e-6, abs=1e-6)
    slope.sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == pytest.approx([0.0, -1.0, 1.0, -2.0, 2.0], abs=1e-6)  # -2 tanh x


def test_the_gradient_is_that_of_the_pathwise_derivative() -> None:
    noise = torch.tensor([[0.3, -1.2]], dtype=torch.float64)
    mean = torch.tensor([[0.4, -0.1]], dtype=torch.float64, requires_grad=True)
    log_std = torch.tensor([[-0.5, 0.2]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda m, s: SquashedGaussian(m, s).place(noise), (mean, log_std))
    # d log pi / d mean = 2 tanh x, as log N(x) does not change with the mean when the noise stays
    (slope,) = torch.autograd.grad(SquashedGaussian(mean, log_std).place(noise).log_probs.sum(), mean)
    torch.testing.assert_close(slope, 2 * (mean + log_std.exp() * noise).tanh())


def test_draws_have_the_density_that_they_tell() -> None:
    # E[1 / pi(a)] over draws is the size of the actions' range, 2, for any density
    policy = SquashedGaussian(torch.full((400_000, 1), 0.3), torch.full((400_000, 1), 0.1))
    actions, log_probs = policy.sample(torch.Generator().manual_seed(0))
    assert actions.abs().max() <= 1.0
    inside = actions[:, 0].abs() < 0.9  # where 1 / pi has a finite variance: of a range of 1.8
    estimate = torch.where(inside, (-log_probs).exp(), 0.0)
    # five standard errors
    assert estimate.mean().item() == pytest.approx(1.8, abs=5 * estimate.std().item() / math.sqrt(400_000))


def test_a_generator_decides_the_draw() -> None:
    policy = SquashedGaussian(torch.zeros(4, 2), torch.zeros(4, 2))
    first, second = (policy.sample(torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first.actions, second.actions)
    assert not torch.equal(first.actions, policy.sample(torch.Generator().manual_seed(4)).actions)


def test_the_mode_is_the_squashed_mean() -> None:
    policy = SquashedGaussian(torch.tensor([[0.5 * math.log(3), -50.0]]), torch.zeros(1, 2))
    assert policy.mode()[0].tolist() == pytest.approx([0.5, -1.0])
