"""Where episodes and goals begin: random draws, and nothing that is remembered.

Shape legend: M environments to reset, D joints.
"""

from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from epo_lightning.envs.allegro_kuka.cards import Card
from epo_lightning.envs.allegro_kuka.obstacles import Box
from epo_lightning.envs.allegro_kuka.rotation import random_rotations

JOINT_NOISE = 0.1
"""Share of the way from the default angle to an angle drawn uniformly within the limits."""
SPEED_NOISE = 0.5
"""rad/s."""
FORCE_PROBABILITY = (0.001, 0.1)
LOG_FORCE_PROBABILITY = torch.tensor(FORCE_PROBABILITY).log().tolist()


class Start(NamedTuple):
    """The physical state in which episodes begin, as `Physics.reset` takes it: (M, D), (M, D), (M, 3), (M, 4)."""

    joint_pos: Tensor
    joint_vel: Tensor
    object_pos: Tensor
    object_quat: Tensor


def draw_joints(
    count: int, default: Tensor, low: Tensor, high: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Joint angles near the default pose and small velocities, each (M, D); `default`, `low`, `high`: (D,)."""
    noise = torch.rand(2, count, default.shape[0], generator=generator, device=generator.device)
    # q = q_def + 0.1 (U(low, high) - q_def),  qdot = 0.5 U(-1, 1)
    pos = default + JOINT_NOISE * (low + (high - low) * noise[0] - default)
    return pos, SPEED_NOISE * (2 * noise[1] - 1)


def draw_in_box(count: int, box: Box, mirrored: bool, generator: torch.Generator) -> Tensor:
    """(M, 3) points, uniform in `box`; with `mirrored`, on its mirror image in x every other time."""
    noise = torch.rand(count, 4, generator=generator, device=generator.device)
    low, high = _corners(box, generator.device).unbind()
    points = low + (high - low) * noise[:, :3]
    if mirrored:
        points[:, 0] *= torch.where(noise[:, 3] < 0.5, -1.0, 1.0)
    return points


@lru_cache
def _corners(box: Box, device: torch.device) -> Tensor:
    """(2, 3) lowest and highest point of `box`; made once, as a copy to the device waits for it."""
    return torch.tensor(box, device=device).T


def draw_object(count: int, card: Card, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Position (M, 3) above the table and any orientation (M, 4) of the object."""
    pos = draw_in_box(count, card.object_box, card.object_mirrored, generator)
    return pos, random_rotations(count, generator)


def draw_goal(count: int, card: Card, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Position (M, 3) and orientation (M, 4) of the goal; points and buckets are not turned."""
    pos = draw_in_box(count, card.goal_box, card.mirrored, generator)
    if card.goal == "pose":
        return pos, random_rotations(count, generator)
    quat = pos.new_zeros(count, 4)
    quat[:, 3] = 1
    return pos, quat


def draw_force_probability(count: int, generator: torch.Generator) -> Tensor:
    """(M,) chance per step of a new random force, log-uniform in [0.001, 0.1]."""
    low, high = LOG_FORCE_PROBABILITY
    return torch.rand(count, generator=generator, device=generator.device).mul_(high - low).add_(low).exp_()
