"""Arms at a table as a MuJoCo model: the robots of the Allegro-Kuka tasks, with hands that are held still."""

from math import pi

import mujoco

from epo_lightning.envs.allegro_kuka.cards import TABLE_TOP
from epo_lightning.envs.allegro_kuka.robot import GAINS
from epo_lightning.envs.allegro_kuka.robot_bodies import FURNITURE, add_robot
from epo_lightning.envs.bodies.base import CAMERA
from epo_lightning.envs.bodies.scenery import GROUND, add_scenery

_GEOM = mujoco.mjtGeom
_FROM_MIDDLE = 1.1
"""Of the table to a base, m."""
_TABLE = (0.55, 0.2, 0.15)
"""Half edges, m."""
_COLOURS = ([0.1, 0.75, 0.35, 0.45], [0.2, 0.45, 1.0, 0.45])
"""Of the points of each arm."""


def build_scene(arms: int, timestep: float, radius: float) -> mujoco.MjModel:
    """The compiled model: the joints of the arms, then x, y and z of each arm's point, in the frame of its base.

    There is a position drive for each joint of an arm. A point touches nothing and rests where it is put: there is no
    gravity, since the arms compensate it.

    Args:
        arms: 1 or 2.
        timestep: Of the physics, s.
        radius: Of a point, as it is drawn, m.
    """
    spec = mujoco.MjSpec()
    spec.compiler.degree = False
    spec.option.timestep = timestep
    spec.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    spec.option.gravity = [0, 0, 0]
    eye, target = ([0.4, -2.23, 1.77], [0.07, -0.4, 0.9]) if arms == 2 else ([0.3, -1.9, 1.6], [-0.6, -0.1, 0.8])
    add_scenery(spec, CAMERA, eye, target, tile=0.25)
    world = spec.worldbody
    world.add_geom(name="ground", type=_GEOM.mjGEOM_PLANE, size=[6, 6, 0.1], contype=0, conaffinity=0, material=GROUND)
    top = {"contype": FURNITURE, "conaffinity": 0, "rgba": [0.76, 0.62, 0.46, 1]}
    world.add_geom(name="table", type=_GEOM.mjGEOM_BOX, size=_TABLE, pos=[0, 0, TABLE_TOP - _TABLE[2]], **top)
    for arm in range(arms):
        side = 2 * arm - 1
        base, yaw = (side * _FROM_MIDDLE, 0.0, 0.0), -side * pi / 2
        add_robot(spec, arm, base, yaw, GAINS["stiff"])
    _hold_fingers(spec)
    for arm in range(arms):
        _add_point(spec, arm, radius)
    return spec.compile()


def _hold_fingers(spec: mujoco.MjSpec) -> None:
    """Take out the joints of the fingers with their drives: straight ones are part of the hand."""
    for drive in [drive for drive in spec.actuators if not drive.name.startswith("arm")]:
        spec.delete(drive)
    for joint in [joint for joint in spec.joints if not joint.name.startswith("arm")]:
        spec.delete(joint)


def _add_point(spec: mujoco.MjSpec, arm: int, radius: float) -> None:
    """Three slides along the axes of the base's frame, and a sphere that is drawn."""
    frame = spec.body(f"base_{arm}")
    point = spec.worldbody.add_body(name=f"point_{arm}", pos=frame.pos, quat=frame.quat)
    for name, axis in (("x", [1, 0, 0]), ("y", [0, 1, 0]), ("z", [0, 0, 1])):
        point.add_joint(name=f"point_{name}_{arm}", type=mujoco.mjtJoint.mjJNT_SLIDE, axis=axis)
    ghost = {"contype": 0, "conaffinity": 0, "rgba": _COLOURS[arm], "mass": 1.0}
    point.add_geom(name=f"point_{arm}", type=_GEOM.mjGEOM_SPHERE, size=[radius, 0, 0], **ghost)
