"""Rollouts in an environment whose every number is known, and what the network says of them row by row.

Axes: T horizon, N environments, K agents, O observation, A action, C off-policy columns.
"""

import copy
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from epo_lightning.algorithm.batch import RolloutBatch
from epo_lightning.algorithm.population import Population
from epo_lightning.envs.base import EnvSpec, StepResult, VectorEnv
from epo_lightning.experience.diversity import Diversity
from epo_lightning.experience.rollout import RolloutDataset
from epo_lightning.experience.settings import RolloutSettings
from epo_lightning.experience.world import World
from epo_lightning.learner.networks import LatentActorCritic, NetworkSettings

K, N, O, A, T = 3, 6, 3, 2, 5
GAMMA = 0.9
NETWORKS = {"mlp": {}, "lstm": {"lstm_units": 5}, "separate critic, lstm": {"lstm_units": 5, "separate_critic": True}}
both_networks = pytest.mark.parametrize("network", ["mlp", "lstm"])
CPU = torch.device("cpu")


class Scripted(VectorEnv):
    """Plays tables: whatever is done, observations, rewards and endings of step i are row i."""

    def __init__(self, num_envs: int = N, steps: int = 4 * T, seed: int = 0) -> None:
        self.spec = EnvSpec("Scripted", num_envs, O, A)
        generator = torch.Generator().manual_seed(seed)
        self.obs = 2 + 3 * torch.randn(steps + 1, num_envs, O, generator=generator)
        self.final_obs: Tensor | None = 5 * torch.randn(steps, num_envs, O, generator=generator)
        self.reward = torch.randn(steps, num_envs, generator=generator)
        self.successes = torch.zeros(steps, num_envs)
        self.terminated = torch.zeros(steps, num_envs, dtype=torch.bool)
        self.truncated = torch.zeros(steps, num_envs, dtype=torch.bool)
        self.actions: list[Tensor] = []
        self.clock = 0

    def reset(self) -> Tensor:
        return self.obs[0]

    def step(self, actions: Tensor) -> StepResult:
        now = self.clock
        self.actions.append(actions.clone())
        self.clock += 1
        return StepResult(
            self.obs[now + 1],
            self.reward[now],
            self.terminated[now],
            self.truncated[now],
            self.successes[now],
            None if self.final_obs is None else self.final_obs[now],
            {"clock": torch.tensor(float(now)), "number": torch.arange(float(self.spec.num_envs))},
        )

    def state_dict(self) -> dict[str, Any]:
        return {"clock": self.clock}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.clock = state["clock"]


def with_endings() -> Scripted:
    """Every kind of ending at the start, in the middle and at the end of the first two rollouts, for every agent."""
    env = Scripted()
    for start in (0, T):
        env.terminated[start + 1, 0] = env.terminated[start + 2, 2] = env.terminated[start + 4, 4] = True
        env.truncated[start + 2, 1] = env.truncated[start, 3] = env.truncated[start + 4, 3] = True
        env.truncated[start + 4, 1] = env.truncated[start + 3, 5] = True
    return env


def make_policy(num_agents: int = K, **network: Any) -> LatentActorCritic:
    """Agents that differ, and normalisers that have seen something."""
    torch.manual_seed(1)
    policy = LatentActorCritic(O, A, num_agents, NetworkSettings(gene_dim=2, hidden=(8,), **network))
    with torch.no_grad():
        policy.log_std.normal_(0.0, 0.3)
        policy.action_head.weight.mul_(3)
        policy.obs_moments.update(1 + 2 * torch.randn(50, O))
        policy.update_value_moments(4 + 3 * torch.randn(50))
    return policy


def make_dataset(
    env: VectorEnv | None = None,
    policy: LatentActorCritic | None = None,
    seed: int = 0,
    world_size: int = 1,
    coupled: int = 0,
    diversity: Diversity | None = None,
    **settings: Any,
) -> RolloutDataset:
    policy = policy or make_policy()
    env = env or with_endings()
    chosen = {"horizon": T, "num_epochs": 2, "num_minibatches": 4, "gamma": GAMMA, "off_policy_ratio": 2.0} | settings
    population = Population(len(policy.genes), env.spec.num_envs, chosen.get("master_share"))
    world = World(env, seed=seed, world_size=world_size)
    return RolloutDataset(world, policy, population, RolloutSettings(**chosen), coupled, diversity)


def minibatches(dataset: RolloutDataset) -> list[RolloutBatch]:
    """One iteration: a rollout, and what `num_epochs` passes over it give out."""
    (rollout,) = dataset
    assert rollout is dataset.buffer
    return [batch for _ in range(dataset.settings.num_epochs) for batch in dataset.one_pass()]


class Reference:
    """What the network says of one row at a time: no batches, no time axis, parameters of the moment it was made."""

    def __init__(self, policy: LatentActorCritic) -> None:
        self.policy = copy.deepcopy(policy)

    @torch.no_grad()
    def __call__(self, obs: Tensor, agent: int, state: Tensor) -> tuple[Tensor, float, Tensor]:
        """Mean (A,), value in units of the reward, and new state, of raw obs (O,) under `agent`'s gene."""
        policy = self.policy
        moments = policy.obs_moments
        x = (obs - moments.mean.float()) / (moments.var.float() + moments.epsilon).sqrt()
        x = x.clamp(-policy.settings.obs_clip, policy.settings.obs_clip)
        output = policy(x[None], policy.express(torch.tensor([agent])), state)
        value = output.value * policy.value_moments.std() + policy.value_moments.mean.float()
        return output.actions.mean[0], value.item(), output.state

    def fresh_state(self) -> Tensor:
        return self.policy.initial_state(1)


def agent_of(env: int) -> int:
    return env // (N // K)


def replay(
    reference: Reference, env: Scripted, column: int, start: int = 0, state: Tensor | None = None
) -> tuple[Tensor, list[float], list[float], Tensor]:
    """(means, values, values of final observations, state) of T steps of one environment under its own gene."""
    state = reference.fresh_state() if state is None else state
    means, values, finals = [], [], []
    agent = agent_of(column)
    for t in range(start, start + T):
        mean, value, following = reference(env.obs[t, column], agent, state)
        means.append(mean)
        values.append(value)
        if env.final_obs is None:
            finals.append(value)
        else:
            finals.append(reference(env.final_obs[t, column], agent, following)[1])
        state = reference.fresh_state() if (env.terminated | env.truncated)[t, column] else following
    values.append(reference(env.obs[start + T, column], agent, state)[1])
    return torch.stack(means), values, finals, state


def units_of_reward(dataset: RolloutDataset, normalised: Tensor) -> Tensor:
    return dataset.policy.value_moments.denormalize(normalised)


def recomputed(dataset: RolloutDataset, batch: RolloutBatch) -> tuple[Tensor, Tensor]:
    """Log-probabilities and values of a minibatch, as `training_step` has them."""
    rows = dataset.policy.express(batch.agent_ids)
    output = dataset.policy(batch.obs, rows, batch.states, batch.resets)
    return output.actions.log_prob(batch.actions), output.value


def grid(steps: int, columns: range) -> list[tuple[int, int]]:
    return [(t, column) for t in range(steps) for column in columns]


def locate(dataset: RolloutDataset) -> list[tuple[int, int]]:
    """Step and environment where each off-policy sample was made; no two samples have the same action."""
    actions = dataset.buffer.actions
    places = []
    for t, column in grid(T, range(N, actions.shape[1])):
        hits = (actions[:, :N] == actions[t, column]).all(-1).nonzero().tolist()
        assert len(hits) == 1
        places.append((hits[0][0], hits[0][1]))
    return places


def assert_same_rollout(one: RolloutDataset, other: RolloutDataset) -> None:
    for name, value in vars(one.buffer).items():
        if isinstance(value, Tensor) and "final_values" not in name:  # where nothing is truncated it holds old values
            assert torch.equal(value, getattr(other.buffer, name)), name
