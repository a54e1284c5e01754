"""Where the hand of a KUKA arm is, and how to move it: kinematics on tensors.

Shape legend: any batch dimensions B, then J = 7 joints.
"""

import torch
from torch import Tensor

from epo_lightning.envs.allegro_kuka.robot import ARM_LIMITS, ARM_LINKS, PALM_POINT, Quat

JOINTS = len(ARM_LINKS)
LIMITS = torch.tensor(ARM_LIMITS)
"""(J,) of each joint to either side, rad."""
_DAMPING = 0.05
"""m: keeps the steps finite where an arm is stretched."""


def _matrix(quat: Quat) -> Tensor:
    """(3, 3) the rotation of a unit quaternion (w, x, y, z)."""
    w, *axis = quat
    x, y, z = axis
    outer = torch.tensor(axis)[:, None] * torch.tensor(axis)
    cross = torch.tensor([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    # R = (w^2 - |v|^2) 1 + 2 v v^T + 2 w [v]
    return (w * w - outer.trace()) * torch.eye(3) + 2 * outer + 2 * w * cross


_OFFSETS = torch.tensor([link.pos for link in ARM_LINKS], dtype=torch.float32)
_TURNS = torch.stack([_matrix(link.quat) for link in ARM_LINKS])
_PALM = torch.tensor(PALM_POINT)


def chain(angles: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Joints and palm of an arm, in the frame of its base.

    Args:
        angles: (B, J) rad.

    Returns:
        Where each joint is, (B, J, 3), m; its axis, (B, J, 3); the palm point, (B, 3), m.
    """
    batch = angles.shape[:-1]
    place, turn = angles.new_zeros(*batch, 3, 1), torch.eye(3).expand(*batch, 3, 3)
    places, axes = [], []
    for joint in range(JOINTS):
        place = place + turn @ _OFFSETS[joint, :, None]
        turn = turn @ _TURNS[joint]
        places.append(place[..., 0])
        axes.append(turn[..., 2])
        cos, sin = angles[..., joint].cos()[..., None], angles[..., joint].sin()[..., None]
        x, y, z = turn.unbind(-1)  # a turn about its own z
        turn = torch.stack((cos * x + sin * y, cos * y - sin * x, z), dim=-1)
    palm = place + turn @ _PALM[:, None]
    return torch.stack(places, dim=-2), torch.stack(axes, dim=-2), palm[..., 0]


def steps_towards(angles: Tensor, way: Tensor) -> Tensor:
    """(B, J) changes of the joints that move the palm by about `way` (B, 3), m: damped least squares."""
    places, axes, palm = chain(angles)
    # dp/dq_i = axis_i x (p - p_i);  dq = J^T (J J^T + d^2 1)^-1 dp
    jacobian = torch.linalg.cross(axes, palm[..., None, :] - places)  # (B, J, 3)
    square = jacobian.mT @ jacobian + _DAMPING**2 * torch.eye(3)
    steps: Tensor = (jacobian @ torch.linalg.solve(square, way[..., None]))[..., 0]
    return steps
