"""Rollouts of policies that share nothing. Shape legend: K agents, n environments of each, T steps."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from epo_lightning.algorithm.population import Population
from epo_lightning.envs.base import StepResult
from epo_lightning.envs.classic import Probe
from epo_lightning.experience.independent import IndependentDataset
from epo_lightning.experience.settings import OnPolicySettings
from epo_lightning.experience.world import World
from epo_lightning.learner.actor_critic import ActorCriticSettings
from epo_lightning.learner.hyper_parameters import HyperParameters
from epo_lightning.learner.stacked_networks import StackedActorCritic
from epo_lightning.limits import Mistake

K, n, T = 2, 2, 3


class Paid(Probe):
    """Every step pays 1; a time limit ends the episode of environment 1 after the second step, nothing else ends."""

    knows_the_end = True

    def __init__(self, num_envs: int) -> None:
        super().__init__(num_envs, torch.device("cpu"), 0, max_steps=100)
        self.count = 0

    def step(self, actions: Tensor) -> StepResult:
        result, ones = super().step(actions), torch.ones(self.spec.num_envs)
        self.count += 1
        cut = torch.zeros(len(ones), dtype=torch.bool)
        cut[1] = self.count == 2
        final = torch.full_like(result.obs, 0.5) if self.knows_the_end else None
        return result._replace(reward=ones, terminated=cut & False, truncated=cut, final_obs=final)


def dataset(gamma: list[float], env: Paid, correlation: float = 0.0, **network: Any) -> IndependentDataset:
    torch.manual_seed(0)
    policy = StackedActorCritic(2, 2, K, ActorCriticSettings(**{"hidden": (4,), **network}))
    table = HyperParameters(K, {"gamma": 0.9, "num_epochs": 3.0})
    table.write(torch.arange(K), {"gamma": torch.tensor(gamma)})
    settings = OnPolicySettings(horizon=T, num_minibatches=2, gae_lambda=1.0, noise_correlation=correlation)
    return IndependentDataset(World(env), policy, Population(K, K * n), settings, table)


def constant_values(data: IndependentDataset, values: list[float]) -> None:
    """Agent k's critic says `values[k]`, whatever it sees; normalisers as they begin."""
    with torch.no_grad():
        data.policy.value_head.weight.zero_()
        data.policy.value_head.bias.copy_(torch.tensor(values)[:, None] / math.sqrt(1 + 1e-5))


def test_noise_that_goes_on_is_everybodys() -> None:
    plain, correlated = (dataset([0.9, 0.9], Paid(K * n), beta) for beta in (0.0, 0.6))
    plain.collect()
    correlated.collect()
    assert torch.equal(plain.buffer.actions[0], correlated.buffer.actions[0])
    same = (plain.buffer.actions[1:] == correlated.buffer.actions[1:]).all(-1)
    started = plain.buffer.resets[1:T]  # environment 1, after its second step
    assert started.sum() == 1
    assert torch.equal(same, started)


def test_targets_have_the_discount_and_the_critic_of_their_own_agent() -> None:
    data = dataset([0.5, 1.0], Paid(K * n))
    constant_values(data, [8.0, 100.0])
    data.collect()
    told = data.policy.value_moments.denormalize(data.buffer.targets)
    # lambda 1: 1 + g (1 + g (1 + g V)); agent 0: V = 8, its second environment's episode ends after two steps
    first, cut = [1 + 0.5 * (1 + 0.5 * (1 + 0.5 * 8)), 1 + 0.5 * (1 + 0.5 * 8), 1 + 0.5 * 8], [1 + 0.5 * 5, 5.0, 5.0]
    wanted = torch.tensor([first, cut, [103.0, 102.0, 101.0], [103.0, 102.0, 101.0]]).T
    torch.testing.assert_close(told, wanted, rtol=1e-4, atol=1e-4)
    assert data.policy.value_moments.mean[1] == pytest.approx(102.0, rel=1e-5)
    for k in range(K):
        own = data.buffer.advantages[:, k * n : (k + 1) * n]
        torch.testing.assert_close(own.mean(), torch.zeros(()), rtol=0, atol=1e-5)
        torch.testing.assert_close(own.var(correction=0), torch.ones(()), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("network", [{}, {"lstm_units": 3}])
def test_without_a_final_observation_the_value_of_the_last_one_stands(network: dict[str, Any]) -> None:
    env = Paid(K * n)
    env.knows_the_end = False
    data = dataset([0.9, 0.9], env, **network)
    with pytest.warns(UserWarning, match="gives no final_obs"):
        data.collect()
    # normalised values: the rollout's own were put into units of the new moments afterwards
    moments = data.policy.value_moments
    said = moments.denormalize(data.buffer.values[:-1])[1, 1] / math.sqrt(1 + 1e-5)
    torch.testing.assert_close(data.buffer.final_values[1, 1], said, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("network", [{}, {"lstm_units": 3}])
def test_a_minibatch_that_is_asked_for_again_is_the_one_that_was_learned_from(network: dict[str, Any]) -> None:
    data = dataset([0.9, 0.9], Paid(K * n), **network)
    for _ in data:
        learned = [*data.one_pass(), *data.one_pass(torch.tensor([1]))]
    assert len(learned) == 4
    for index, batch in enumerate(learned):
        again = data.minibatch(index)
        samples = 1 if data.policy.recurrent else 0
        obs = batch.obs.transpose(0, 1).flatten(1, 2) if data.policy.recurrent else batch.obs.flatten(0, 1)
        assert torch.equal(again.tensors["obs"], obs)
        assert len(again.envs) == again.tensors["obs"].shape[samples]
        owners = set((again.envs // n).tolist())
        assert owners == ({0, 1} if index < 2 else {1})
        buffer = data.buffer.obs[:-1]
        for place, env in enumerate(again.envs.tolist()):
            own = again.tensors["obs"][:, place] if data.policy.recurrent else again.tensors["obs"][[place]]
            assert all(bool((buffer[:, env] == row).all(-1).any()) for row in own)


def test_orders_differ_between_agents_and_passes() -> None:
    data = dataset([0.9, 0.9], Paid(K * n))
    for _ in data:
        orders = []
        for _ in range(20):
            list(data.one_pass())
            units = torch.cat(data._passes[-2:], dim=1)
            orders.append(units - units.new_tensor([[0], [n]]))
    assert any(not torch.equal(order[0], order[1]) for order in orders)
    assert len({tuple(order[0].tolist()) for order in orders}) > 10
    assert data.forward_passes == K * n * T * (1 + 3 * 3)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda: Population(K, 5), "divided among 2 agents; use e.g. 4 or 6"),
        (lambda: OnPolicySettings(minibatch_size=4).minibatches(6, 1), "must divide the 6 samples"),
    ],
)
def test_sizes_that_do_not_go_into_each_other(change: Callable[[], object], words: str) -> None:
    with pytest.raises(Mistake, match=words):
        change()
