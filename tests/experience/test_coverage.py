"""Cells of the observation space that agents see. Axes: T horizon, N environments, K agents, O observation."""

import pytest
import torch

from epo_lightning.experience.coverage import SIDE, cells, coverage, plane


@pytest.mark.parametrize("obs_dim", [2, 3, 40])
def test_the_plane_is_orthonormal_and_always_the_same(obs_dim: int) -> None:
    axes = plane(obs_dim)
    torch.testing.assert_close(axes.T @ axes, torch.eye(2))
    assert torch.equal(axes, plane(obs_dim))


def test_the_plane_leaves_the_generator_of_the_run_alone() -> None:
    before = torch.get_rng_state()
    plane(5)
    assert torch.equal(torch.get_rng_state(), before)


def test_an_observation_of_one_entry_is_on_a_line() -> None:
    assert plane(1).tolist() == [[1.0, 0.0]]


def test_cells_by_hand() -> None:
    # 16 cells of 3/8 from -3 to 3 on each axis; what is beyond belongs to the outermost
    obs = torch.tensor([[-3.0, -3.0], [-2.63, -2.62], [0.0, 0.0], [2.9, -3.0], [-9.0, 9.0]])
    assert cells(obs, torch.eye(2)).tolist() == [0, 1, 8 * SIDE + 8, 15 * SIDE, 15]


def test_coverage_by_hand() -> None:
    """Two agents with two environments each, three steps."""
    obs = torch.zeros(3, 4, 2)
    obs[1, 0] = torch.tensor([1.0, 0.0])  # agent 0: two cells
    obs[0, 2] = torch.tensor([1.0, 0.0])  # agent 1: the same two,
    obs[2, 3] = torch.tensor([0.0, -1.0])  # and two more
    obs[1, 3] = torch.tensor([0.0, -2.0])
    own, together = coverage(obs, torch.eye(2), torch.tensor([0, 0, 1, 1]), 2)
    assert own.tolist() == [2 / 256, 4 / 256]
    assert together.item() == 4 / 256
