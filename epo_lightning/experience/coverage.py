"""How much of the observation space every agent sees: cells of a grid in a plane.

Shape legend: T horizon, N environments, K agents, O observation entries, C cells.
"""

import torch
from torch import Tensor

from epo_lightning.experience.ranks import of_all_ranks

SIDE = 16
"""Cells along each axis of the plane."""
_RANGE = 3.0
"""Standard deviations from the middle to the outermost cell, which takes in what is beyond."""
_SEED = 0
"""Of the plane: the same in every run, so that runs of a task can be compared."""


def plane(obs_dim: int) -> Tensor:
    """(O, 2) orthonormal columns, drawn once and for all: the whole of an observation of two entries."""
    if obs_dim < 2:
        return torch.eye(obs_dim, 2)
    drawn = torch.randn(obs_dim, 2, generator=torch.Generator().manual_seed(_SEED), dtype=torch.float64)
    axes: Tensor = torch.linalg.qr(drawn)[0].float()
    return axes


def cells(obs: Tensor, axes: Tensor) -> Tensor:
    """(...,) int64 cell of every normalised observation (..., O) in the plane of `axes` (O, 2)."""
    place = ((obs @ axes + _RANGE) * (SIDE / (2 * _RANGE))).long().clamp(0, SIDE - 1)
    return place[..., 0] * SIDE + place[..., 1]


def coverage(obs: Tensor, axes: Tensor, agent_of_env: Tensor, num_agents: int) -> tuple[Tensor, Tensor]:
    """(K,) share of the C cells that every agent has been in, and () that all agents together have.

    With several ranks a collective call.

    Args:
        obs: (T, N, O) normalised observations.
        axes: See `plane`.
        agent_of_env: (N,) who acts where.
        num_agents: K.
    """
    visits = torch.zeros(num_agents * SIDE**2, dtype=torch.uint8, device=obs.device)
    places = cells(obs, axes) + agent_of_env * SIDE**2
    visits.index_fill_(0, places.flatten(), 1)
    seen = of_all_ranks(visits).amax(0).view(num_agents, -1)
    return seen.sum(1).double() / SIDE**2, seen.amax(0).sum().double() / SIDE**2
