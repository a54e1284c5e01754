"""Where in an observation what stands: the blocks of `Rules.observe`, in their order.

Shape legend: O observation entries.
"""

from collections.abc import Iterable

import torch
from torch import Tensor

from epo_lightning.envs.allegro_kuka.cards import BLOCK_ENTRIES, FINGERS, Card

SENSED = (
    "joint_pos",
    "joint_vel",
    "palm_pos",
    "wrist",
    "object_frame",
    "tips",
    "keypoints",
    "to_goal",
    "obstacles",
)
"""Blocks that a robot would have to measure; all others the task knows of itself."""


def block_sizes(card: Card) -> dict[str, int]:
    """The entries of each block of an observation, in the order in which they stand there."""
    hands, keypoints = card.arms, 3 * card.keypoints
    return {
        "joint_pos": card.joints,
        "joint_vel": card.joints,
        "palm_pos": 3 * hands,
        "wrist": 10 * hands,
        "object_frame": 10,
        "tips": 3 * FINGERS * hands,
        "keypoints": keypoints * hands,
        "to_goal": keypoints,
        "scales": 3,
        "obstacles": BLOCK_ENTRIES * card.blocks_observed,
        "closest_goal": 1,
        "closest_tips": FINGERS if card.tips_observed else 0,
        "lifted": 1,
        "clock": 1,
        "successes": 1,
        "reward": 1,
    }


def entries_of(card: Card, blocks: Iterable[str]) -> Tensor:
    """(O,) bool: the entries of the observation that belong to `blocks`."""
    wanted = set(blocks)
    return torch.cat([torch.full((size,), name in wanted) for name, size in block_sizes(card).items()])
