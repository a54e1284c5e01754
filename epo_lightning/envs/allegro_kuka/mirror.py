"""How the two-arm tasks are mirrored.

Both hands are right hands, and the arms face each other: no plane mirrors the scene into itself. Half a turn about the
vertical axis through the table's middle does, when the arms change their parts: each then does what the other did.
Starts and goals, table and objects (cuboids, whose own half turns do not show) are the same after it.
"""

from collections.abc import Mapping, Sequence

import torch

from epo_lightning.algorithm.symmetry import SignedPermutation, Symmetry, joined
from epo_lightning.envs.allegro_kuka.cards import FINGERS, Card
from epo_lightning.envs.allegro_kuka.layout import block_sizes
from epo_lightning.envs.allegro_kuka.obstacles import KEY, TOUCH, Block
from epo_lightning.envs.allegro_kuka.privileged import privileged_sizes
from epo_lightning.envs.allegro_kuka.task import KEYPOINT_SIGNS
from epo_lightning.limits import Mistake

TURN = (-1.0, -1.0, 1.0)
"""Signs of a vector (x, y, z) after half a turn about z."""
HALF_TURNED = (-1.0, -1.0, 1.0, 1.0)
"""Signs of a quaternion (x, y, z, w) when its frame and the one it is told in make half a turn about their own z."""
FRAME = HALF_TURNED + TURN + TURN
"""Of a cuboid's orientation, linear and angular velocity."""
WRIST_ORDER = (1, 0, 3, 2)
WRIST_SIGNS = ((-1.0, 1.0, 1.0, -1.0), (1.0, -1.0, -1.0, 1.0))
"""Of the quaternion of each wrist, whose frame does not turn by itself: k q and k^-1 q of the other one's."""


def mirror_map(card: Card, privileged: bool = False) -> Symmetry:
    """The map of observations and actions of `card`.

    Args:
        card: The task.
        privileged: Observations end with what the critic alone may know.

    Raises:
        Mistake: When the task has one arm, or an obstacle has no counterpart.
    """
    key = f"model.rollout.symmetry: AllegroKuka/{card.name} has no mirror image"
    if card.arms != 2:
        raise Mistake(f"{key}: it has one arm, whose hand is a right one; use a two-arm task, or false")
    partners = [_partner(number, card.obstacles) for number in range(len(card.obstacles))]
    for number, partner in enumerate(partners):
        if partner is None:
            raise Mistake(f"{key}: {KEY}[{number}] has no counterpart at (-x, -y, z) of its size and mass")
    free = [number for number, block in enumerate(card.obstacles) if block.mass is not None]
    observed = free[: card.blocks_observed]
    others = [observed.index(partner) for number in observed if (partner := partners[number]) is not None]
    joints = _vectors([1, 0], [(1.0,) * (card.joints // 2)] * 2)
    points = _keypoint_order(card)
    parts = {
        "joint_pos": joints,
        "joint_vel": joints,
        "palm_pos": _vectors([1, 0], [TURN] * 2),
        "wrist": _wrists(),
        "object_frame": _vectors([0], [FRAME]),
        "tips": _vectors([1, 0], [TURN * FINGERS] * 2),
        "keypoints": _vectors(
            [len(points) * hand + point for hand in (1, 0) for point in points], [TURN] * 2 * len(points)
        ),
        "to_goal": _vectors(points, [TURN] * len(points)),
        "obstacles": _vectors(others, [TURN + FRAME] * len(others)),
    }
    obs = _of_blocks(block_sizes(card), parts)
    if privileged:
        hidden = {
            "object_pos": _vectors([0], [TURN]),
            "object_frame": parts["object_frame"],
            "force": _vectors([0], [TURN]),
            "targets": joints,
        }
        obs = joined([obs, _of_blocks(privileged_sizes(card), hidden)])
    return Symmetry(obs, joints)


def _of_blocks(sizes: Mapping[str, int], parts: Mapping[str, SignedPermutation]) -> SignedPermutation:
    """The map of the blocks of `sizes`; those that are not among `parts` are their own image."""
    same = {name: _vectors([0], [(1.0,) * size]) for name, size in sizes.items() if size}
    return joined([parts.get(name, same[name]) for name in same])


def _vectors(order: Sequence[int], signs: Sequence[tuple[float, ...]]) -> SignedPermutation:
    """Vectors of one length that change places, each with `signs`."""
    width = len(signs[0]) if signs else 0
    places = torch.tensor(order, dtype=torch.int64)[:, None] * width + torch.arange(width)
    return SignedPermutation(places.flatten(), torch.tensor(signs).flatten())


def _wrists() -> SignedPermutation:
    orders = [[10 * (1 - hand) + entry for entry in (*WRIST_ORDER, *range(4, 10))] for hand in range(2)]
    signs = [(*quat, *TURN, *TURN) for quat in WRIST_SIGNS]
    return SignedPermutation(torch.tensor(orders).flatten(), torch.tensor(signs).flatten())


def _keypoint_order(card: Card) -> list[int]:
    """The keypoint that takes the place of each, as the cuboid's own half turn exchanges them."""
    if card.keypoints == 1:
        return [0]
    return [KEYPOINT_SIGNS.index((-x, -y, z)) for x, y, z in KEYPOINT_SIGNS]


def _partner(number: int, blocks: Sequence[Block]) -> int | None:
    """Which of `blocks` stands where block `number` is after half a turn: itself, another one, or none."""
    own = blocks[number]
    wanted = (*own.size, -own.pos[0], -own.pos[1], own.pos[2])
    for other, block in enumerate(blocks):
        near = all(abs(a - b) < TOUCH for a, b in zip(wanted, (*block.size, *block.pos), strict=True))
        if near and block.mass == own.mass:
            return other
    return None
