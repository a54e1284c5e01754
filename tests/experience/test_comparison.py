"""Followers beside the master: divergences against a network that is asked row by row, weights against hand counts.

Axes: T horizon, N environments, K agents.
"""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Categorical, Normal, kl_divergence

from epo_lightning.algorithm.population import Population
from epo_lightning.envs.base import StepResult
from epo_lightning.envs.classic import Probe
from epo_lightning.experience.rollout import RolloutDataset
from epo_lightning.experience.settings import RolloutSettings
from epo_lightning.experience.world import World
from epo_lightning.learner.networks import LatentActorCritic, NetworkSettings

K = 3


class Short(Probe):
    """Episodes of three steps, so that they end within a rollout, not at its end; what is done does not matter."""

    def __init__(self, num_envs: int, discrete: bool) -> None:
        super().__init__(num_envs, torch.device("cpu"), seed=0, max_steps=3)
        self.spec = replace(self.spec, discrete=discrete)

    def step(self, actions: Tensor) -> StepResult:
        return super().step(torch.zeros(len(actions), self.spec.act_dim))


def collected(num_envs: int, horizon: int, agents: int = K, discrete: bool = False, **network: Any) -> RolloutDataset:
    """The second rollout of agents that differ a lot, also in their log-stds."""
    torch.manual_seed(1)
    env = Short(num_envs, discrete)
    settings = NetworkSettings(gene_dim=2, hidden=(8,), **network)
    policy = LatentActorCritic(env.spec.obs_dim, env.spec.act_dim, agents, settings, discrete)
    with torch.no_grad():
        policy.log_std.normal_(0.0, 0.3)
        policy.action_head.weight.mul_(3)
    rollout = RolloutSettings(horizon=horizon, num_minibatches=2, off_policy_ratio=agents - 1)
    dataset = RolloutDataset(World(env, seed=0), policy, Population(agents, num_envs), rollout)
    dataset.collect()
    dataset.collect()
    return dataset


def divergence(dataset: RolloutDataset, env: int, step: int) -> float:
    """KL(agent || master) in one state: the agent's own way there is gone again, one row at a time."""
    buffer, policy = dataset.buffer, dataset.policy
    agent = env // buffer.population.envs_per_agent
    state = buffer.states[:, [env]]
    for t in range(step + 1):
        state = state * (~buffer.resets[t, env])
        obs = buffer.obs[t, env][None]
        mine = policy(obs, policy.express(torch.tensor([agent])), state)
        masters = policy(obs, policy.express(torch.tensor([0])), state)
        state = mine.state
    own, other = (Normal(d.mean, d.log_std.exp()) for d in (mine.actions, masters.actions))
    return kl_divergence(own, other).sum().item()


@pytest.mark.parametrize("network", [{}, {"lstm_units": 5}, {"lstm_units": 5, "separate_critic": True}])
@pytest.mark.parametrize(
    ("envs", "horizon", "looks"),
    [
        (6, 5, [(0, 0), (1, 2)]),  # two environments an agent: at the beginning and two steps later
        (3, 4, [(0, 0)]),
        (3 * 7, 3, [(0, 0), (1, 1), (2, 2), (3, 0), (4, 1), (5, 2), (6, 0)]),  # more than steps: from the first again
    ],
)
@torch.no_grad()
def test_the_divergence_is_the_mean_over_states_of_the_agent_itself(
    envs: int, horizon: int, looks: list[tuple[int, int]], network: dict[str, Any]
) -> None:
    dataset = collected(envs, horizon, **network)
    told = dataset.of_agents["kl_to_master"]
    block = envs // K
    by_hand = [
        sum(divergence(dataset, agent * block + env, step) for env, step in looks) / len(looks) for agent in (1, 2)
    ]
    assert told.isnan().tolist() == [True, False, False]
    assert told[1:].tolist() == pytest.approx(by_hand, rel=1e-4)
    assert min(by_hand) > 0.01


@torch.no_grad()
def test_entropy_of_numbers_by_hand() -> None:
    dataset = collected(6, 4)
    # of a Gaussian it is the same in every state: 1/2 log(2 pi e s^2), summed over the action's entries
    wanted = (dataset.policy.log_std + 0.5 * math.log(2 * math.pi * math.e)).sum(1)
    assert dataset.of_agents["entropy"].tolist() == pytest.approx(wanted.tolist(), rel=1e-5)


@torch.no_grad()
def test_an_agent_like_the_master_is_no_distance_away() -> None:
    dataset = collected(6, 4, lstm_units=5)
    dataset.policy.genes[2] = dataset.policy.genes[0]
    dataset.policy.log_std[2] = dataset.policy.log_std[0]
    dataset.collect()
    told = dataset.of_agents["kl_to_master"].tolist()
    assert told[2] == pytest.approx(0.0, abs=1e-6)
    assert told[1] > 0.01


@torch.no_grad()
def test_at_most_32_environments_of_an_agent_are_looked_at() -> None:
    few, many = collected(2 * 32, 4, agents=2), collected(2 * 40, 4, agents=2)
    assert few.comparison is not None
    assert many.comparison is not None
    rows: list[int] = []
    many.policy.actor.register_forward_hook(lambda module, args, output: rows.append(len(args[0])))
    many.comparison.tell(None, many.autocast)
    assert rows == [2 * 2 * 32]  # of two agents, once for both policies


@torch.no_grad()
def test_weights_of_each_follower_by_hand() -> None:
    dataset = collected(6, 4)
    buffer = dataset.buffer
    assert dataset.comparison is not None
    # two environments an agent; 4 x 4 samples: 13 of agent 1, and three of agent 2 with weights 1, 1 and 2
    sources = torch.full((4, 4), 2)
    sources[0, 0], sources[1, 1], sources[3, 3] = 4, 5, 4
    log_mu = torch.full((4, 4), -700.0)
    log_mu[0, 0], log_mu[1, 1], log_mu[3, 3] = 0.0, 0.0, math.log(2.0)
    buffer.log_mu[:, 6:] = log_mu
    ess = dataset.comparison.tell(sources, dataset.autocast)["ess"]
    # (1 + 1 + 2)^2 / (3 (1 + 1 + 4)); equal weights, however small, all count
    assert ess.tolist() == pytest.approx([math.nan, 1.0, 16 / 18], nan_ok=True, rel=1e-6)


@torch.no_grad()
def test_who_gave_no_sample_has_no_weight() -> None:
    dataset = collected(6, 4)
    assert dataset.comparison is not None
    ess = dataset.comparison.tell(torch.full((4, 4), 2), dataset.autocast)["ess"]
    assert ess.isnan().tolist() == [True, False, True]
    assert set(dataset.comparison.tell(None, dataset.autocast)) == {"entropy", "kl_to_master"}


@torch.no_grad()
def test_the_samples_are_those_that_the_master_got() -> None:
    dataset = collected(6, 4)
    buffer, ess = dataset.buffer, dataset.of_agents["ess"]
    follower = torch.full((4, 4), -1)
    for t in range(4):
        for column in range(4):
            # an observation tells where it is from
            same = (buffer.obs[:-1, :6] == buffer.obs[t, 6 + column]).all(-1).nonzero()
            (follower[t, column],) = {int(env) // 2 for _, env in same}
    for agent in (1, 2):
        weights: Tensor = buffer.log_mu[:, 6:][follower == agent].double().exp()
        wanted = weights.sum() ** 2 / (len(weights) * weights.square().sum())
        assert ess[agent].item() == pytest.approx(wanted.item(), rel=1e-6)


@torch.no_grad()
def test_choices_too() -> None:
    dataset = collected(6, 4, discrete=True)
    policy, buffer, told = dataset.policy, dataset.buffer, dataset.of_agents
    by_hand, entropies = [], []
    for agent in range(K):
        found, entropy = [], []
        for env, step in ((2 * agent, 0), (2 * agent + 1, 2)):
            both = policy(buffer.obs[step, [env, env]], policy.express(torch.tensor([agent, 0])), torch.zeros(0, 2, 0))
            own, other = (Categorical(logits=logits) for logits in both.actions.logits)
            found.append(kl_divergence(own, other).item())
            entropy.append(own.entropy().item())
        by_hand.append(sum(found) / 2)
        entropies.append(sum(entropy) / 2)
    assert told["kl_to_master"][1:].tolist() == pytest.approx(by_hand[1:], rel=1e-4)
    assert told["entropy"].tolist() == pytest.approx(entropies, rel=1e-4)


def test_one_agent_has_nobody_to_compare_with() -> None:
    dataset = collected(4, 4, agents=1)
    assert dataset.comparison is None
    assert dataset.of_agents == {}
