"""The scene of a task as a MuJoCo model, from primitives only.

The robot is a KUKA iiwa 7 with a right Allegro hand: link offsets, masses, centres of mass and joint limits are the
robot's; links are capsules and boxes fitted to its bounding boxes. Gravity acts on the object, not on the robot.

Names that the physics engine reads: joints and actuators in the order arm 0 (arm, index, middle, ring, thumb), arm 1;
body `object` with its geom, mocap body `goal`; sensors in the order of `physics.mujoco.readout`.
"""

from dataclasses import dataclass
from math import cos, pi, sin
from typing import Any

import mujoco

from epo_lightning.envs.allegro_kuka.cards import Card

GEOM = mujoco.mjtGeom
TABLE_TOP = 0.53
DECIMATION = 2

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
    "soft": Gains(arm=(40.0, 5.0, 0.1), hand=(40.0, 5.0, 0.0035)),
    "original": Gains(arm=(40.0, 5.0, 0.0), hand=(40.0, 5.0, 0.0)),
}
"""`stiff`: tuned for firm grasps at 1/120 s (default). `soft`: the 40/5 of the original task, which let the arm ring
for seconds. `original`: 40/5 without rotor inertia, for comparison only: at 1/120 s the fingers chatter."""

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


def build_scene(card: Card, gains: Gains) -> mujoco.MjModel:
    """The compiled model of `card`, its object the base cube (an engine sets size and mass per environment)."""
    spec = mujoco.MjSpec()
    spec.compiler.degree = False
    _options(spec)
    world = spec.worldbody
    world.add_light(pos=[0, 0, 3], dir=[0, 0, -1], castshadow=False)
    world.add_light(pos=[0, -2, 2], dir=[0, 1, -0.7], castshadow=False)
    world.add_camera(name="front", pos=[0, -2.1, 1.9], xyaxes=[1, 0, 0, 0, 0.5, 0.87])
    world.add_geom(
        name="ground", type=GEOM.mjGEOM_PLANE, size=[3, 3, 0.1], contype=0, conaffinity=OBJECT, rgba=[0.3, 0.35, 0.4, 1]
    )
    world.add_geom(name="table", **_furniture([card.table / 2, 0.2, 0.15], [0, 0, TABLE_TOP - 0.15]))
    _add_obstacle(world, card.obstacle)

    if card.arms == 1:
        _add_robot(spec, 0, (0, 0.8, 0), 0.0, gains)
    else:
        _add_robot(spec, 0, (-1.1, 0, 0), pi / 2, gains)
        _add_robot(spec, 1, (1.1, 0, 0), -pi / 2, gains)

    thing = world.add_body(name="object", pos=[0, 0, 0.63])
    thing.add_joint(name="object", type=mujoco.mjtJoint.mjJNT_FREE)
    thing.add_geom(
        name="object",
        type=GEOM.mjGEOM_BOX,
        size=[0.025] * 3,
        mass=0.05,
        contype=OBJECT,
        conaffinity=0,
        rgba=[0.85, 0.35, 0.2, 1],
    )
    if card.obstacle == "partition":
        _add_partition(world)
    _add_goal(world, card.goal)
    _add_sensors(spec, card.arms)
    return spec.compile()


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
    box = {"type": GEOM.mjGEOM_BOX, "size": size, "pos": pos, "rgba": [0.55, 0.45, 0.35, 1]}
    return box | {"contype": FURNITURE, "conaffinity": OBJECT}


def _add_obstacle(world: mujoco.MjsBody, obstacle: str) -> None:
    """Walls across the middle of the table, 5 cm thick and as wide as the table."""
    if obstacle == "hole":  # opening between z = 0.8 and 1.0
        world.add_geom(name="wall_low", **_furniture([0.025, 0.2, 0.15], [0, 0, 0.65]))
        world.add_geom(name="wall_high", **_furniture([0.025, 0.2, 0.5], [0, 0, 1.5]))
    elif obstacle == "barrier":
        world.add_geom(name="wall", **_furniture([0.025, 0.2, 0.75], [0, 0, 1.25]))


def _add_partition(world: mujoco.MjsBody) -> None:
    """A free box of 0.5 kg that stands on the table: the first thing to push aside."""
    body = world.add_body(name="partition", pos=[0, 0, TABLE_TOP + 0.15])
    body.add_freejoint(name="partition")
    body.add_geom(
        name="partition",
        type=GEOM.mjGEOM_BOX,
        size=[0.025, 0.2, 0.15],
        mass=0.5,
        contype=OBJECT | FURNITURE,
        conaffinity=OBJECT,
        rgba=[0.5, 0.5, 0.55, 1],
    )


def _add_goal(world: mujoco.MjsBody, goal: str) -> None:
    """What shows the goal: a ghost of the object, a small sphere, or a bucket that things can hit."""
    body = world.add_body(name="goal", mocap=True, pos=[0, 0, 1])
    ghost: dict[str, Any] = {"contype": 0, "conaffinity": 0, "rgba": [0.3, 0.7, 0.9, 0.4]}
    if goal == "pose":
        body.add_geom(name="goal", type=GEOM.mjGEOM_BOX, size=[0.025] * 3, **ghost)
    elif goal == "point":
        body.add_geom(name="goal", type=GEOM.mjGEOM_SPHERE, size=[0.01875, 0, 0], **ghost)
    else:
        _add_bucket(body)


def _add_bucket(body: mujoco.MjsBody) -> None:
    """Twelve wall boxes around a floor: a truncated cone, 0.198 high, inner radius 0.0705 (floor) to 0.1034 (rim)."""
    solid = {"contype": FURNITURE, "conaffinity": OBJECT, "rgba": [0.4, 0.5, 0.6, 1]}
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
    import numpy as np

    quat = np.zeros(4)
    mujoco.mju_mat2Quat(quat, np.array([x, y, z]).T.reshape(9))
    return quat.tolist()


def _add_robot(spec: mujoco.MjSpec, hand: int, base: tuple[float, ...], yaw: float, gains: Gains) -> None:
    """One arm with its hand, fixed at `base`."""
    bits = {"contype": ARM[hand], "conaffinity": OBJECT | FURNITURE | ARM[1 - hand]}
    grey, dark = [0.8, 0.5, 0.2, 1], [0.2, 0.2, 0.22, 1]
    parent = spec.worldbody.add_body(name=f"base_{hand}", pos=base, quat=[cos(yaw / 2), 0, 0, sin(yaw / 2)], gravcomp=1)
    parent.add_geom(
        type=GEOM.mjGEOM_CYLINDER, size=[0.09, 0.075, 0], pos=[0, 0, 0.075], mass=5, contype=0, conaffinity=0, rgba=grey
    )
    for number, (pos, quat, mass, centre, end, radius) in enumerate(ARM_LINKS, start=1):
        body = parent.add_body(name=f"link{number}_{hand}", pos=pos, quat=quat, gravcomp=1)
        # inertia of a solid cylinder, 0.2 m by 0.06 m radius, the same about all axes within a factor of two
        body.explicitinertial = True
        body.mass, body.ipos, body.inertia = mass, centre, [mass * 0.0042, mass * 0.0042, mass * 0.003]
        limit = ARM_LIMITS[number - 1]
        _add_joint(spec, body, f"arm{number}_{hand}", (-limit, limit), "arm", gains)
        near = bits if number >= 4 else {"contype": 0, "conaffinity": 0}
        body.add_geom(type=GEOM.mjGEOM_CAPSULE, fromto=[0, 0, 0, *end], size=[radius, 0, 0], mass=0, rgba=grey, **near)
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
        shape: dict[str, Any] = {"mass": mass, "size": [FINGER_RADIUS, 0, 0], "rgba": [0.25, 0.25, 0.28, 1]}
        if start is None:
            body.add_geom(type=GEOM.mjGEOM_SPHERE, contype=0, conaffinity=0, **shape)
        elif number < len(links) - 1:
            body.add_geom(type=GEOM.mjGEOM_CAPSULE, fromto=[*start, *end], **shape, **bits)
        else:
            soft = {"contype": bits["contype"] | TIP[hand], "conaffinity": bits["conaffinity"] | TIP[hand]}
            shape["rgba"] = [0.9, 0.9, 0.9, 1]
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


def _add_sensors(spec: mujoco.MjSpec, arms: int) -> None:
    """The engine's readout: palm points, wrist frames, object frame, fingertip points, object centre."""
    kind, obj = mujoco.mjtSensor, mujoco.mjtObj

    def add(sensor: Any, objtype: Any, name: str) -> None:
        spec.add_sensor(name=f"{sensor.name}_{name}", type=sensor, objtype=objtype, objname=name)

    for hand in range(arms):
        add(kind.mjSENS_FRAMEPOS, obj.mjOBJ_SITE, f"palm_{hand}")
    for name in [f"link7_{hand}" for hand in range(arms)] + ["object"]:
        for sensor in (kind.mjSENS_FRAMEQUAT, kind.mjSENS_FRAMELINVEL, kind.mjSENS_FRAMEANGVEL):
            add(sensor, obj.mjOBJ_XBODY, name)
    for hand in range(arms):
        for finger in ("index", "middle", "ring", "thumb"):
            add(kind.mjSENS_FRAMEPOS, obj.mjOBJ_SITE, f"{finger}_{hand}")
    add(kind.mjSENS_FRAMEPOS, obj.mjOBJ_XBODY, "object")
