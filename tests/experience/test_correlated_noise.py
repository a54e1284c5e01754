"""Exploration noise that goes on from step to step."""

import pytest
import torch
from torch.distributions import Normal

from epo_lightning.algorithm.distributions import CorrelatedSampler, Gaussian
from tests.support.scripted import NETWORKS, N, T, both_networks, make_dataset, make_policy, recomputed

BETA = 0.6  # and sqrt(1 - beta^2) is 0.8


def test_noise_by_hand() -> None:
    """In environment 1 an episode starts with step 2."""
    actions, log_probs = torch.zeros(4, 2, 3), torch.zeros(4, 2)
    log_std, mean = torch.tensor([[0.1, -0.3, 0.5]]).expand(2, 3), torch.tensor([1.0, -2.0])[:, None].expand(2, 3)
    resets = torch.zeros(5, 2, dtype=torch.bool)
    resets[2, 1] = True
    draws = torch.empty(4, 2, 3).normal_(generator=torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(0)
    sampler = CorrelatedSampler(actions, log_probs, log_std, generator, torch.full((2,), BETA), resets)
    for t in range(4):
        told = sampler.sample(t, Gaussian(mean, log_std))
        assert torch.equal(told, actions[t].clamp(-1, 1))
    noise = draws.clone()
    noise[1] = BETA * draws[0] + 0.8 * draws[1]
    noise[2, 0] = BETA * noise[1, 0] + 0.8 * draws[2, 0]
    noise[3, 0] = BETA * noise[2, 0] + 0.8 * draws[3, 0]
    noise[3, 1] = BETA * draws[2, 1] + 0.8 * draws[3, 1]
    torch.testing.assert_close(actions, mean + log_std.exp() * noise)
    torch.testing.assert_close(log_probs, Normal(mean, log_std.exp()).log_prob(actions).sum(-1))


@both_networks
def test_everybodys_noise_goes_on(network: str) -> None:
    plain, correlated = (
        make_dataset(policy=make_policy(**NETWORKS[network]), noise_correlation=beta) for beta in (0.0, BETA)
    )
    for _ in range(2):  # the second rollout starts anew
        plain.collect()
        correlated.collect()
        one, other = plain.buffer.actions[:, :N], correlated.buffer.actions[:, :N]
        assert torch.equal(one[0], other[0])
        started = plain.buffer.resets[1:T, :N]
        same = (one[1:] == other[1:]).all(-1)
        assert torch.equal(same, started)
        assert started.any()


@both_networks
def test_a_share_of_each_agents_environments_has_it_and_the_others_do_as_without(network: str) -> None:
    plain, mixed = (
        make_dataset(policy=make_policy(**NETWORKS[network]), noise_correlation=beta, correlated_share=0.5)
        for beta in (0.0, BETA)
    )
    plain.collect()
    mixed.collect()
    anew = (plain.buffer.actions[1:, :N] == mixed.buffer.actions[1:, :N]).all(-1).all(0)
    # environments of an agent in turn: the second of two goes on, whoever it is
    first = mixed.population.first_envs()[mixed.agent_ids]
    assert torch.equal(~anew, (torch.arange(N) - first) % 2 == 1)


def test_the_noise_of_an_only_agent_is_correlated_too() -> None:
    plain, correlated = (
        make_dataset(policy=make_policy(1), off_policy_ratio=0.0, noise_correlation=beta) for beta in (0.0, BETA)
    )
    plain.collect()
    correlated.collect()
    same = (plain.buffer.actions[1:] == correlated.buffer.actions[1:]).all(-1)
    assert torch.equal(same, plain.buffer.resets[1:T])


@both_networks
def test_the_ratio_is_one_before_the_first_update(network: str) -> None:
    dataset = make_dataset(policy=make_policy(**NETWORKS[network]), noise_correlation=BETA)
    dataset.collect()
    for batch in dataset.one_pass():
        log_probs, _ = recomputed(dataset, batch)
        torch.testing.assert_close(log_probs - batch.log_probs, batch.log_mu, rtol=0, atol=2e-5)


def test_it_is_as_wide_as_before_and_as_correlated_as_told() -> None:
    actions, log_probs = torch.zeros(40, 3000, 1), torch.zeros(40, 3000)
    zeros = torch.zeros(3000, 1)
    resets = torch.zeros(41, 3000, dtype=torch.bool)
    generator = torch.Generator().manual_seed(0)
    sampler = CorrelatedSampler(actions, log_probs, zeros, generator, torch.full((3000,), BETA), resets)
    for t in range(40):
        sampler.sample(t, Gaussian(zeros, zeros))
    # 3000 products of two such numbers have a mean with a deviation of at most sqrt(2 / 3000)
    for lag, wanted in ((0, 1.0), (1, BETA), (3, BETA**3)):
        assert (actions[39] * actions[39 - lag]).mean().item() == pytest.approx(wanted, abs=0.13)
