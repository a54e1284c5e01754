"""Finger postures: which joint angles put the pads of the fingers at wanted points of the palm's frame.

Shape legend: B batch entries.

The palm's frame: x points along the stretched fingers, y from the index to the ring finger, z out of the palm. Fingers
and thumb meet along x. A pad is the end of the last link's axis; the skin lies `FINGER_RADIUS` around it. All lengths
are tuned by hand.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from epo_lightning.envs.allegro_kuka.robot import FINGER_RADIUS, FINGERS, FingerLink
from epo_lightning.envs.allegro_kuka.scripted.kinematics import Chain

_NO_TURN = (1.0, 0.0, 0.0, 0.0)
_RELAXED = ((0.0, 0.5, 0.6, 0.5),) * 3 + ((1.4, 0.3, 0.4, 0.6),)
"""Angles of index, middle, ring finger and thumb that are preferred among those with the same pad."""

OPENING = 0.02
"""Room between skin and object before the hand closes, m."""
THUMB_FORCE = 4.0
"""What the thumb presses with, N; the fingers that meet it share as much. The drives' torque limit is about there."""
SPREAD = 0.04
"""Distance of index and ring finger from the middle finger on a long object, m."""
EDGE = 0.008
"""Pads stay this far from an object's edge, m."""
SHORT = 0.06
"""Shorter objects have no room for three fingers next to each other, m."""
LEAST_SPREAD = 0.026
"""Fingers next to each other touch at a smaller distance, m."""
PAIR = 0.0135
"""Distance of index and middle finger from the thumb's plane on a short object, m."""
ASIDE = 0.06
"""Where the ring finger stays away from a short object, m."""
NARROW, WIDER = 0.025, 0.075
"""The width of an object at which the hand is most curled, and how much wider it is where the hand is flattest, m."""
PINCH, FLATTER = (0.050, 0.009, 0.085), (0.008, -0.015)
"""The point between the pads of a hand that is most curled; how far it moves along x and z to the flattest, m."""


class Grip(NamedTuple):
    """One closure of the hand.

    Attributes:
        opened: (B, 16) joint angles around the object, rad.
        touch: (B, 16) joint angles at which the pads touch it, rad.
        torque: (B, 16) joint torques that press the pads against it, N m.
    """

    opened: Tensor
    touch: Tensor
    torque: Tensor


def between(width: Tensor) -> Tensor:
    """(B, 3) the point between the pads in the palm's frame, m; the fingers are flatter round a great `width`, (B,)."""
    share = ((width - NARROW) / WIDER).clamp(0, 1)
    along, out = PINCH[0] + FLATTER[0] * share, PINCH[2] + FLATTER[1] * share
    return torch.stack([along, torch.full_like(share, PINCH[1]), out], dim=-1)


class Hand:
    """The four fingers as chains from the palm's frame to their pads: index, middle, ring, thumb."""

    def __init__(self) -> None:
        self.fingers = [_chain(links) for links in FINGERS.values()]
        self.relaxed = torch.tensor(_RELAXED)

    def pads(self, joints: Tensor) -> Tensor:
        """(B, 4, 3) pads in the palm's frame for the angles (B, 16)."""
        angles = joints.unflatten(-1, (4, 4)).unbind(-2)
        return torch.stack([f.forward(q)[0].pos for f, q in zip(self.fingers, angles, strict=True)], dim=-2)

    def reach(self, pads: Tensor) -> Tensor:
        """(B, 16) angles that bring the pads to (B, 4, 3), or as near as they can."""
        found = []
        for finger, rest, goal in zip(self.fingers, self.relaxed, pads.unbind(-2), strict=True):
            start = rest.expand(len(goal), 4)
            found.append(finger.reach(start, goal, start))
        return torch.cat(found, dim=-1)

    def press(self, joints: Tensor, forces: Tensor) -> Tensor:
        """(B, 16) torques that press with `forces` (B, 4, 3), N, in the palm's frame at the pads."""
        angles, pushes = joints.unflatten(-1, (4, 4)).unbind(-2), forces.unbind(-2)
        # tau = J^T F
        torques = [
            (f.forward(q)[1].transpose(-1, -2) @ push[..., None])[..., 0]
            for f, q, push in zip(self.fingers, angles, pushes, strict=True)
        ]
        return torch.cat(torques, dim=-1)

    def grip(self, width: Tensor, length: Tensor, tilt: Tensor) -> Grip:
        """How to take an object between fingers and thumb.

        Args:
            width: (B,) its extent between thumb and fingers, m.
            length: (B,) its extent across, m.
            tilt: (B,) how far the stretched fingers point below the horizon, rad; the pads meet along the horizon.
        """
        centre, zero = between(width), torch.zeros_like(width)
        along = torch.stack([tilt.cos(), zero, -tilt.sin()], dim=-1)
        short = length < SHORT
        # on a short object index and middle finger meet the thumb, the ring finger stays away
        near = (length / 2 - EDGE).clamp(LEAST_SPREAD, SPREAD)
        index, middle = torch.where(short, -PAIR, -near), torch.where(short, PAIR, 0.0)
        across = torch.stack([index, middle, torch.where(short, ASIDE, near), zero], dim=-1)

        def pads(gap: Tensor) -> Tensor:
            reach = (gap + FINGER_RADIUS)[:, None] * along
            at = centre[:, None] + torch.stack([reach, reach, reach, -reach], dim=1)
            at[:, :, 1] += across
            return at

        opened, touch = self.reach(pads(width / 2 + OPENING)), self.reach(pads(width / 2))
        touch[:, 8:12] = torch.where(short[:, None], opened[:, 8:12], touch[:, 8:12])
        push = THUMB_FORCE * along
        share_of = -push / torch.where(short, 2.0, 3.0)[:, None]
        forces = torch.stack([share_of, share_of, share_of.masked_fill(short[:, None], 0.0), push], dim=1)
        return Grip(opened, touch, self.press(touch, forces))


def _chain(links: Sequence[FingerLink]) -> Chain:
    last = links[-1].ends
    assert last is not None
    frames = [(link.pos, link.quat) for link in links]
    return Chain(frames, torch.tensor([link.limits for link in links]), (last[1], _NO_TURN))
