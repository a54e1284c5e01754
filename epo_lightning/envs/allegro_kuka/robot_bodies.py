"""The robot as bodies of a MuJoCo scene, from primitives.

Links are capsules and boxes fitted to the robot's bounding boxes. Gravity does not act on it. Dry friction and speed
limits of the joints are not modelled.
"""

from collections.abc import Sequence
from math import cos, sin
from typing import Any

import mujoco

from epo_lightning.envs.allegro_kuka.robot import (
    ARM_LIMITS,
    ARM_LINKS,
    FINGER_RADIUS,
    FINGER_TIP,
    FINGERS,
    PALM_POINT,
    PALM_POS,
    PALM_QUAT,
    THUMB_TIP,
    TORQUE,
    FingerLink,
    Gains,
    Vector,
)

GEOM = mujoco.mjtGeom

# contact bits: a pair collides when one's contype meets the other's conaffinity
OBJECT, FURNITURE = 1, 2
ARM = (4, 8)
TIP = (16, 32)


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
    for finger, links in FINGERS.items():
        tip = THUMB_TIP if finger == "thumb" else FINGER_TIP
        _add_finger(spec, palm, finger, hand, links, tip, bits, gains)


def _add_finger(
    spec: mujoco.MjSpec,
    parent: mujoco.MjsBody,
    finger: str,
    hand: int,
    links: Sequence[FingerLink],
    tip: Vector,
    bits: dict[str, int],
    gains: Gains,
) -> None:
    """Four links in a row; the last one ends in a fingertip that meets the hand's other fingertips, too."""
    for number, (pos, quat, limits, mass, ends) in enumerate(links):
        body = parent.add_body(name=f"{finger}{number}_{hand}", pos=pos, quat=quat, gravcomp=1)
        _add_joint(spec, body, f"{finger}{number}_{hand}", limits, "hand", gains)
        shape: dict[str, Any] = {"mass": mass, "size": [FINGER_RADIUS, 0, 0], "rgba": [0.36, 0.38, 0.42, 1]}
        if ends is None:
            body.add_geom(type=GEOM.mjGEOM_SPHERE, contype=0, conaffinity=0, **shape)
        elif number < len(links) - 1:
            body.add_geom(type=GEOM.mjGEOM_CAPSULE, fromto=[*ends[0], *ends[1]], **shape, **bits)
        else:
            soft = {"contype": bits["contype"] | TIP[hand], "conaffinity": bits["conaffinity"] | TIP[hand]}
            shape["rgba"] = [0.97, 0.97, 0.95, 1]
            body.add_geom(type=GEOM.mjGEOM_CAPSULE, fromto=[*ends[0], *ends[1]], condim=4, **shape, **soft)
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
