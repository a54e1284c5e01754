"""Forward and inverse kinematics of chains of hinges, batched on tensors.

Shape legend: B batch entries, J joints of a chain.

The chains are built from the same tables as the model (`robot`), so they agree with MuJoCo to rounding. Constants
without a source are tuned by hand.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

DAMPING = 0.05
"""Of the least squares: keeps steps small where the arm is stretched (m/rad, or 1)."""
LONGEST_STEP = 0.3
"""Most that a joint moves in one step, rad: beyond it the Jacobian is a poor guide."""
ARM_PULL, FINGER_PULL = 0.02, 0.05
"""How much of the way to the preferred angles arm and fingers make in the null space in a step."""
TURN_WEIGHT = 0.2
"""How many metres of shift a turn of one radian is worth."""
FREE_STRIDE = (1.0, 3.0)
"""Longest shift, m, and turn, rad, of the end in one iteration whose path the arm does not follow: almost no limit."""
POSE_ITERATIONS, POINT_ITERATIONS = 60, 25
"""Steps to a pose of the arm's end, and to a point for a finger's."""
SMALL = 1e-9
"""Smaller sines count as this: no division by zero."""


class Frame(NamedTuple):
    """Poses: origin `pos` (..., 3) in metres and rotation matrix `rot` (..., 3, 3)."""

    pos: Tensor
    rot: Tensor

    def __matmul__(self, other: "Frame") -> "Frame":
        """`other`, given in this frame, in the frame that this one is given in."""
        return Frame(self.pos + (self.rot @ other.pos[..., None])[..., 0], self.rot @ other.rot)

    def point(self, local: Tensor) -> Tensor:
        """(..., 3) the point `local` of this frame in the outer one."""
        return self.pos + (self.rot @ local[..., None])[..., 0]


def matrix(quat: Tensor) -> Tensor:
    """(..., 3, 3) rotation matrices of unit quaternions (w, x, y, z), (..., 4)."""
    w, x, y, z = quat.unbind(-1)
    rows = [
        1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
        2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
        2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
    ]  # fmt: skip
    return by_rows(rows)


def turn(angle: Tensor) -> Tensor:
    """(..., 3, 3) rotation by `angle` (...) about z."""
    c, s, zero, one = angle.cos(), angle.sin(), torch.zeros_like(angle), torch.ones_like(angle)
    return by_rows([c, -s, zero, s, c, zero, zero, zero, one])


def by_rows(entries: Sequence[Tensor]) -> Tensor:
    """(..., 3, 3) matrices of nine `entries` (...), row by row."""
    return torch.stack(list(entries), dim=-1).reshape(*entries[0].shape, 3, 3)


def rotation_vector(rot: Tensor) -> Tensor:
    """(..., 3) axis times angle, rad, of rotation matrices (..., 3, 3); exact below 180 degrees."""
    skew = rot - rot.transpose(-1, -2)
    axis = torch.stack([skew[..., 2, 1], skew[..., 0, 2], skew[..., 1, 0]], dim=-1) / 2  # u sin(angle)
    sine: Tensor = axis.norm(dim=-1)
    cosine = (rot.diagonal(dim1=-2, dim2=-1).sum(-1) - 1) / 2
    return axis * (torch.atan2(sine, cosine) / sine.clamp(min=SMALL))[..., None]


class Chain:
    """Hinges in a row, each about the z axis of its frame.

    Args:
        links: For every joint, position and quaternion (w, x, y, z) of its frame in the one before.
        limits: (J, 2) joint limits, rad.
        end: Position and quaternion of the end's frame in the last joint's frame.
    """

    def __init__(
        self, links: Sequence[tuple[Sequence[float], Sequence[float]]], limits: Tensor, end: tuple[Sequence[float], ...]
    ) -> None:
        frames = [Frame(torch.tensor(pos, dtype=torch.float32), matrix(_unit(quat))) for pos, quat in (*links, end)]
        self.links, self.end = frames[:-1], frames[-1]
        self.low, self.high = limits.float().unbind(-1)

    def forward(self, joints: Tensor) -> tuple[Frame, Tensor, Tensor]:
        """Where the end is.

        Args:
            joints: (B, J) angles, rad.

        Returns:
            The end's frame in the chain's base, and the Jacobians (B, 3, J) of its origin (m/rad) and of its rotation.
        """
        frames = self.frames(joints)
        end = frames[-1] @ self.end
        axis = torch.stack([f.rot[..., 2] for f in frames], dim=-1)
        lever = end.pos[..., None] - torch.stack([f.pos for f in frames], dim=-1)
        return end, torch.linalg.cross(axis, lever, dim=-2), axis

    def frames(self, joints: Tensor) -> list[Frame]:
        """The frames of all joints, turned by the angles (B, J)."""
        found: list[Frame] = []
        for link, angle in zip(self.links, joints.unbind(-1), strict=True):
            here = found[-1] @ link if found else link
            found.append(Frame(here.pos.expand(*angle.shape, 3), here.rot @ turn(angle)))
        return found

    def step(self, joints: Tensor, error: Tensor, jacobian: Tensor, rest: Tensor, pull: float | Tensor) -> Tensor:
        """One damped least-squares step towards a smaller error.

        Args:
            joints: (B, J) angles, rad.
            error: (B, E) wanted change of the task's coordinates.
            jacobian: (B, E, J) its derivative.
            rest: (B, J) angles that are preferred among the equally good.
            pull: How much of the way to `rest` is made in the null space, a number or (B, 1).

        Returns:
            (B, J) new angles within the limits.
        """
        # q <- q + J^T (J J^T + lambda^2)^-1 (e - J d) + d   with   d = pull (rest - q)
        drift = pull * (rest - joints)
        eye = DAMPING**2 * torch.eye(error.shape[-1])
        rest_error = error - (jacobian @ drift[..., None])[..., 0]
        force = torch.linalg.solve(jacobian @ jacobian.transpose(-1, -2) + eye, rest_error[..., None])
        move = (jacobian.transpose(-1, -2) @ force)[..., 0] + drift
        return torch.clamp(joints + move.clamp(-LONGEST_STEP, LONGEST_STEP), self.low, self.high)

    def towards(
        self,
        joints: Tensor,
        goal: Frame,
        rest: Tensor,
        pull: float | Tensor = ARM_PULL,
        stride: tuple[float | Tensor, float] = FREE_STRIDE,
        turn_weight: float | Tensor = TURN_WEIGHT,
    ) -> tuple[Tensor, Tensor]:
        """One step that brings the end towards a pose, in a straight line.

        Args:
            joints: (B, J) angles, rad.
            goal: The pose.
            rest: (B, J) angles that are preferred among the equally good.
            pull: How much of the way to `rest` is made in the null space, a number or (B, 1).
            stride: Longest shift and turn of the end, m and rad; numbers or (B, 1).
            turn_weight: How many metres of shift a turn of one radian is worth, a number or (B, 3) for each axis.

        Returns:
            The new angles (B, J), and how far off the end was before: shift and turn, (B, 6) in m and rad.
        """
        end, linear, angular = self.forward(joints)
        shift, spin = goal.pos - end.pos, rotation_vector(goal.rot @ end.rot.transpose(-1, -2))
        change = torch.cat([_shorten(shift, stride[0]), _shorten(spin, stride[1]) * turn_weight], dim=-1)
        heavy = turn_weight[..., None] if isinstance(turn_weight, Tensor) else turn_weight
        jacobian = torch.cat([linear, angular * heavy], dim=-2)
        return self.step(joints, change, jacobian, rest, pull), torch.cat([shift, spin], dim=-1)

    def solve(self, joints: Tensor, goal: Frame, iterations: int = POSE_ITERATIONS) -> tuple[Tensor, Tensor]:
        """Angles (B, J) that bring the end to the pose `goal`, from the guess `joints`, and the error left, (B, 6)."""
        rest = joints
        for number in range(iterations):
            pull = ARM_PULL if number < iterations // 2 else 0.0
            joints, _ = self.towards(joints, goal, rest, pull)
        return joints, self.towards(joints, goal, rest)[1]

    def reach(self, joints: Tensor, goal: Tensor, rest: Tensor, iterations: int = POINT_ITERATIONS) -> Tensor:
        """Angles (B, J) that bring the end's origin to `goal` (B, 3), near `rest` (B, J)."""
        for _ in range(iterations):
            end, linear, _ = self.forward(joints)
            joints = self.step(joints, goal - end.pos, linear, rest, FINGER_PULL)
        return joints


def _shorten(vectors: Tensor, most: float | Tensor) -> Tensor:
    """(B, 3) vectors that are no longer than `most`, a number or (B, 1)."""
    excess: Tensor = (vectors.norm(dim=-1, keepdim=True) / most).clamp(min=1)
    return vectors / excess


def _unit(quat: Sequence[float]) -> Tensor:
    value = torch.tensor(quat, dtype=torch.float32)
    length: Tensor = value.norm()
    return value / length
