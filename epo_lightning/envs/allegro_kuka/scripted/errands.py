"""What the script does with an object in its hand, task by task.

Shape legend: N environments.

All poses are in the frame of the arm's base; the base's own axis is vertical. All lengths but the bucket's are tuned by
hand.
"""

import torch
from torch import Tensor

from epo_lightning.envs.allegro_kuka.scripted.kinematics import Frame
from epo_lightning.envs.allegro_kuka.scripted.pilot import Errand

RIM = 0.198
"""Height of the bucket, m."""
OVER = 0.03
"""Room between rim and object, m."""
NARROW = 0.55
"""Distance from the base at which the arm turns with the object, m."""
CRUISE = 0.15
"""Height over the table at which the object travels, m."""
NEAR = 0.10
"""How near the bucket's middle the object must be before it sinks to the rim, m."""
FAR = 0.15
"""Farther than this from the bucket's middle the object rises before anything else, m."""
AHEAD = 0.97
"""Cosine of the angle between object and bucket, seen from the base, from which on the arm reaches out (14 degrees)."""
AIM = 0.03
"""How exactly the object must be over the bucket's middle before the hand opens, m."""


def bring(thing: Frame, goal: Tensor) -> Errand:
    """Bring the object to `goal`, (N, 3), upright, in any direction."""
    return Errand(goal - thing.pos, None, torch.zeros(len(goal), dtype=torch.bool))


def bring_and_turn(thing: Frame, goal: Frame) -> Errand:
    """Bring the object to a pose."""
    return bring(thing, goal.pos)._replace(turn=goal.rot @ thing.rot.transpose(1, 2))


def drop(thing: Frame, half: Tensor, bucket: Tensor, table: float) -> Errand:
    """Rise, turn close to the body, reach out over the bucket, sink to its rim, let go.

    Args:
        thing: The objects' poses.
        half: (N, 3) half edges, m.
        bucket: (N, 3) the middle of the bucket's underside.
        table: Height of the table, m.
    """
    low = (thing.rot[:, 2].abs() * half).sum(dim=1)  # from the object's centre down to its lowest point
    rim = bucket[:, 2] + RIM + OVER + low
    here, there = thing.pos[:, :2], bucket[:, :2]
    far, reach = here.norm(dim=1), there.norm(dim=1)
    ahead, aside = here / far[:, None], there / reach[:, None]
    off = (here - there).norm(dim=1)
    height = torch.where(off < NEAR, rim, rim.clamp(min=table + CRUISE))
    rise = (thing.pos[:, 2] < height - OVER) & (off > FAR)
    turn = ((ahead * aside).sum(dim=1) < AHEAD) & ~rise
    spot = torch.where(rise[:, None], ahead * far.clamp(max=NARROW)[:, None], there)
    spot = torch.where(turn[:, None], aside * NARROW, spot)
    shift = torch.cat([spot, height[:, None]], dim=1) - thing.pos
    return Errand(shift, None, (off < AIM) & (thing.pos[:, 2] < rim + NEAR))
