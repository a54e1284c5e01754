"""Losses of policies that share nothing, by hand."""

import math

import pytest
import torch

from epo_lightning.algorithm.distributions import Categorical, Gaussian
from epo_lightning.algorithm.independent import (
    DIAGNOSTICS,
    Coefficients,
    IndependentBatch,
    IndependentLossSettings,
    independent_losses,
)
from epo_lightning.limits import Mistake


def batch(actions: torch.Tensor, log_probs: list[list[float]], advantages: list[list[float]]) -> IndependentBatch:
    old = torch.tensor(log_probs)
    zeros = torch.zeros_like(old)
    return IndependentBatch(
        zeros[..., None], actions, old, zeros, zeros + 1.0, torch.tensor(advantages), torch.zeros(0, 2, 2, 0), None
    )


def coefficients(clip: list[float], entropy: list[float], critic: list[float], bounds: list[float]) -> Coefficients:
    return Coefficients(*(torch.tensor(each) for each in (clip, entropy, critic, bounds)))


def test_each_policy_has_its_own_clip_and_weights() -> None:
    # log N(0; 0, 1) = -log(2 pi) / 2: the ratio is 1.5 for the first sample and 1 for the second one, of both policies
    now = -0.5 * math.log(2 * math.pi)
    data = batch(torch.zeros(2, 2, 1), [[now - math.log(1.5), now]] * 2, [[1.0, -2.0]] * 2)
    policy = Gaussian(torch.zeros(2, 2, 1), torch.zeros(2, 1, 1))
    given = coefficients([0.1, 0.3], [0.0, 0.5], [2.0, 4.0], [0.0, 0.0])
    losses = independent_losses(policy, torch.zeros(2, 2), data, given, None)
    # actor: -(min(1.5, 1.1) 1 + 1 (-2)) / 2 = 0.45 and -(1.3 - 2) / 2 = 0.35; critic: (0 - 1)^2 = 1
    entropy = 0.5 + 0.5 * math.log(2 * math.pi)
    torch.testing.assert_close(losses.total, torch.tensor([0.45 + 1.0, 0.35 + 2.0 - 0.5 * entropy]))
    kl = (1.5 - 1 - math.log(1.5)) / 2
    wanted = [[0.45, 0.35], [1.0, 1.0], [0.0, 0.0], [entropy, entropy], [kl, kl], [0.5, 0.5]]
    torch.testing.assert_close(losses.diagnostics, torch.tensor(wanted))
    assert len(DIAGNOSTICS) == len(wanted)


def test_means_beyond_the_bounds_cost_by_their_own_weight() -> None:
    mean = torch.tensor([[[1.6], [0.0]], [[1.6], [-1.3]]])
    data = batch(mean.clone(), [[-0.5 * math.log(2 * math.pi)] * 2] * 2, [[0.0, 0.0]] * 2)
    given = coefficients([0.2, 0.2], [0.0, 0.0], [0.0, 0.0], [1.0, 10.0])
    losses = independent_losses(Gaussian(mean, torch.zeros(2, 1, 1)), torch.zeros(2, 2), data, given, None)
    # (1.6 - 1.1)^2 / 2 and 10 ((1.6 - 1.1)^2 + (1.3 - 1.1)^2) / 2
    torch.testing.assert_close(losses.total, torch.tensor([0.125, 1.45]))


def test_choices_and_the_clipped_critic() -> None:
    logits = torch.log(torch.tensor([0.25, 0.75])).expand(2, 2, 2)
    data = batch(torch.ones(2, 2, 1), [[math.log(0.75)] * 2, [math.log(0.5)] * 2], [[1.0, 1.0]] * 2)
    given = coefficients([0.2, 0.2], [1.0, 0.0], [2.0, 2.0], [1.0, 1.0])
    losses = independent_losses(Categorical(logits), torch.full((2, 2), 0.9), data, given, 0.2)
    # critic: max((0.9 - 1)^2, (0.2 - 1)^2) = 0.64; ratios 1 and 1.5, clipped to 1.2
    entropy = -(0.25 * math.log(0.25) + 0.75 * math.log(0.75))
    torch.testing.assert_close(losses.total, torch.tensor([-1.0 + 0.64 - entropy, -1.2 + 0.64]))


def test_policies_of_sequences_have_means_over_steps_and_samples() -> None:
    torch.manual_seed(0)
    mean, values = torch.randn(2, 3, 4, 1), torch.randn(2, 3, 4)
    flat = IndependentBatch(
        torch.zeros(2, 12, 1), torch.randn(2, 12, 1), torch.randn(2, 12) - 1, torch.randn(2, 12), torch.randn(2, 12),
        torch.randn(2, 12), torch.zeros(0, 2, 12, 0), None,
    )  # fmt: skip
    fields = flat._asdict()
    split = {name: fields[name].unflatten(1, (3, 4)) for name in ("obs", "actions", "log_probs", "values", "targets")}
    sequences = flat._replace(**split, advantages=flat.advantages.unflatten(1, (3, 4)))
    given = coefficients([0.1, 0.3], [0.1, 0.2], [1.0, 2.0], [1.0, 2.0])
    one = independent_losses(Gaussian(mean, torch.zeros(2, 1, 1, 1)), values, sequences, given, 0.2)
    two = independent_losses(Gaussian(mean.flatten(1, 2), torch.zeros(2, 1, 1)), values.flatten(1, 2), flat, given, 0.2)
    torch.testing.assert_close(one.total, two.total)
    torch.testing.assert_close(one.diagnostics, two.diagnostics)


@pytest.mark.parametrize(("name", "value"), [("clip_eps", 0.0), ("value_clip_eps", 0.0), ("entropy_coefficient", -1.0)])
def test_settings_out_of_range_are_named(name: str, value: float) -> None:
    with pytest.raises(Mistake, match=rf"model\.loss\.{name}"):
        IndependentLossSettings(**{name: value})
