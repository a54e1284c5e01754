"""The robot as numbers: a KUKA iiwa 7 with a right Allegro hand.

Link offsets, masses, centres of mass and joint limits are the robot's; `robot_bodies` makes a model of them.
"""

from dataclasses import dataclass
from typing import Any


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

# joint frames: position and quaternion (w, x, y, z) in the parent, then mass, centre of mass, end of the capsule
S = 0.5**0.5
ARM_LINKS: tuple[tuple[Any, ...], ...] = (
    ((0, 0, 0.15), (1, 0, 0, 0), 3.4525, (0, -0.03, 0.12), (0, 0, 0.19), 0.07),
    ((0, 0, 0.19), (0, 0, S, S), 3.4821, (0.0003, 0.059, 0.042), (0, 0.21, 0), 0.065),
    ((0, 0.21, 0), (0, 0, S, S), 4.0562, (0, 0.03, 0.13), (0, 0, 0.19), 0.065),
    ((0, 0, 0.19), (S, S, 0, 0), 3.4822, (0, 0.067, 0.034), (0, 0.21, 0), 0.06),
    ((0, 0.21, 0), (0, 0, S, S), 2.1633, (0.0001, 0.021, 0.076), (0, 0.04, 0.14), 0.055),
    ((0, 0.0607, 0.19), (S, S, 0, 0), 2.3466, (0, 0.0006, 0.0004), (0, 0.04, 0.02), 0.06),
    ((0, 0.081, 0.0607), (0, 0, S, S), 3.279, (0, 0, 0.02), (0, 0, 0.06), 0.045),
)
ARM_LIMITS = (2.96706, 2.09440, 2.96706, 2.09440, 2.96706, 2.09440, 3.05433)
PALM_POS, PALM_QUAT = (0.00822, -0.02063, 0.15186), (0.65328, 0.2706, -0.65328, 0.2706)
PALM_POINT = (0.0, -0.02, 0.16)
BEND = (-0.27924, 1.72783)
FINGER_BASES: dict[str, tuple[Any, ...]] = {
    "index": ((0.05143, -0.03632, -0.0113), (0.03084, 0.70643, -0.03084, 0.70643)),
    "middle": ((0.05374, 0.00878, -0.0113), (0.0, 0.70711, 0.0, 0.70711)),
    "ring": ((0.05143, 0.05387, -0.0113), (0.03084, -0.70643, -0.03084, -0.70643)),
}
# per joint: position, quaternion, limits, mass, capsule from, to (None: no collision shape)
FINGER_LINKS: tuple[tuple[Any, ...], ...] = (
    (None, None, (-0.55849, 0.55849), 0.005, None, None),
    ((0, 0, 0), (0.5, -0.5, -0.5, -0.5), BEND, 0.1252, (0.003, 0, 0), (0.051, 0, 0)),
    ((0.054, 0, 0), (1, 0, 0, 0), BEND, 0.1317, (0.006, 0, 0), (0.035, 0, 0)),
    ((0.0384, 0, 0), (1, 0, 0, 0), BEND, 0.0212, (0.006, 0, 0), (0.025, 0, 0)),
)
THUMB_LINKS: tuple[tuple[Any, ...], ...] = (
    ((-0.03675, -0.00813, -0.0295), (0.70643, -0.03086, -0.70643, -0.03086), (0.27924, 1.57075), 0.1, None, None),
    ((0.005, 0, 0), (S, S, 0, 0), (-0.33160, 1.15188), 0.1, (0, 0, 0.008), (0, 0, 0.045)),
    ((0, 0, 0.0554), (0, S, 0, S), BEND, 0.1, (0.003, 0, 0), (0.046, 0, 0)),
    ((0.0514, 0, 0), (1, 0, 0, 0), (-0.27924, 1.76273), 0.1, (0.002, 0, 0), (0.040, 0, 0)),
)
FINGER_RADIUS = 0.012
FINGER_TIP, THUMB_TIP = (0.05, 0.005, 0.0), (0.06, 0.005, 0.0)
