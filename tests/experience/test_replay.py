"""The replay buffer. Shape legend: N environments, C capacity per environment, O observation, A action, B samples."""

import io
import math
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor

from epo_lightning.envs.base import StepResult
from epo_lightning.experience.replay import ReplayBuffer, ReplaySettings, ReplayShape, Transitions
from epo_lightning.experience.saved_state import require_readable
from epo_lightning.limits import Mistake
from tests.support.chance import seeded

CPU = torch.device("cpu")
SHAPE = ReplayShape(capacity_per_env=3, num_envs=4, obs_dim=2, act_dim=1)


def numbered(step: int, offset: float, entries: int, envs: int = 4) -> Tensor:
    """(N, entries): 10 step + env + offset in every entry, the second one negative."""
    column = 10.0 * step + torch.arange(envs) + offset
    return torch.stack([column, -column], dim=1)[:, :entries]


def outcome(step: int, **fields: Any) -> StepResult:
    """Nobody ends; the next observation is that of the next step."""
    no = torch.zeros(4, dtype=torch.bool)
    plain = {"obs": numbered(step + 1, 0, 2), "reward": numbered(step, 0.5, 1)[:, 0], "successes": torch.zeros(4)}
    return StepResult(**(plain | {"terminated": no, "truncated": no} | fields))


def sample(buffer: ReplayBuffer, batch: int, generator: torch.Generator) -> Transitions:
    return buffer.gather(buffer.draw(batch, generator))


def filled(steps: int, shape: ReplayShape = SHAPE) -> ReplayBuffer:
    buffer = ReplayBuffer(shape, CPU)
    for step in range(steps):
        buffer.insert(numbered(step, 0, 2), numbered(step, 0.25, 1), outcome(step))
    return buffer


def everything(buffer: ReplayBuffer) -> Transitions:
    """What is stored, in the order of the first observation entry."""
    stored = buffer.gather(torch.arange(len(buffer)))
    order = stored.obs[:, 0].argsort()
    return Transitions(*(field[order] for field in stored))


def stored_steps(buffer: ReplayBuffer) -> list[int]:
    """The numbers of the steps that are stored, in the order of their rows."""
    stored = buffer.gather(torch.arange(len(buffer)))
    return [int(place) // 10 for place in stored.obs[:: buffer.shape.num_envs, 0]]


class TestInsert:
    def test_fields_come_back_together(self) -> None:
        got = everything(filled(2))
        places = [0, 1, 2, 3, 10, 11, 12, 13]
        assert got.obs.tolist() == [[place, -place] for place in places]
        assert got.actions.tolist() == [[place + 0.25] for place in places]
        assert got.rewards.tolist() == [place + 0.5 for place in places]
        assert got.next_obs.tolist() == [[place + 10, -place - 10] for place in places]
        assert got.terminated.tolist() == [False] * 8

    def test_the_oldest_step_makes_room(self) -> None:
        buffer = filled(5)
        assert (buffer.filled, buffer.position, len(buffer)) == (3, 2, 12)
        assert sorted({int(x) // 10 for x in everything(buffer).obs[:, 0]}) == [2, 3, 4]
        assert (filled(3).filled, filled(3).position) == (3, 0)

    def test_what_follows_an_end(self) -> None:
        """Environment 1 terminates; 2 is truncated, and no first observation of a new episode follows."""
        buffer = ReplayBuffer(SHAPE, CPU)
        terminated, truncated = torch.zeros(2, 4, dtype=torch.bool)
        terminated[1] = truncated[2] = True
        final_obs = torch.full((4, 2), torch.nan)  # only rows that are truncated are read
        final_obs[2] = torch.tensor([77.0, 78.0])
        result = outcome(0, terminated=terminated, truncated=truncated, final_obs=final_obs)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            buffer.insert(numbered(0, 0, 2), numbered(0, 0.25, 1), result)
        got = everything(buffer)
        assert got.terminated.tolist() == [False, True, False, False]
        assert got.next_obs.tolist() == [[10, -10], [11, -11], [77, 78], [13, -13]]

    def test_without_a_final_observation_the_last_one_stands_for_it(self) -> None:
        buffer, truncated = ReplayBuffer(SHAPE, CPU), torch.tensor([False, False, True, False])
        buffer.insert(numbered(1, 0, 2), numbered(1, 0.25, 1), outcome(1, truncated=truncated))
        got = everything(buffer)
        assert got.next_obs[:, 0].tolist() == [20, 21, 12, 23]
        assert not got.terminated.any()

    def test_what_the_environment_reuses_does_not_change_what_is_stored(self) -> None:
        buffer, obs, actions, result = ReplayBuffer(SHAPE, CPU), numbered(0, 0, 2), numbered(0, 0.25, 1), outcome(0)
        buffer.insert(obs, actions, result)
        for tensor in (obs, actions, result.obs, result.reward):
            tensor.fill_(-1)
        result.terminated.fill_(True)
        assert everything(buffer).obs[:, 0].tolist() == [0, 1, 2, 3]
        assert everything(buffer).next_obs[:, 0].tolist() == [10, 11, 12, 13]
        assert not everything(buffer).terminated.any()


class TestSample:
    def test_uniform_over_what_is_stored(self) -> None:
        for steps, stored in ((2, 8), (5, 12)):
            samples = 60_000
            drawn = sample(filled(steps), samples, seeded(1)).obs[:, 0]
            _, counts = drawn.unique(return_counts=True)
            assert len(counts) == stored
            tolerance = 5 * math.sqrt(1 / stored * (1 - 1 / stored) / samples)  # five standard errors
            torch.testing.assert_close(counts / samples, torch.full((stored,), 1 / stored), atol=tolerance, rtol=0)

    def test_the_generator_decides(self) -> None:
        buffer = filled(3)
        drawn = [sample(buffer, 32, seeded(seed)).obs for seed in (0, 0, 1)]
        assert torch.equal(drawn[0], drawn[1])
        assert not torch.equal(drawn[0], drawn[2])

    def test_shapes_and_types(self) -> None:
        got = sample(filled(3), 7, seeded())
        assert [tuple(field.shape) for field in got] == [(7, 2), (7, 1), (7,), (7, 2), (7,)]
        assert [field.dtype for field in got] == [torch.float32] * 4 + [torch.bool]

    def test_a_number_tells_the_environment(self) -> None:
        numbers = filled(5).draw(64, seeded())
        envs = filled(5).gather(numbers).obs[:, 0] % 10
        assert envs.tolist() == (numbers % SHAPE.num_envs).tolist()

    def test_samples_outlive_what_is_overwritten(self) -> None:
        buffer = filled(3)
        got = sample(buffer, 64, seeded(0))
        before = got.obs.clone()
        for step in range(3, 6):
            buffer.insert(numbered(step, 0, 2), numbered(step, 0.25, 1), outcome(step))
        assert torch.equal(got.obs, before)


class TestMemory:
    @pytest.mark.parametrize("shape", [SHAPE, ReplayShape(7, 5, 11, 3)])
    def test_the_estimate_is_what_is_allocated(self, shape: ReplayShape) -> None:
        tensors = [value for value in vars(ReplayBuffer(shape, CPU)).values() if isinstance(value, Tensor)]
        assert ReplayBuffer.nbytes(shape) == sum(tensor.untyped_storage().nbytes() for tensor in tensors)

    def test_by_hand(self) -> None:
        # 3 x 4 rows of two observations of 2, an action, a reward and whether it terminated
        assert ReplayBuffer.nbytes(SHAPE) == 4 * 12 * (2 * 2 + 1 + 1 + 1)

    def test_nothing_is_allocated_afterwards(self) -> None:
        buffer = ReplayBuffer(SHAPE, CPU)
        places = {name: value.data_ptr() for name, value in vars(buffer).items() if isinstance(value, Tensor)}
        for step in range(7):
            buffer.insert(numbered(step, 0, 2), numbered(step, 0.25, 1), outcome(step))
        after = {name: value.data_ptr() for name, value in vars(buffer).items() if isinstance(value, Tensor)}
        assert after == places


class TestSavedState:
    @pytest.mark.parametrize("steps", [0, 1, 2, 3, 5, 7])
    def test_a_restored_buffer_goes_on_to_the_bit(self, steps: int) -> None:
        original, copy = filled(steps), ReplayBuffer(SHAPE, CPU)
        file = io.BytesIO()
        torch.save(original.state_dict(), file)
        file.seek(0)
        copy.load_state_dict(torch.load(file, weights_only=True))
        for step in range(steps, steps + 4):
            for buffer in (original, copy):
                buffer.insert(numbered(step, 0.125, 2), numbered(step, 0.25, 1), outcome(step))
            drawn = [sample(buffer, 64, seeded(step)) for buffer in (original, copy)]
            assert all(torch.equal(mine, theirs) for mine, theirs in zip(*drawn, strict=True))
        assert (copy.position, copy.filled) == (original.position, original.filled)

    def test_only_what_is_filled_is_written(self) -> None:
        shape = ReplayShape(1000, 4, 2, 1)
        sizes = []
        for steps in (1, 1000):
            file = io.BytesIO()
            torch.save(filled(steps, shape).state_dict(), file)
            sizes.append(len(file.getvalue()))
        assert sizes[0] < 4096
        assert sizes[1] > ReplayBuffer.nbytes(shape)
        require_readable(filled(2).state_dict(), "replay", "")

    def test_a_saved_state_does_not_change_with_the_buffer(self) -> None:
        buffer = filled(3)
        state = buffer.state_dict()
        before = state["rows"].clone()
        buffer.insert(numbered(9, 0, 2), numbered(9, 0.25, 1), outcome(9))
        assert torch.equal(state["rows"], before)

    @pytest.mark.parametrize(
        ("capacity", "steps", "kept"),
        [
            (5, 2, [0, 1]),
            (5, 3, [0, 1, 2]),
            (5, 7, [4, 5, 6]),  # the ring of 3 stands at 1: it begins with 6, 4, 5
            (2, 1, [0]),
            (2, 2, [0, 1]),
            (2, 7, [5, 6]),
            (1, 7, [6]),
        ],
    )
    def test_another_capacity_keeps_the_latest_steps(self, capacity: int, steps: int, kept: list[int]) -> None:
        other = ReplayBuffer(SHAPE._replace(capacity_per_env=capacity), CPU)
        other.load_state_dict(filled(steps).state_dict())
        assert stored_steps(other) == kept
        for step in range(steps, steps + 7):
            other.insert(numbered(step, 0, 2), numbered(step, 0.25, 1), outcome(step))
            kept = [*kept, step][-capacity:]
            assert sorted(stored_steps(other)) == kept


class TestSettings:
    @pytest.mark.parametrize("name", ["capacity_per_env", "batch_size", "warmup"])
    def test_out_of_range(self, name: str) -> None:
        with pytest.raises(Mistake, match=rf"model\.replay\.{name} must be at least 1, got 0"):
            ReplaySettings(**{name: 0})
        ReplaySettings(**{name: 1})
