"""The scene of a task as a MuJoCo model, from primitives only.

Table, obstacles, object, goal, one or two robots (see `robot_bodies`), and the sensors. Gravity acts on all but the
robots.

Names that the physics engine reads: joints and actuators in the order arm 0 (arm, index, middle, ring, thumb), arm 1;
body `object` with its geom, mocap body `goal`; sensors in the order of `physics.readout`.
"""

from collections.abc import Sequence
from math import cos, pi, sin
from typing import Any

import mujoco
import numpy as np

from epo_lightning.envs.allegro_kuka.appearance import GROUND, add_appearance
from epo_lightning.envs.allegro_kuka.cards import HAND_JOINTS, TABLE_TOP, Card
from epo_lightning.envs.allegro_kuka.obstacles import KEY, TOUCH, Block
from epo_lightning.envs.allegro_kuka.robot import Gains
from epo_lightning.envs.allegro_kuka.robot_bodies import FURNITURE, GEOM, OBJECT, add_robot
from epo_lightning.limits import Mistake

DECIMATION = 2


def build_scene(card: Card, gains: Gains) -> mujoco.MjModel:
    """The compiled model of `card`, its object the base cube (an engine sets size and mass per environment).

    Raises:
        Mistake: When an obstacle overlaps a robot, or one that can be pushed the table.
    """
    model = _described(card, gains).compile()
    _check_clearance(model, card)
    return model


def scene_xml(card: Card, gains: Gains) -> str:
    """The scene of `build_scene` as MJCF, its numbers rounded to six digits."""
    spec = _described(card, gains)
    spec.compile()
    return str(spec.to_xml())


def _described(card: Card, gains: Gains) -> mujoco.MjSpec:
    """The scene before it is compiled."""
    spec = mujoco.MjSpec()
    spec.compiler.degree = False
    _options(spec)
    world = spec.worldbody
    add_appearance(spec, card)
    world.add_geom(
        name="ground", type=GEOM.mjGEOM_PLANE, size=[6, 6, 0.1], contype=0, conaffinity=OBJECT, material=GROUND
    )
    world.add_geom(name="table", **_furniture([card.table / 2, 0.2, 0.15], [0, 0, TABLE_TOP - 0.15]))
    _add_obstacles(world, card.obstacles, free=False)

    if card.arms == 1:
        add_robot(spec, 0, (0, 0.8, 0), 0.0, gains)
    else:
        add_robot(spec, 0, (-1.1, 0, 0), pi / 2, gains)
        add_robot(spec, 1, (1.1, 0, 0), -pi / 2, gains)

    thing = world.add_body(name="object", pos=[0, 0, 0.63])
    thing.add_joint(name="object", type=mujoco.mjtJoint.mjJNT_FREE)
    thing.add_geom(
        name="object",
        type=GEOM.mjGEOM_BOX,
        size=[0.025] * 3,
        mass=0.05,
        contype=OBJECT,
        conaffinity=0,
        rgba=[0.85, 0.15, 0.2, 1],
    )
    _add_obstacles(world, card.obstacles, free=True)
    _add_goal(world, card.goal)
    _add_sensors(spec, card)
    return spec


def _options(spec: mujoco.MjSpec) -> None:
    """Two steps of 1/120 s per control step; elliptic friction cones with impratio 10 hold a grasp without creep."""
    option = spec.option
    option.timestep = 1 / 120
    option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    option.solver = mujoco.mjtSolver.mjSOL_NEWTON
    option.cone = mujoco.mjtCone.mjCONE_ELLIPTIC
    option.impratio = 10
    option.iterations = 20
    option.ls_iterations = 50
    option.tolerance = 1e-6
    option.gravity = [0, 0, -9.81]
    spec.default.geom.solref = [1 / 60, 1]
    spec.default.geom.friction = [1.0, 0.005, 0.0001]
    visual = spec.visual
    visual.global_.offwidth = 1280
    visual.global_.offheight = 960


def _furniture(size: list[float], pos: list[float]) -> dict[str, Any]:
    """A static box: half sizes and centre, m."""
    box = {"type": GEOM.mjGEOM_BOX, "size": size, "pos": pos, "rgba": [0.76, 0.62, 0.46, 1]}
    return box | {"contype": FURNITURE, "conaffinity": OBJECT}


def _add_obstacles(world: mujoco.MjsBody, blocks: Sequence[Block], *, free: bool) -> None:
    """Those of `blocks` that can be pushed, or those that cannot; block i is `obstacle_i`."""
    for number, block in enumerate(blocks):
        name, half = f"obstacle_{number}", [edge / 2 for edge in block.size]
        if free and block.mass is not None:
            body = world.add_body(name=name, pos=block.pos)
            body.add_freejoint(name=name)
            box = _furniture(half, [0, 0, 0]) | {"contype": OBJECT | FURNITURE, "rgba": [0.5, 0.5, 0.55, 1]}
            body.add_geom(name=name, mass=block.mass, **box)
        elif not free and block.mass is None:
            world.add_geom(name=name, **_furniture(half, list(block.pos)))


def _check_clearance(model: mujoco.MjModel, card: Card) -> None:
    """Refuse obstacles inside a robot in its default pose, and free ones inside the table, which would throw them."""
    data = mujoco.MjData(model)
    data.qpos[: model.nu] = (card.arm_pose + (0.0,) * HAND_JOINTS) * card.arms
    mujoco.mj_kinematics(model, data)
    roots = {model.body(f"base_{hand}").id for hand in range(card.arms)}
    robot = [geom for geom in range(model.ngeom) if model.body_rootid[model.geom_bodyid[geom]] in roots]

    def overlap(a: int, b: int) -> bool:
        return bool(mujoco.mj_geomDistance(model, data, a, b, 1.0, None) < -TOUCH)

    for number, block in enumerate(card.obstacles):
        own = model.geom(f"obstacle_{number}").id
        if any(overlap(own, geom) for geom in robot):
            raise Mistake(f"{KEY}[{number}] overlaps a robot in its default pose: move or shrink it")
        if block.mass is not None and overlap(own, model.geom("table").id):
            raise Mistake(
                f"{KEY}[{number}] has a mass and must not begin inside the table, whose top is at z = {TABLE_TOP}"
            )


def _add_goal(world: mujoco.MjsBody, goal: str) -> None:
    """What shows the goal: a ghost of the object, a small sphere, or a bucket that the object can hit."""
    body = world.add_body(name="goal", mocap=True, pos=[0, 0, 1])
    ghost: dict[str, Any] = {"contype": 0, "conaffinity": 0, "rgba": [0.1, 0.75, 0.35, 0.5]}
    if goal == "pose":
        body.add_geom(name="goal", type=GEOM.mjGEOM_BOX, size=[0.025] * 3, **ghost)
    elif goal == "point":
        body.add_geom(name="goal", type=GEOM.mjGEOM_SPHERE, size=[0.01875, 0, 0], **ghost)
    else:
        _add_bucket(body)


def _add_bucket(body: mujoco.MjsBody) -> None:
    """Twelve wall boxes around a floor: a truncated cone, 0.198 high, inner radius 0.0705 (floor) to 0.1034 (rim)."""
    solid = {"contype": FURNITURE, "conaffinity": OBJECT, "rgba": [0.25, 0.45, 0.7, 1]}
    height, low, high, wall = 0.198, 0.0762, 0.1117, 0.014  # radii of the middle of the wall
    body.add_geom(type=GEOM.mjGEOM_CYLINDER, size=[0.078, 0.005, 0], pos=[0, 0, 0.005], **solid)
    lean = (high - low) / height
    for side in range(12):
        angle = side * pi / 6
        middle = (low + high) / 2
        half_width = (high + wall / 2) * sin(pi / 12) / cos(pi / 12)
        # local z runs up the leaning wall, local x points outwards, local y along the wall
        up = [lean * cos(angle), lean * sin(angle), 1.0]
        norm = (1 + lean * lean) ** 0.5
        along = [-sin(angle), cos(angle), 0.0]
        out = [cos(angle) / norm, sin(angle) / norm, -lean / norm]
        body.add_geom(
            type=GEOM.mjGEOM_BOX,
            size=[wall / 2, half_width, height * norm / 2],
            pos=[middle * cos(angle), middle * sin(angle), height / 2],
            quat=_quat(out, along, [u / norm for u in up]),
            **solid,
        )


def _quat(x: list[float], y: list[float], z: list[float]) -> list[float]:
    """The quaternion (w, x, y, z) of a frame with the given axes."""
    quat = np.zeros(4)
    mujoco.mju_mat2Quat(quat, np.array([x, y, z]).T.reshape(9))
    return quat.tolist()


def _add_sensors(spec: mujoco.MjSpec, card: Card) -> None:
    """The engine's readout: palm points, wrist frames, object frame, fingertip points, object centre, free blocks."""
    arms = card.arms
    kind, obj = mujoco.mjtSensor, mujoco.mjtObj

    def add(sensor: mujoco.mjtSensor, objtype: mujoco.mjtObj, name: str) -> None:
        spec.add_sensor(name=f"{sensor.name}_{name}", type=sensor, objtype=objtype, objname=name)

    for hand in range(arms):
        add(kind.mjSENS_FRAMEPOS, obj.mjOBJ_SITE, f"palm_{hand}")
    frame = (kind.mjSENS_FRAMEQUAT, kind.mjSENS_FRAMELINVEL, kind.mjSENS_FRAMEANGVEL)
    for name in [f"link7_{hand}" for hand in range(arms)] + ["object"]:
        for sensor in frame:
            add(sensor, obj.mjOBJ_XBODY, name)
    for hand in range(arms):
        for finger in ("index", "middle", "ring", "thumb"):
            add(kind.mjSENS_FRAMEPOS, obj.mjOBJ_SITE, f"{finger}_{hand}")
    add(kind.mjSENS_FRAMEPOS, obj.mjOBJ_XBODY, "object")
    for number, block in enumerate(card.obstacles):
        if block.mass is not None:
            for sensor in (kind.mjSENS_FRAMEPOS, *frame):
                add(sensor, obj.mjOBJ_XBODY, f"obstacle_{number}")
