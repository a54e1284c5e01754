"""The robot, from primitives: a KUKA iiwa 7 with a right Allegro hand.

Link offsets, masses, centres of mass and joint limits are the robot's; links are capsules and boxes fitted to its
bounding boxes. Gravity does not act on it. Dry friction and speed limits of the joints are not modelled.
"""

from dataclasses import dataclass
from math import cos, sin
from typing import Any

import mujoco

GEOM = mujoco.mjtGeom

# contact bits: a pair collides when one's contype meets the other's conaffinity
OBJECT, FURNITURE = 1, 2
ARM = (4, 8)
TIP = (16, 32)


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


def add_robot(spec: mujoco.MjSpec, hand: int, base: tuple[float, ...], yaw: float, gains: Gains) -> None:
    """One arm with its hand, fixed at `base`."""
    bits = {"contype": ARM[hand], "conaffinity": OBJECT | FURNITURE | ARM[1 - hand]}
    orange, dark = [0.92, 0.5, 0.14, 1], [0.2, 0.21, 0.24, 1]
    parent = spec.worldbody.add_body(name=f"base_{hand}", pos=base, quat=[cos(yaw / 2), 0, 0, sin(yaw / 2)], gravcomp=1)
    parent.add_geom(
        type=GEOM.mjGEOM_CYLINDER, size=[0.09, 0.075, 0], pos=[0, 0, 0.075], mass=5, contype=0, conaffinity=0, rgba=dark
    )
    for number, (pos, quat, mass, centre, end, radius) in enumerate(ARM_LINKS, start=1):
        body = parent.add_body(name=f"link{number}_{hand}", pos=pos, quat=quat, gravcomp=1)
        # inertia of a solid cylinder, 0.2 m by 0.06 m radius, the same about all axes within a factor of two
        body.explicitinertial = True
        body.mass, body.ipos, body.inertia = mass, centre, [mass * 0.0042, mass * 0.0042, mass * 0.003]
        limit = ARM_LIMITS[number - 1]
        _add_joint(spec, body, f"arm{number}_{hand}", (-limit, limit), "arm", gains)
        near = bits if number >= 4 else {"contype": 0, "conaffinity": 0}
        body.add_geom(
            type=GEOM.mjGEOM_CAPSULE, fromto=[0, 0, 0, *end], size=[radius, 0, 0], mass=0, rgba=orange, **near
        )
        parent = body
    parent.add_site(name=f"palm_{hand}", pos=PALM_POINT, size=[0.005] * 3)
    palm = parent.add_body(name=f"palm_{hand}", pos=PALM_POS, quat=PALM_QUAT, gravcomp=1)
    palm.add_geom(
        type=GEOM.mjGEOM_BOX,
        size=[0.05, 0.0585, 0.049],
        pos=[-0.008, 0.0085, -0.049],
        mass=0.4154,
        rgba=dark,
        **bits,
    )
    for finger, (pos, quat) in FINGER_BASES.items():
        links = ((pos, quat, *FINGER_LINKS[0][2:]), *FINGER_LINKS[1:])
        _add_finger(spec, palm, finger, hand, links, FINGER_TIP, bits, gains)
    _add_finger(spec, palm, "thumb", hand, THUMB_LINKS, THUMB_TIP, bits, gains)


def _add_finger(
    spec: mujoco.MjSpec,
    parent: mujoco.MjsBody,
    finger: str,
    hand: int,
    links: tuple[tuple[Any, ...], ...],
    tip: tuple[float, ...],
    bits: dict[str, int],
    gains: Gains,
) -> None:
    """Four links in a row; the last one ends in a fingertip that meets the hand's other fingertips, too."""
    for number, (pos, quat, limits, mass, start, end) in enumerate(links):
        body = parent.add_body(name=f"{finger}{number}_{hand}", pos=pos, quat=quat, gravcomp=1)
        _add_joint(spec, body, f"{finger}{number}_{hand}", limits, "hand", gains)
        shape: dict[str, Any] = {"mass": mass, "size": [FINGER_RADIUS, 0, 0], "rgba": [0.36, 0.38, 0.42, 1]}
        if start is None:
            body.add_geom(type=GEOM.mjGEOM_SPHERE, contype=0, conaffinity=0, **shape)
        elif number < len(links) - 1:
            body.add_geom(type=GEOM.mjGEOM_CAPSULE, fromto=[*start, *end], **shape, **bits)
        else:
            soft = {"contype": bits["contype"] | TIP[hand], "conaffinity": bits["conaffinity"] | TIP[hand]}
            shape["rgba"] = [0.97, 0.97, 0.95, 1]
            body.add_geom(type=GEOM.mjGEOM_CAPSULE, fromto=[*start, *end], condim=4, **shape, **soft)
            body.add_site(name=f"{finger}_{hand}", pos=tip, size=[0.004] * 3)
        parent = body


def _add_joint(
    spec: mujoco.MjSpec, body: mujoco.MjsBody, name: str, limits: tuple[float, float], kind: str, gains: Gains
) -> None:
    """A hinge about local z with a position drive; damping sits inside the torque limit, not beside it."""
    kp, kv, armature = gains.arm if kind == "arm" else gains.hand
    body.add_joint(
        name=name,
        type=mujoco.mjtJoint.mjJNT_HINGE,
        axis=[0, 0, 1],
        range=limits,
        limited=True,
        armature=armature,
    )
    drive = spec.add_actuator(
        name=name,
        target=name,
        trntype=mujoco.mjtTrn.mjTRN_JOINT,
        ctrlrange=limits,
        ctrllimited=True,
        forcerange=[-TORQUE[kind], TORQUE[kind]],
        forcelimited=True,
    )
    drive.set_to_position(kp=kp, kv=kv)
