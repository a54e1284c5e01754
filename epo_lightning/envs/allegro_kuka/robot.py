"""The robot as numbers: a KUKA iiwa 7 with a right Allegro hand.

Link offsets, masses, centres of mass and joint limits are the robot's; `robot_bodies` makes a model of them.
"""

from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True)
class Gains:
    """Drives of arm and hand joints: stiffness (N m/rad), damping (N m s/rad) and rotor inertia (kg m2)."""

    arm: tuple[float, float, float]
    hand: tuple[float, float, float]


GAINS = {
    "stiff": Gains(arm=(600.0, 60.0, 0.1), hand=(3.0, 0.1, 0.0035)),
    "original": Gains(arm=(40.0, 5.0, 0.1), hand=(40.0, 5.0, 0.0035)),
}
"""`stiff`: tuned for firm grasps at 1/120 s (default). `original`: the stiffness 40 and damping 5 of the original task,
which let the arm ring for seconds. The original has no rotor inertia; without any, one environment step in three blows
up at 1/120 s, so the hand keeps that of its motors, 0.0035, and the arm gets 0.1."""

TORQUE = {"arm": 300.0, "hand": 0.35}

Vector = tuple[float, float, float]
Quat = tuple[float, float, float, float]
"""(w, x, y, z)."""


class ArmLink(NamedTuple):
    """One link of the arm.

    Attributes:
        pos: Of its joint's frame in the link before, m.
        quat: Of the same.
        mass: kg.
        centre: Of mass, m.
        end: Of its capsule, which begins at the joint, m.
        radius: Of the capsule, m.
    """

    pos: Vector
    quat: Quat
    mass: float
    centre: Vector
    end: Vector
    radius: float


class FingerLink(NamedTuple):
    """One link of a finger.

    Attributes:
        pos: Of its joint's frame in the link before, or in the palm's, m.
        quat: Of the same.
        limits: Of the joint, rad.
        mass: kg.
        ends: Of its capsule, m; None: it collides with nothing.
    """

    pos: Vector
    quat: Quat
    limits: tuple[float, float]
    mass: float
    ends: tuple[Vector, Vector] | None


S = 0.5**0.5
ARM_LINKS = (
    ArmLink((0, 0, 0.15), (1, 0, 0, 0), 3.4525, (0, -0.03, 0.12), (0, 0, 0.19), 0.07),
    ArmLink((0, 0, 0.19), (0, 0, S, S), 3.4821, (0.0003, 0.059, 0.042), (0, 0.21, 0), 0.065),
    ArmLink((0, 0.21, 0), (0, 0, S, S), 4.0562, (0, 0.03, 0.13), (0, 0, 0.19), 0.065),
    ArmLink((0, 0, 0.19), (S, S, 0, 0), 3.4822, (0, 0.067, 0.034), (0, 0.21, 0), 0.06),
    ArmLink((0, 0.21, 0), (0, 0, S, S), 2.1633, (0.0001, 0.021, 0.076), (0, 0.04, 0.14), 0.055),
    ArmLink((0, 0.0607, 0.19), (S, S, 0, 0), 2.3466, (0, 0.0006, 0.0004), (0, 0.04, 0.02), 0.06),
    ArmLink((0, 0.081, 0.0607), (0, 0, S, S), 3.279, (0, 0, 0.02), (0, 0, 0.06), 0.045),
)
ARM_LIMITS = (2.96706, 2.09440, 2.96706, 2.09440, 2.96706, 2.09440, 3.05433)
"""Of each joint to either side, rad."""
PALM_POS: Vector = (0.00822, -0.02063, 0.15186)
"""Of the palm's frame in the last link, m."""
PALM_QUAT: Quat = (0.65328, 0.2706, -0.65328, 0.2706)
PALM_POINT = (0.0, -0.02, 0.16)
"""What the tasks call the palm, in the last link, m."""
_BEND = (-0.27924, 1.72783)
"""Limits of most joints that bend a finger, rad."""


def _finger(pos: Vector, quat: Quat) -> tuple[FingerLink, ...]:
    """Index, middle and ring finger are alike but for where they begin."""
    return (
        FingerLink(pos, quat, (-0.55849, 0.55849), 0.005, None),
        FingerLink((0, 0, 0), (0.5, -0.5, -0.5, -0.5), _BEND, 0.1252, ((0.003, 0, 0), (0.051, 0, 0))),
        FingerLink((0.054, 0, 0), (1, 0, 0, 0), _BEND, 0.1317, ((0.006, 0, 0), (0.035, 0, 0))),
        FingerLink((0.0384, 0, 0), (1, 0, 0, 0), _BEND, 0.0212, ((0.006, 0, 0), (0.025, 0, 0))),
    )


_THUMB_BASE: tuple[Vector, Quat] = (-0.03675, -0.00813, -0.0295), (0.70643, -0.03086, -0.70643, -0.03086)
FINGERS = {
    "index": _finger((0.05143, -0.03632, -0.0113), (0.03084, 0.70643, -0.03084, 0.70643)),
    "middle": _finger((0.05374, 0.00878, -0.0113), (0.0, 0.70711, 0.0, 0.70711)),
    "ring": _finger((0.05143, 0.05387, -0.0113), (0.03084, -0.70643, -0.03084, -0.70643)),
    "thumb": (
        FingerLink(*_THUMB_BASE, (0.27924, 1.57075), 0.1, None),
        FingerLink((0.005, 0, 0), (S, S, 0, 0), (-0.33160, 1.15188), 0.1, ((0, 0, 0.008), (0, 0, 0.045))),
        FingerLink((0, 0, 0.0554), (0, S, 0, S), _BEND, 0.1, ((0.003, 0, 0), (0.046, 0, 0))),
        FingerLink((0.0514, 0, 0), (1, 0, 0, 0), (-0.27924, 1.76273), 0.1, ((0.002, 0, 0), (0.040, 0, 0))),
    ),
}
"""Four links each, in the order of the hand's joints."""
FINGER_RADIUS = 0.012
"""Of all capsules of the fingers, m."""
FINGER_TIP, THUMB_TIP = (0.05, 0.005, 0.0), (0.06, 0.005, 0.0)
"""What the tasks call a fingertip, in the last link, m."""
