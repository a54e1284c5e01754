"""Where to take a cuboid: the palm's pose and the fingers' postures.

Shape legend: M environments, C candidates.

All poses are in the frame of the arm's base: the arm faces along -y. The palm faces down and the fingers reach round
the object from above; the hand turns about the vertical so that thumb and fingers press on two opposite faces. Limits
and costs are tuned by hand.
"""

from math import pi, radians
from typing import NamedTuple

import torch
from torch import Tensor

from epo_lightning.algorithm.ties import TIE, first_best
from epo_lightning.envs.allegro_kuka.robot import ARM_LINKS, FINGER_RADIUS
from epo_lightning.envs.allegro_kuka.scripted.hand import SHORT, Hand, between
from epo_lightning.envs.allegro_kuka.scripted.kinematics import Chain, Frame

TURNS = (radians(35), radians(60))
"""How far the hand turns away from straight ahead, at most; the arm cannot always do the second."""
TILTS = (0.0, radians(20))
"""How far the fingers point below the horizon: tilted, the wrist is higher and clear of the table."""
DIRECTIONS = 4
"""Most promising turns that are tried with every tilt and elbow."""
WIDEST = 0.105
"""Objects wider than this do not fit between thumb and fingers, m."""
ABOVE = 0.09
"""Height from which the hand comes down, m."""
GAP = 0.0015
"""Room between fingers and table, m."""
PALM_GAP = 5 * GAP
"""Room between palm and object, m."""
HOPELESS = 10.0
"""Cost from which on a grasp is not worth trying."""
TOO_WIDE_COST = 2 * HOPELESS
"""What an object costs that does not fit."""
CLEARLY = 10 * TIE
"""By how much more than its forerunner a later way must save to be taken: more than rounding."""
OFF, TURN_COST, SHORT_COST = 0.35, 0.5, 0.5
"""The misalignment that costs 1, rad; what a turn of the hand by one radian costs, and a grip with two fingers."""
COMFORTABLE, WIDTH_COST = 0.06, 100.0
"""Objects up to this width cost nothing, m; what every metre beyond it costs."""
MISS, MISS_TURN = 0.01, 0.1
"""How far off its pose the palm is at a cost of 1, m and rad."""
CLEARANCE = 0.01
"""Room that the forearm shall have over the table; all of it lost costs 1, m."""
TRAVEL_COST = 0.3
"""What it costs that an arm's joint turns by one radian on the way to the object."""
ABOVE_ITERATIONS, GRASP_ITERATIONS = 30, 15
"""Steps of inverse kinematics to the pose over the object, and from there down to it."""
LOW_LINKS, SHARES = (4, 5), (0.0, 0.5, 1.0)
"""Forearm and wrist among the arm's links, and the shares of their length at which their height is checked."""
NEAR_EDGE = -0.52
"""The table begins about here in front of the arm, m."""
NOTHING_BELOW = 1.0
"""Clearance where there is no table, m."""


class Plan(NamedTuple):
    """One grasp for each of M environments.

    Attributes:
        pos, rot: (M, 3), (M, 3, 3) pose of the palm at the grasp.
        above: (M, 7) arm angles over the object, rad.
        arm: (M, 7) arm angles at the grasp, rad.
        centre: (M, 3) point between the pads in the palm's frame, m.
        opened, touch, torque: (M, 16) see `hand.Grip`.
        cost: (M,) how bad the grasp is, see `HOPELESS`.
    """

    pos: Tensor
    rot: Tensor
    above: Tensor
    arm: Tensor
    centre: Tensor
    opened: Tensor
    touch: Tensor
    torque: Tensor
    cost: Tensor


def facing_down(yaw: Tensor, tilt: Tensor) -> Tensor:
    """(..., 3, 3) the palm's axes when it faces down: fingers `yaw` (...) beside -y, and `tilt` below the horizon."""
    ahead = torch.stack([yaw.sin(), -yaw.cos(), torch.zeros_like(yaw)], dim=-1)
    side = torch.stack([-yaw.cos(), -yaw.sin(), torch.zeros_like(yaw)], dim=-1)
    down = torch.tensor([0.0, 0.0, -1.0])
    c, s = tilt.cos()[..., None], tilt.sin()[..., None]
    return torch.stack([c * ahead + s * down, side, c * down - s * ahead], dim=-1)


class Ways(NamedTuple):
    """Turns of the hand, each (M, C): yaw and misalignment, rad; width and length of what is gripped, m; cost."""

    yaw: Tensor
    off: Tensor
    width: Tensor
    length: Tensor
    cost: Tensor


def ways(thing: Frame, half: Tensor) -> Ways:
    """The best turns of the hand for two pairs of upright faces, from either side, with two limits of the turn.

    Args:
        thing: The objects' poses.
        half: (M, 3) half edges, m.
    """
    up = first_best(thing.rot[:, 2].abs())[:, None]
    faces = (up + torch.tensor([[1, 2]])) % 3
    normals = thing.rot.gather(2, faces[:, None].expand(-1, 3, 2))  # (M, 3, 2)
    repeats = (1, 2 * len(TURNS))
    width, length = (2 * half.gather(1, f).repeat(repeats) for f in (faces, faces.flip(1)))
    # the fingers point along (sin yaw, -cos yaw)
    yaw = torch.atan2(normals[:, 0], -normals[:, 1])
    yaw = torch.cat([yaw, _wrap(yaw + pi)], dim=1).repeat(1, len(TURNS))
    limit = torch.tensor(TURNS).repeat_interleave(4)  # two pairs of faces, from either side
    chosen = yaw.clamp(-limit, limit)
    off = (yaw - chosen).abs()
    cost = (off / OFF).square() + TURN_COST * chosen.abs() + SHORT_COST * (length < SHORT)
    cost = cost + TOO_WIDE_COST * (width > WIDEST) + WIDTH_COST * (width - COMFORTABLE).clamp(min=0)
    every = Ways(chosen, off, width, length, cost)
    best = (cost + CLEARLY * torch.arange(cost.shape[1])).topk(DIRECTIONS, dim=1, largest=False).indices
    return Ways(*(field.gather(1, best) for field in every))


def plan(arm: Chain, hand: Hand, ready: Tensor, thing: Frame, half: Tensor, table: float) -> Plan:
    """The best of all candidates: ways to turn the hand, times tilts, times elbows.

    Args:
        arm: The arm from its base to the palm.
        hand: The fingers.
        ready: (E, 7) arm angles to start from, with E positions of the elbow, rad.
        thing: The objects' poses in the arm's base frame.
        half: (M, 3) half edges, m.
        table: Height of the table, m.
    """
    way = ways(thing, half)
    count, elbows, each = len(half), len(ready), len(TILTS) * len(ready)
    tilt = torch.tensor(TILTS).repeat_interleave(elbows).repeat(DIRECTIONS)
    yaw, width, length, cost = (f.repeat_interleave(each, dim=1) for f in (way.yaw, way.width, way.length, way.cost))
    options = yaw.shape[1]
    rot = facing_down(yaw, tilt.expand(count, -1))
    centre = between(width)

    height = (thing.rot[:, 2].abs() * half).sum(dim=1)  # half the object's extent upwards
    middle, top = thing.pos[:, 2, None], (thing.pos[:, 2] + height)[:, None]
    pads = torch.maximum(middle, top + PALM_GAP - centre[..., 2] * tilt.cos()).clamp(min=table + FINGER_RADIUS + GAP)
    spot = torch.cat([thing.pos[:, None, :2].expand(-1, options, 2), pads[..., None]], dim=-1)
    palm = Frame((spot - (rot @ centre[..., None])[..., 0]).flatten(0, 1), rot.flatten(0, 1))
    start = ready.repeat(count * options // elbows, 1)
    above, _ = arm.solve(start, Frame(palm.pos + torch.tensor([0.0, 0.0, ABOVE]), palm.rot), ABOVE_ITERATIONS)
    joints, error = arm.solve(above, palm, GRASP_ITERATIONS)
    misses = error[:, :3].norm(dim=1) / MISS + error[:, 3:].norm(dim=1) / MISS_TURN
    scrape = (CLEARANCE - forearm_clearance(arm, joints, table)).clamp(min=0) / CLEARANCE
    travel = TRAVEL_COST * (above - ready[0]).abs().amax(dim=1)
    cost = cost + (misses + scrape + travel).unflatten(0, (count, options))
    best = first_best(-cost)
    row = torch.arange(count) * options + best
    grip = hand.grip(width.flatten()[row], length.flatten()[row], tilt.repeat(count)[row])
    return Plan(
        palm.pos[row],
        palm.rot[row],
        above[row],
        joints[row],
        centre.flatten(0, 1)[row],
        grip.opened,
        grip.touch,
        grip.torque,
        cost.flatten()[row],
    )


def forearm_clearance(arm: Chain, joints: Tensor, table: float) -> Tensor:
    """(B,) smallest distance of forearm and wrist from the table's height, m; they may only touch its near edge."""
    links = arm.frames(joints)
    found = []
    for number in LOW_LINKS:
        end, radius = torch.tensor(ARM_LINKS[number].end).float(), ARM_LINKS[number].radius
        for share in SHARES:
            point = links[number].point(share * end)
            found.append(torch.where(point[:, 1] < NEAR_EDGE, point[:, 2] - table - radius, NOTHING_BELOW))
    return torch.stack(found).amin(dim=0)


def _wrap(angle: Tensor) -> Tensor:
    return torch.remainder(angle + pi, 2 * pi) - pi
