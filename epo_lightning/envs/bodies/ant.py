"""The ant and its trap as a MuJoCo model: a ball on four legs of two joints each, before three walls.

Sizes, joint ranges and motors are those of Gymnasium's ant; the scene is written here, from primitives.
"""

from math import radians

import mujoco

from epo_lightning.envs.bodies.base import CAMERA
from epo_lightning.envs.bodies.scenery import GROUND, add_scenery

_BODY, _WORLD = 1, 2
"""Contact bits: the ant's parts touch ground and walls, not each other."""
_GEOM = mujoco.mjtGeom
_COLOUR, _WALL_COLOUR = [0.92, 0.47, 0.16, 1], [0.27, 0.33, 0.41, 1]
_LEGS = {"front_left": (1, 1), "back_left": (-1, 1), "back_right": (-1, -1), "front_right": (1, -1)}
"""In which quadrant of the torso's x and y a leg lies."""
_WALL = 0.5


def build_scene(trap: float, timestep: float, height: float) -> mujoco.MjModel:
    """The compiled model: a free joint, then hip and ankle of each leg, with a motor each in this order.

    Args:
        trap: x of the back wall's middle, m.
        timestep: Of the physics, s.
        height: Of the torso at the start, m.
    """
    spec = mujoco.MjSpec()
    spec.compiler.degree = False
    spec.option.timestep = timestep
    spec.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    spec.default.geom.friction = [1.0, 0.5, 0.5]
    spec.default.geom.margin = 0.01
    add_scenery(spec, CAMERA, [0.4 * trap - 3.0, -13.0, 13.0], [0.5 * trap, 0.0, 0.0], tile=1.0)
    touchable = {"contype": _WORLD, "conaffinity": _BODY}
    ground = {"type": _GEOM.mjGEOM_PLANE, "size": [60, 60, 1], "material": GROUND}
    spec.worldbody.add_geom(name="ground", **ground, **touchable)
    for name, ends in _trap(trap).items():
        wall = {"type": _GEOM.mjGEOM_CAPSULE, "fromto": ends, "size": [_WALL, 0, 0], "rgba": _WALL_COLOUR}
        spec.worldbody.add_geom(name=name, **wall, **touchable)

    torso = spec.worldbody.add_body(name="torso", pos=[0, 0, height])
    torso.add_freejoint(name="root")
    part = {"density": 5.0, "rgba": _COLOUR, "contype": _BODY, "conaffinity": _WORLD}
    torso.add_geom(name="torso", type=_GEOM.mjGEOM_SPHERE, size=[0.25, 0, 0], **part)
    for name, (x, y) in _LEGS.items():
        _add_leg(spec, torso, name, x, y, part)
    return spec.compile()


def _trap(x: float) -> dict[str, list[float]]:
    """Ends of the capsules of the walls: a back wall of 5 m, side walls of 6 m, with their round ends."""
    level = 0.5
    sides = {f"side_{name}": [x - 5.0, y, level, x, y, level] for name, y in (("left", 3.0), ("right", -3.0))}
    return {"back": [x, -2.0, level, x, 2.0, level], **sides}


def _add_leg(spec: mujoco.MjSpec, torso: mujoco.MjsBody, name: str, x: int, y: int, part: dict[str, object]) -> None:
    """A fixed stump, a thigh that swings about the vertical, and a shank that bends up and down."""
    capsule = {"type": _GEOM.mjGEOM_CAPSULE, "size": [0.08, 0, 0], **part}
    near, far = [0.2 * x, 0.2 * y, 0.0], [0.4 * x, 0.4 * y, 0.0]
    torso.add_geom(fromto=[0, 0, 0, *near], **capsule)
    thigh = torso.add_body(name=f"{name}_thigh", pos=near)
    thigh.add_geom(fromto=[0, 0, 0, *near], **capsule)
    shank = thigh.add_body(name=f"{name}_shank", pos=near)
    shank.add_geom(fromto=[0, 0, 0, *far], **capsule)
    # seen along its axis an ankle bends down by 30 to 70 degrees; the axes of opposite legs are parallel
    bent = [radians(30), radians(70)] if x > 0 else [-radians(70), -radians(30)]
    joints = {
        "hip": (thigh, [0, 0, 1], [-radians(30), radians(30)]),
        "ankle": (shank, [-x * y, 1, 0], bent),
    }
    for kind, (body, axis, limits) in joints.items():
        joint = body.add_joint(name=f"{name}_{kind}", type=mujoco.mjtJoint.mjJNT_HINGE, axis=axis)
        joint.limited, joint.range = True, limits
        joint.armature, joint.damping = 1.0, [1.0, 0.0, 0.0]
        motor = spec.add_actuator(trntype=mujoco.mjtTrn.mjTRN_JOINT, target=joint.name)
        motor.gear = [150, 0, 0, 0, 0, 0]
        motor.ctrllimited, motor.ctrlrange = True, [-1, 1]
