"""What a minibatch finds in the rollout's tensors: every entry holds a number that tells where it stands.

Axes: T horizon, W columns (environments, then off-policy columns).
"""

import pytest
import torch
from torch import Tensor

from epo_lightning.algorithm.population import Population
from epo_lightning.experience.buffer import RolloutBuffer, RolloutShape

CPU = torch.device("cpu")
SCALARS = ("log_probs", "log_mu", "targets", "advantages")
MLP = RolloutShape(3, Population(2, 4), off_policy_columns=2, obs_dim=2, action_dim=1, state_shape=(0, 0))
LSTM = MLP._replace(state_shape=(2, 3))


def filled(shape: RolloutShape) -> RolloutBuffer:
    """Entry (t, w) holds 100 t + w, plus 1000 times a number of its own for every tensor."""
    buffer = RolloutBuffer(shape, CPU)
    place = 100.0 * torch.arange(shape.horizon + 1)[:, None] + torch.arange(shape.columns)
    buffer.obs.copy_(torch.stack([place, -place], dim=-1))
    buffer.actions.copy_(1000 + place[:-1, :, None])
    for number, name in enumerate(SCALARS, 2):
        getattr(buffer, name).copy_(1000 * number + place[:-1])
    buffer.values.copy_(6000 + place)
    if buffer.recurrent:
        # state s, column w, unit h: 1000 s + 10 w + h
        s, w, h = torch.meshgrid(*(torch.arange(n) for n in buffer.states.shape), indexing="ij")
        buffer.states.copy_(1000.0 * s + 10 * w + h)
        buffer.resets.copy_(place % 200 == 101)  # step 1 of column 1
    return buffer


def places(tensor: Tensor, number: int) -> list[object]:
    return (tensor - 1000 * number).tolist()


class TestTransitions:
    # unit = t * W + w with W = 6: units 0, 7, 16, 5 are (0, 0), (1, 1), (2, 4), (0, 5)
    units = torch.tensor([0, 7, 16, 5])
    expected: list[object] = [0, 101, 204, 5]  # noqa: RUF012

    def test_rows(self) -> None:
        batch = filled(MLP).gather(self.units)
        assert batch.obs.tolist() == [[0, 0], [101, -101], [204, -204], [5, -5]]
        assert places(batch.actions[:, 0], 1) == self.expected
        for number, name in enumerate(SCALARS, 2):
            assert places(getattr(batch, name), number) == self.expected
        assert places(batch.values, 6) == self.expected

    def test_who_is_evaluated(self) -> None:
        batch = filled(MLP).gather(self.units)
        # columns 0 and 1 belong to agent 0; columns 4 and 5 are relabelled for the master, agent 0
        assert batch.agent_ids.tolist() == [0, 0, 0, 0]
        assert batch.off_policy.tolist() == [False, False, True, True]
        followers = filled(MLP).gather(torch.tensor([2, 9, 4]))  # (0, 2), (1, 3), (0, 4)
        assert followers.agent_ids.tolist() == [1, 1, 0]
        assert followers.off_policy.tolist() == [False, False, True]

    def test_all_of_them(self) -> None:
        buffer = filled(MLP)
        assert buffer.units == 18
        batch = buffer.gather(torch.arange(18))
        assert batch.obs.view(3, 6, 2).tolist() == buffer.obs[:-1].tolist()  # never the state after the rollout
        assert batch.obs.max() == 205

    def test_no_state(self) -> None:
        batch = filled(MLP).gather(self.units)
        assert batch.states.shape[0] == 0
        assert batch.resets.shape == (4,)


class TestSequences:
    units = torch.tensor([5, 1, 2])

    def test_columns(self) -> None:
        batch = filled(LSTM).gather(self.units)
        expected = [[5, 1, 2], [105, 101, 102], [205, 201, 202]]
        assert batch.obs[..., 0].tolist() == expected
        assert places(batch.actions[..., 0], 1) == expected
        for number, name in enumerate(SCALARS, 2):
            assert places(getattr(batch, name), number) == expected
        assert places(batch.values, 6) == expected

    def test_states_and_resets(self) -> None:
        batch = filled(LSTM).gather(self.units)
        assert batch.states.tolist() == [
            [[50, 51, 52], [10, 11, 12], [20, 21, 22]],
            [[1050, 1051, 1052], [1010, 1011, 1012], [1020, 1021, 1022]],
        ]
        assert batch.resets.tolist() == [[False, False, False], [False, True, False], [False, False, False]]

    def test_who_is_evaluated(self) -> None:
        buffer = filled(LSTM)
        assert buffer.units == 6
        batch = buffer.gather(self.units)
        assert batch.agent_ids.tolist() == [0, 0, 1]
        assert batch.off_policy.tolist() == [True, False, False]


class TestMemory:
    @staticmethod
    def real(buffer: RolloutBuffer) -> int:
        """Bytes of the distinct storages behind the buffer's tensors, but for the W ids that do not depend on T."""
        tensors = [value for value in vars(buffer).values() if isinstance(value, Tensor)]
        tensors = [tensor for tensor in tensors if tensor is not buffer.column_agents]
        return sum(
            {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors if t.numel()}.values()
        )

    @pytest.mark.parametrize("shape", [MLP, LSTM, MLP._replace(horizon=16, obs_dim=7, action_dim=3)])
    def test_the_estimate_is_what_is_allocated(self, shape: RolloutShape) -> None:
        assert RolloutBuffer.nbytes(shape) == self.real(RolloutBuffer(shape, CPU))

    def test_by_hand(self) -> None:
        # floats: obs 4*6*2 = 48, actions 3*6 = 18, scalars 4*6*5 = 120, rewards and successes 2*3*4 = 24,
        # final values 2*3*4 = 24, states 2*6*3 = 36; booleans: resets 4*6 = 24, terminated and truncated 2*3*4 = 24
        assert RolloutBuffer.nbytes(LSTM) == 4 * (48 + 18 + 120 + 24 + 24 + 36) + 24 + 24

    @pytest.mark.parametrize("shape", [MLP, LSTM])
    def test_linear_in_environments_and_horizon(self, shape: RolloutShape) -> None:
        def nbytes(envs: int, horizon: int) -> int:
            resized = shape._replace(population=Population(2, envs), off_policy_columns=envs // 2, horizon=horizon)
            return RolloutBuffer.nbytes(resized)

        assert nbytes(4000, 8) == 1000 * nbytes(4, 8)
        assert nbytes(4, 32) - nbytes(4, 16) == nbytes(4, 16) - nbytes(4, 0)
        assert nbytes(4, 0) < nbytes(4, 16) / 4  # the row after the rollout, and the states before it
