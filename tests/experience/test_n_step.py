"""Transitions of n steps in the replay, and exploration. Shape legend: N environments, O observation, A action."""

import io
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from epo_lightning.envs.base import EnvSpec, StepResult, VectorEnv
from epo_lightning.experience.n_step import ExplorationSettings, MixedReplayDataset, NStepBuffer
from epo_lightning.experience.replay import NStepTransitions, ReplaySettings, ReplayShape
from epo_lightning.experience.saved_state import require_readable
from epo_lightning.experience.world import World
from epo_lightning.learner.deterministic import DeterministicActor, PQLNetworkSettings
from epo_lightning.limits import Mistake

CPU = torch.device("cpu")
GAMMA = 0.5
DIED, CUT = {4: [0]}, {5: [1], 7: [1]}
"""The steps at which an episode of an environment ends."""


def buffer(capacity: int = 20, n_step: int = 3) -> NStepBuffer:
    return NStepBuffer(ReplayShape(capacity, 2, obs_dim=1, act_dim=1), CPU, n_step, GAMMA)


def fill(ring: NStepBuffer, first: int, last: int) -> NStepBuffer:
    """Steps of two environments: observation 100 env + step, action -step, reward 1 + step.

    Environment 0 dies at step 4; environment 1 is cut at steps 5 and 7, with the final observations -5 and -7.
    """
    for step in range(first, last):
        envs = torch.arange(2.0)[:, None]
        dead, cut = torch.zeros(2, 2, dtype=torch.bool)
        dead[DIED.get(step, [])] = True
        cut[CUT.get(step, [])] = True
        result = StepResult(
            100 * envs + step + 1, torch.full((2,), 1.0 + step), dead, cut, torch.zeros(2), torch.full((2, 1), -step)
        )
        ring.insert(100 * envs + step, torch.full((2, 1), -float(step)), result)
    return ring


def stored(ring: NStepBuffer) -> list[tuple[float, ...]]:
    """Of every step and environment: observation, action, return, what follows, its discount."""
    rows = ring.gather(torch.arange(len(ring)))
    columns = (rows.obs[:, 0], rows.actions[:, 0], rows.rewards, rows.next_obs[:, 0], rows.discount)
    return [tuple(row) for row in torch.stack(columns, 1).tolist()]


class TestInsert:
    def test_every_step_once_with_the_rewards_of_its_own_episode(self) -> None:
        ring = fill(buffer(), 0, 10)
        assert ring.filled == 8  # the last two wait
        rows = stored(ring)
        # 1 + step, half of the next one's, a quarter of the one after
        assert rows[0::2] == [
            (0, 0, 1 + 1 + 0.75, 3, 0.125),
            (1, -1, 2 + 1.5 + 1, 4, 0.125),
            (2, -2, 3 + 2 + 1.25, rows[4][3], 0.0),  # dies on the third step: what follows means nothing
            (3, -3, 4 + 2.5, rows[6][3], 0.0),
            (4, -4, 5, rows[8][3], 0.0),
            (5, -5, 6 + 3.5 + 2, 8, 0.125),
            (6, -6, 7 + 4 + 2.25, 9, 0.125),
            (7, -7, 8 + 4.5 + 2.5, 10, 0.125),
        ]
        assert rows[1::2] == [
            (100, 0, 2.75, 103, 0.125),
            (101, -1, 4.5, 104, 0.125),
            (102, -2, 6.25, 105, 0.125),
            (103, -3, 4 + 2.5 + 1.5, -5, 0.125),  # cut on the third step: its final observation follows
            (104, -4, 5 + 3, -5, 0.25),
            (105, -5, 6, -5, 0.5),
            (106, -6, 7 + 4, -7, 0.25),
            (107, -7, 8, -7, 0.5),
        ]

    def test_one_step(self) -> None:
        rows = stored(fill(buffer(n_step=1), 3, 6))
        assert rows[0] == (3, -3, 4, 4, 0.5)
        assert (rows[2][2], rows[2][4]) == (5, 0.0)
        assert rows[5] == (105, -5, 6, -5, 0.5)

    def test_the_ring_turns(self) -> None:
        ring = fill(buffer(capacity=3), 0, 10)
        assert sorted(row[0] for row in stored(ring)[::2]) == [5, 6, 7]


class TestSavedState:
    @pytest.mark.parametrize("at", [0, 1, 2, 3, 5, 9])
    def test_goes_on_to_the_bit_with_the_steps_that_wait(self, at: int) -> None:
        file, other = io.BytesIO(), buffer(capacity=4)
        torch.save(fill(buffer(capacity=4), 0, at).state_dict(), file)
        file.seek(0)
        other.load_state_dict(torch.load(file, weights_only=True))
        assert stored(fill(other, at, 12)) == stored(fill(buffer(capacity=4), 0, 12))
        require_readable(other.state_dict(), "replay", "")

    @pytest.mark.parametrize("n_step", [1, 2, 5])
    def test_another_n_goes_on_with_the_steps_that_wait(self, n_step: int) -> None:
        other = buffer(n_step=n_step)
        other.load_state_dict(fill(buffer(), 0, 7).state_dict())
        rows = [row[0] for row in stored(fill(other, 7, 14))[::2]]
        # 0 to 4 are stored; of 5 and 6, which wait, as many as a shorter window has
        assert rows == [*range(5), *range(max(5, 7 - n_step + 1), 14 - n_step + 1)]

    def test_cut_ends_what_waits_as_a_time_limit_does(self) -> None:
        ring = fill(buffer(), 0, 3)
        ring.cut()
        rows = stored(fill(ring, 8, 11))[::2]
        assert rows[1:] == [(1, -1, 2 + 1.5, 3, 0.25), (2, -2, 3, 3, 0.5), (8, -8, 9 + 5 + 2.75, 11, 0.125)]
        buffer().cut()


class Still(VectorEnv):
    """Nothing happens, and nothing ends."""

    def __init__(self, envs: int, restores: bool = True) -> None:
        self.spec = EnvSpec("Still", envs, obs_dim=1, act_dim=1, restores=restores)

    def reset(self) -> Tensor:
        return torch.zeros(self.spec.num_envs, 1)

    def step(self, actions: Tensor) -> StepResult:
        zero, no = torch.zeros(2, self.spec.num_envs), torch.zeros(self.spec.num_envs, dtype=torch.bool)
        return StepResult(self.reset(), zero[0], no, no, zero[1])

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        pass


def dataset(envs: int, rank: int = 0, restores: bool = True, **settings: Any) -> MixedReplayDataset:
    """An actor that stands still, and warms up for three env steps of ten."""
    torch.manual_seed(0)
    policy = DeterministicActor(1, 1, PQLNetworkSettings(actor=()))
    for parameter in policy.parameters():
        torch.nn.init.zeros_(parameter)
    replay = ReplaySettings(**{"capacity_per_env": 200, "batch_size": 4, "warmup": 3, "horizon": 10, **settings})
    ring = NStepBuffer(ReplayShape(replay.capacity_per_env, envs, 1, 1), CPU, 3, GAMMA)
    world = World(Still(envs, restores), rank=rank, world_size=2)
    return MixedReplayDataset(world, policy, replay, 2, ring, ExplorationSettings(0.05, 0.8))


class TestExploration:
    def test_the_noise_of_an_environment_is_of_its_own_size_on_every_rank(self) -> None:
        torch.testing.assert_close(dataset(2, rank=1).sigmas, torch.tensor([0.55, 0.8]))
        data = dataset(2, rank=0)
        actions = torch.stack([data.explore(torch.zeros(2, 1)) for _ in range(2000)])[..., 0]
        assert actions.abs().max() <= 1
        # a standard error is sigma / sqrt(2 x 2,000), 1.6 percent
        assert actions.std(0).tolist() == pytest.approx([0.05, 0.3], rel=0.08)

    def test_warm_up_is_uniform_and_learning_begins_with_it(self) -> None:
        batches = [len(batch) for batch in dataset(8)]
        assert batches == [0, 0] + [2] * 8
        assert [len(batch) for batch in dataset(8, warmup=1)] == [0, 0] + [2] * 8  # nothing is stored before

    def test_minibatches(self) -> None:
        data = dataset(8)
        batch = list(data)[-1]
        assert all(isinstance(minibatch, NStepTransitions) and len(minibatch.obs) == 4 for minibatch in batch)
        assert torch.equal(data.minibatch(15).tensors["discount"], batch[-1].discount)

    @pytest.mark.parametrize(("restores", "discounts"), [(True, [0.125, 0.125]), (False, [0.25, 0.5])])
    def test_where_episodes_cannot_go_on_the_steps_that_wait_end(self, restores: bool, discounts: list[float]) -> None:
        first, second = dataset(1, restores=restores), dataset(1, restores=restores)
        list(first)
        second.restore(first.saved())
        list(second)
        told = second.buffer.gather(torch.arange(len(second.buffer))).discount
        assert told[7:11].tolist() == [0.125, *discounts, 0.125]

    def test_settings_out_of_range(self) -> None:
        with pytest.raises(Mistake, match=r"model\.exploration\.sigma_max must be at least 0\.05"):
            ExplorationSettings(sigma_max=0.01)
        with pytest.raises(Mistake, match=r"model\.exploration\.sigma_min"):
            ExplorationSettings(sigma_min=-1.0)


def test_what_waits_has_the_size_that_is_told_before() -> None:
    shape = ReplayShape(20, 2, obs_dim=3, act_dim=1)
    ring = NStepBuffer(shape, CPU, 4, GAMMA)
    assert NStepBuffer.waiting_nbytes(shape, 4) == ring._window.untyped_storage().nbytes() == 4 * 4 * 2 * 10
