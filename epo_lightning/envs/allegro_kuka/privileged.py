"""What the critic may know in training, and what no robot could measure.

Shape legend: N environments, D joints.
"""

import torch
from torch import Tensor

from epo_lightning.envs.allegro_kuka.cards import Card
from epo_lightning.envs.allegro_kuka.memory import Memory
from epo_lightning.envs.allegro_kuka.rotation import rotate
from epo_lightning.physics.base import PhysicsState

GROUP = "critic"
"""Name of these entries."""
SEEN = "policy"
"""Name of the entries that a policy sees."""


def privileged_dim(card: Card) -> int:
    """Entries: object 3 + 10, force 3 + 1, tolerance 1, time near the goal 1, targets of the joints D."""
    return 19 + card.joints


def privileged_rows(card: Card, state: PhysicsState, m: Memory, tolerance: float, targets: Tensor) -> Tensor:
    """(N, 19 + D) the entries.

    Args:
        card: The task.
        state: After the step.
        m: Of the same environments.
        tolerance: What counts as near now, m.
        targets: (N, D) those of the joints, scaled to [-1, 1] within their limits.
    """
    blocks = [
        state.object_pos,
        state.object_frame,
        rotate(state.object_frame[:, :4], m.force),  # in the world's frame, N
        m.force_probability[:, None],
        torch.full_like(m.progress, tolerance)[:, None],
        (m.near_steps / card.hold_steps)[:, None],
        targets,
    ]
    return torch.cat(blocks, dim=1)
