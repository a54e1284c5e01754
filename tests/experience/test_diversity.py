"""What the reward for being told apart does to a rollout, row by row, and how its classifier learns.

Axes: T horizon, N environments, K agents, O observation, A action.
"""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from epo_lightning.algorithm.diversity import DiversitySettings
from epo_lightning.algorithm.population import MASTER
from epo_lightning.envs.base import EnvSpec
from epo_lightning.experience.diversity import Diversity
from epo_lightning.experience.rollout import RolloutDataset
from tests.support.scripted import (
    CPU,
    GAMMA,
    NETWORKS,
    A,
    K,
    N,
    O,
    T,
    agent_of,
    assert_same_rollout,
    both_networks,
    locate,
    make_dataset,
    make_policy,
    minibatches,
    units_of_reward,
    with_endings,
)  # fmt: skip

C = 0.3


def make_diversity(seed: int = 0, **settings: Any) -> Diversity:
    chosen = DiversitySettings(**{"coefficient": C, "hidden": (6,), "num_minibatches": 3, **settings})
    return Diversity(EnvSpec("Scripted", N, O, A), K, chosen, CPU, seed)


def log_q(diversity: Diversity, dataset: RolloutDataset, step: int, env: int) -> Tensor:
    """(K,) of one step of the rollout alone."""
    buffer = dataset.buffer
    told: Tensor = diversity.classifier(buffer.obs[step, env], buffer.actions[step, env]).detach()
    return told


@both_networks
def test_every_learner_has_its_own_reward(network: str) -> None:
    """A plain loop over two rollouts: one that rewards and one that does not, of the same network and environments.

    A follower's one-step targets are c log q(k | s, a) more than without, on its own steps and on the master's; those
    of the master are the same, on its own steps and on the followers'.
    """
    one_step: dict[str, Any] = {"estimator": "n_step", "n_step": 1, "coupled": 2}
    diversity = make_diversity()
    before = copy.deepcopy(diversity)
    with_it = make_dataset(with_endings(), make_policy(**NETWORKS[network]), diversity=diversity, **one_step)
    without = make_dataset(with_endings(), make_policy(**NETWORKS[network]), **one_step)
    for dataset in (with_it, without):
        dataset.collect()
    assert torch.equal(with_it.buffer.actions, without.buffer.actions)
    mine, plain = (units_of_reward(dataset, dataset.buffer.targets) for dataset in (with_it, without))
    more, bonuses = mine - plain, []
    for t in range(T):
        for env in range(N):
            agent = agent_of(env)
            wanted = 0.0 if agent == MASTER else C * log_q(before, with_it, t, env)[agent].item()
            bonuses += [] if agent == MASTER else [wanted]
            assert more[t, env].item() == pytest.approx(wanted, abs=2e-5)
    assert more[:, N : N + 4].abs().max() < 2e-5
    places, columns = locate(with_it), range(N, N + 8)
    for number, (step, env) in enumerate(places):
        t, column = divmod(number, 8)
        if columns[column] < N + 4:
            continue
        agent = int(with_it.buffer.column_agents[columns[column]])
        wanted = C * log_q(before, with_it, step, env)[agent].item()
        assert more[t, columns[column]].item() == pytest.approx(wanted, abs=2e-5)
    assert with_it.diagnostics["losses/diversity_bonus"].item() == pytest.approx(sum(bonuses) / len(bonuses))


def test_what_follows_counts_in_the_advantages_of_the_own_samples() -> None:
    """Generalised advantages of a follower, by a loop over its steps, with rewards that have the bonus on top."""
    diversity, env = make_diversity(), with_endings()
    before = copy.deepcopy(diversity)
    dataset = make_dataset(env, make_policy(), diversity=diversity, gae_lambda=0.8)
    dataset.collect()
    buffer, column = dataset.buffer, 4
    targets, values = (units_of_reward(dataset, field) for field in (buffer.targets, buffer.values))
    values = torch.cat([values[:T, column], values[T:, column]])
    advantage = 0.0
    last = dataset.policy(buffer.obs[T, [column]], dataset.policy.express(torch.tensor([2])), torch.zeros(0, 1, 0))
    following = dataset.policy.value_moments.denormalize(last.value).item()
    assert env.terminated[4, column]
    for t in reversed(range(T)):
        reward = env.reward[t, column].item() + C * log_q(before, dataset, t, column)[2].item()
        goes_on = 0.0 if env.terminated[t, column] else 1.0
        advantage = reward + GAMMA * goes_on * following - values[t].item() + GAMMA * 0.8 * goes_on * advantage
        assert targets[t, column].item() == pytest.approx(values[t].item() + advantage, abs=2e-4)
        following = values[t].item()


def test_returns_and_fitness_are_the_tasks() -> None:
    rewarded, plain = make_dataset(diversity=make_diversity(coefficient=50.0)), make_dataset()
    for dataset in (rewarded, plain):
        dataset.collect()
        dataset.collect()
    assert torch.equal(rewarded.buffer.rewards, plain.buffer.rewards)
    measured = [dataset.fitness.measure(dataset.ledger.running) for dataset in (rewarded, plain)]
    torch.testing.assert_close(*measured, equal_nan=True)
    for field in ("totals", "ended"):
        assert torch.equal(getattr(rewarded.episodes, field), getattr(plain.episodes, field))


def test_first_it_rewards_and_then_it_learns() -> None:
    """Adam by hand, minibatch by minibatch, from the classifier that gave the reward."""
    diversity = make_diversity(learning_rate=0.01)
    classifier = copy.deepcopy(diversity.classifier)
    dataset = make_dataset(diversity=diversity)
    dataset.collect()
    buffer = dataset.buffer
    told = torch.stack([classifier(buffer.obs[t, :N], buffer.actions[t, :N]) for t in range(T)]).detach()
    right = [float(told[t, env].argmax() == agent_of(env)) for t in range(T) for env in range(N)]
    assert dataset.diagnostics["losses/diversity_accuracy"].item() == pytest.approx(sum(right) / len(right))
    own = [-told[t, env, agent_of(env)].item() for t in range(T) for env in range(N)]
    assert dataset.diagnostics["losses/diversity_loss"].item() == pytest.approx(sum(own) / len(own))
    adam = torch.optim.Adam(classifier.parameters(), 0.01)
    seen = torch.Generator()
    seen.set_state(make_state_before_learning())
    order = torch.randperm(T * N, generator=seen).tolist()
    for numbers in (order[:10], order[10:20], order[20:]):
        rows = [(number // N, number % N) for number in numbers]
        losses = [-classifier(buffer.obs[t, e], buffer.actions[t, e])[agent_of(e)] for t, e in rows]
        adam.zero_grad()
        (sum(losses) / len(losses)).backward()
        adam.step()
    for mine, theirs in zip(diversity.classifier.parameters(), classifier.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-6)


def make_state_before_learning() -> Tensor:
    """Of the generator of the same dataset, after a rollout that nothing learns from."""
    dataset = make_dataset()
    dataset.collect()
    return dataset.generator.get_state()


def test_agents_that_differ_are_told_apart() -> None:
    diversity = make_diversity(hidden=(32,), learning_rate=0.01, num_minibatches=4)
    dataset = make_dataset(diversity=diversity)
    dataset.collect()
    buffer = dataset.buffer
    buffer.actions[:, :N] = 0.1 * buffer.actions[:, :N] + 0.8 * (torch.arange(N) // 2 - 1)[None, :, None]
    before = -diversity.log_probs(buffer)[:, :2, 0].mean()
    for _ in range(60):
        diversity.learn(buffer, dataset.generator)
    log_probs = diversity.log_probs(buffer)
    told = diversity.tell(log_probs, diversity.bonus(log_probs, buffer.column_agents[:N]), buffer.column_agents[:N])
    assert told["losses/diversity_accuracy"] == 1.0
    assert told["losses/diversity_loss"] < 0.2 < before
    assert -C * 0.2 < told["losses/diversity_bonus"] < 0


def test_a_restored_one_goes_on_to_the_bit() -> None:
    one = make_dataset(diversity=make_diversity())
    minibatches(one)
    saved, policy = copy.deepcopy(one.saved()), copy.deepcopy(one.policy)
    other = make_dataset(policy=policy, seed=99, diversity=make_diversity(seed=99))
    other.restore(saved)
    for dataset in (one, other):
        minibatches(dataset)
    assert_same_rollout(one, other)
    assert one.diversity is not None
    assert other.diversity is not None
    for mine, theirs in zip(one.diversity.parameters, other.diversity.parameters, strict=True):
        assert torch.equal(mine, theirs)


def test_one_of_other_widths_begins_anew_and_another_step_size_holds() -> None:
    first, wider, slower = make_diversity(), make_diversity(hidden=(7,)), make_diversity(seed=3, learning_rate=1e-6)
    dataset = make_dataset(diversity=first)
    dataset.collect()
    fresh = copy.deepcopy(wider.parameters)
    wider.restore(first.saved())
    assert all(map(torch.equal, wider.parameters, fresh))
    slower.restore(copy.deepcopy(first.saved()))
    before = [parameter.clone() for parameter in slower.parameters]
    slower.learn(dataset.buffer, torch.Generator().manual_seed(0))
    steps = [(a - b).abs().max().item() for a, b in zip(slower.parameters, before, strict=True)]
    assert 0 < max(steps) < 1e-5


def test_its_weights_are_the_same_on_every_rank_and_nobody_elses_random_numbers() -> None:
    state = torch.get_rng_state()
    one = make_diversity(seed=5)
    torch.randn(3)
    other = make_diversity(seed=5)
    torch.set_rng_state(state)
    make_diversity(seed=6)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(map(torch.equal, one.parameters, other.parameters))


def test_without_it_there_is_nothing_of_it() -> None:
    dataset = make_dataset()
    dataset.collect()
    assert "diversity" not in dataset.saved()
    assert not [name for name in dataset.diagnostics if "diversity" in name]
    assert "diversity" not in dataset.seconds
