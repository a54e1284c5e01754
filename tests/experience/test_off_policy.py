"""The stream of minibatches from a replay buffer. Shape legend: N environments, T env steps of an iteration."""

import copy
import math
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from epo_lightning.envs.base import EnvSpec, StepResult, VectorEnv
from epo_lightning.experience.off_policy import ReplayDataset, replay_shape, stream_needs
from epo_lightning.experience.replay import ReplayBuffer, ReplaySettings, ReplayShape, Transitions
from epo_lightning.experience.world import World
from epo_lightning.learner.q_networks import SACNetworkSettings, SquashedActor
from epo_lightning.limits import Mistake
from tests.support.layers import last_linear

CPU, ENVS = torch.device("cpu"), 3


class Counter(VectorEnv):
    """Observes 100 env + its clock, which every fifth step cuts; writes into one observation and knows the final ones.

    The reward is the first action; the log tells the clock.
    """

    def __init__(self, tells_final_obs: bool = True, ill_from: int = 10**9, envs: int = ENVS) -> None:
        self.spec = EnvSpec("Counter", envs, obs_dim=1, act_dim=2, max_episode_steps=5)
        self.tells_final_obs, self.ill_from = tells_final_obs, ill_from
        self.clock = self.steps = 0
        self.obs = torch.zeros(envs, 1)

    def _observe(self) -> Tensor:
        return self.obs.copy_(100.0 * torch.arange(len(self.obs))[:, None] + self.clock)

    def reset(self) -> Tensor:
        self.clock = 0
        return self._observe()

    def step(self, actions: Tensor) -> StepResult:
        self.clock, self.steps = self.clock + 1, self.steps + 1
        final_obs = self._observe().clone()
        truncated = torch.full((len(self.obs),), self.clock == 5)
        if self.clock == 5:
            self.clock = 0
        reward = actions[:, 0].clone()
        if self.steps >= self.ill_from:
            reward[1] = torch.nan
        no = torch.zeros_like(truncated)
        final = final_obs if self.tells_final_obs else None
        return StepResult(self._observe(), reward, no, truncated, torch.ones_like(reward), final, {"clock": self.clock})

    def state_dict(self) -> dict[str, Any]:
        return {"clock": self.clock, "steps": self.steps}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.clock, self.steps = state["clock"], state["steps"]


def dataset(env: Counter | None = None, updates: int = 2, **settings: Any) -> ReplayDataset[Transitions]:
    torch.manual_seed(0)
    env = env or Counter()
    policy = SquashedActor(1, 2, SACNetworkSettings(actor=(4,)))
    sizes = {"capacity_per_env": 8, "batch_size": 5, "warmup": 3, "horizon": 2, **settings}
    memory, world = ReplaySettings(**sizes), World(env)
    return ReplayDataset(world, policy, memory, updates, ReplayBuffer(replay_shape(world, memory), CPU))


def stored(data: ReplayDataset[Transitions]) -> Transitions:
    return data.buffer.gather(torch.arange(len(data.buffer)))


def head(data: ReplayDataset[Transitions]) -> nn.Linear:
    """The last layer of the actor."""
    assert isinstance(data.policy, SquashedActor)
    return last_linear(data.policy.mlp)


class TestIteration:
    def test_one_batch_an_env_step_and_none_to_learn_from_while_warming_up(self) -> None:
        data = dataset()
        assert len(data) == 2
        batches = [[len(batch) for batch in data] for _ in range(3)]
        assert batches == [[0, 0], [2, 2], [2, 2]]  # three env steps of warm-up, and then there is what to learn from
        assert data.env_steps == 3 * 2 * ENVS
        assert data.iteration_env_steps == 2 * ENVS

    def test_minibatches_are_drawn_from_what_is_stored(self) -> None:
        data = dataset(batch_size=500)
        list(data)
        for batch in data:
            seen = {tuple(row) for row in torch.cat([stored(data).obs, stored(data).actions], 1).tolist()}
            for minibatch in batch:
                assert len(minibatch.obs) == 500
                assert {tuple(row) for row in torch.cat([minibatch.obs, minibatch.actions], 1).tolist()} == seen
            assert not torch.equal(batch[0].obs, batch[1].obs)

    def test_the_network_learns_between_env_steps(self) -> None:
        data = dataset(warmup=1, horizon=4)
        for batch in data:
            assert batch
            with torch.no_grad():  # as an update would: from now on always the first corner
                head(data).bias.copy_(torch.tensor([50.0, 50.0, -50.0, -50.0]))
        assert stored(data).actions[ENVS:].tolist() == [[1.0, 1.0]] * 3 * ENVS
        assert stored(data).actions[:ENVS].abs().max() < 1.0

    def test_transitions_of_an_environment_that_writes_into_its_own_observation(self) -> None:
        data = dataset(horizon=8)
        list(data)
        got = stored(data)
        clocks = [0, 1, 2, 3, 4, 0, 1, 2]
        expected = [[100.0 * env + clock] for clock in clocks for env in range(ENVS)]
        assert got.obs.tolist() == expected
        assert got.next_obs.tolist() == [[value[0] + 1] for value in expected]  # after 4 comes the final observation 5
        assert not got.terminated.any()
        assert torch.equal(got.rewards, got.actions[:, 0])

    def test_episodes_are_counted(self) -> None:
        data = dataset(horizon=8)
        list(data)
        assert data.ledger.has_finished.all()
        returns = stored(data).rewards.reshape(8, ENVS)[:5].sum(0)
        torch.testing.assert_close(data.ledger.last[0], returns.to(data.ledger.last.dtype))
        assert data.ledger.last[1].tolist() == [5.0] * ENVS
        assert data.diagnostics["env/clock"].item() == pytest.approx((1 + 2 + 3 + 4 + 0 + 1 + 2 + 3) / 8)
        assert set(data.seconds) == {"env", "inference"}

    def test_the_normaliser_takes_every_observation_in_once(self) -> None:
        data = dataset(horizon=7, warmup=2)
        list(data)
        assert data.policy.obs_moments.count == 7 * ENVS
        torch.testing.assert_close(data.policy.obs_moments.mean, stored(data).obs.double().mean(0))

    def test_random_actions_are_uniform_and_those_afterwards_the_policys(self) -> None:
        data = dataset(Counter(envs=2000), warmup=2, horizon=4)
        list(data)
        actions = stored(data).actions.reshape(4, -1)
        # five standard errors of the second moment, 1/3 with variance 4/45
        first = actions[:2].square()
        assert first.mean().item() == pytest.approx(1 / 3, abs=5 * math.sqrt(4 / 45 / first.numel()))
        # a new actor's: tanh of a Gaussian of e^-2.5
        assert actions[2:].std().item() == pytest.approx(math.exp(-2.5), rel=0.05)


class TestMissingFinalObservation:
    def test_is_told_once(self) -> None:
        data = dataset(Counter(tells_final_obs=False), horizon=4)
        list(data)
        assert not data.lacks_final_obs
        with pytest.warns(UserWarning, match="Counter gives no final_obs"):
            list(data)
        assert data.lacks_final_obs
        assert stored(data).next_obs.reshape(-1, ENVS)[4].tolist() == [4.0, 104.0, 204.0]


class TestIll:
    def test_an_environment_is_named(self) -> None:
        data = dataset(Counter(ill_from=3))
        list(data)
        with pytest.raises(Mistake, match=r"Counter returned .* not finite in environments \[1\]"):
            list(data)

    def test_a_network_is_not_the_environments_fault(self) -> None:
        data = dataset(warmup=1)
        with torch.no_grad():
            head(data).bias.fill_(torch.nan)
        list(data)  # rewards are the actions


class TestMinibatch:
    def test_what_was_learned_from_with_its_environments(self) -> None:
        data = dataset()
        list(data)
        batches = [minibatch for batch in data for minibatch in batch]
        for index, batch in enumerate(batches):
            again = data.minibatch(index)
            assert all(torch.equal(again.tensors[name], value) for name, value in batch._asdict().items())
            assert again.envs.tolist() == (batch.obs[:, 0] // 100).tolist()
            assert not again.sequences


class TestSavedState:
    def test_goes_on_to_the_bit(self) -> None:
        first, second = dataset(), dataset()
        for _ in range(3):
            list(first)
        second.policy.load_state_dict(first.policy.state_dict())
        second.restore(copy.deepcopy(first.saved()))  # a checkpoint holds copies
        for _ in range(3):
            drawn = [[minibatch for batch in data for minibatch in batch] for data in (first, second)]
            assert len(drawn[0]) == 4
            for mine, theirs in zip(*drawn, strict=True):
                assert all(torch.equal(a, b) for a, b in zip(mine, theirs, strict=True))
        assert first.env_steps == second.env_steps


def test_what_a_stream_needs_by_hand() -> None:
    """8 x 32 rows of 2 x 3 + 1 + 2 numbers and their own number of 8 bytes; ten bytes a step of each environment."""
    shape, settings = ReplayShape(100, 5, obs_dim=3, act_dim=1), ReplaySettings(100, batch_size=32, horizon=16)
    assert stream_needs(shape, settings, 8) == [
        (256 * (8 + 4 * 9), "model.replay.batch_size", 32),
        (16 * 5 * 10, "model.replay.horizon", 16),
    ]
    assert stream_needs(shape, settings, 64)[0] == (2048 * 44, "model.optimizer.updates_per_step", 64)
