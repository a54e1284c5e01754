"""What the critic may know in training, and what no robot could measure.

Shape legend: N environments, D joints, P drawn values.
"""

import torch
from torch import Tensor

from epo_lightning.envs.allegro_kuka.cards import Card
from epo_lightning.envs.allegro_kuka.memory import Memory
from epo_lightning.envs.allegro_kuka.randomization import UNITS
from epo_lightning.envs.allegro_kuka.rotation import rotate
from epo_lightning.physics.base import PhysicsState

GROUP = "critic"
"""Name of these entries."""
SEEN = "policy"
"""Name of the entries that a policy sees."""
UNDRAWN = tuple(float(unit == "factor") for unit in UNITS.values())
"""P, of each name of `UNITS` what a task has that draws none."""


def privileged_sizes(card: Card) -> dict[str, int]:
    """The entries of each block, in the order in which they stand there."""
    return {
        "object_pos": 3,
        "object_frame": 10,
        "force": 3,
        "force_probability": 1,
        "tolerance": 1,
        "near_goal": 1,
        "targets": card.joints,
        "drawn": len(UNITS),
    }


def privileged_dim(card: Card) -> int:
    """All entries."""
    return sum(privileged_sizes(card).values())


def privileged_rows(card: Card, state: PhysicsState, m: Memory, tolerance: float | Tensor, targets: Tensor) -> Tensor:
    """(N, 19 + D) the entries but for the last P, which randomisation draws.

    Args:
        card: The task.
        state: After the step.
        m: Of the same environments.
        tolerance: What counts as near now, m; () where the device decides about it.
        targets: (N, D) those of the joints, scaled to [-1, 1] within their limits.
    """
    blocks = [
        state.object_pos,
        state.object_frame,
        rotate(state.object_frame[:, :4], m.force),  # in the world's frame, N
        m.force_probability[:, None],
        (torch.zeros_like(m.progress) + tolerance)[:, None],
        (m.near_steps / card.hold_steps)[:, None],
        targets,
    ]
    return torch.cat(blocks, dim=1)
