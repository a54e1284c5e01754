"""Ball in a cup, of the DeepMind Control Suite: a ball on a string has to be swung up into a cup.

Shape legend: N environments of this rank, M new episodes, C candidates for a start, G segments of the cup.
"""

from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from epo_lightning.envs.base import EnvSpec
from epo_lightning.envs.bodies.base import CAMERA, BodyEnv, Verdict
from epo_lightning.envs.signals import Signal, Signals
from epo_lightning.physics.base import WantedThreads

if TYPE_CHECKING:
    import mujoco

CONTROL_SECONDS, TIMESTEP = 0.02, 0.002
CUP_HEIGHT, BALL_HEIGHT = 0.6, 0.2
"""m: where cup and ball are when their joints are at 0."""
BALL, WALL = 0.025, 0.008
"""Radii of the ball and of the cup's capsules, m."""
OUTLINE = [(-0.05, 0.0), (-0.05, -0.075), (-0.025, -0.1), (0.025, -0.1), (0.05, -0.075), (0.05, 0.0)]
"""x and z of the cup's corners, seen from its mouth's middle, m."""
STRING, KNOT = 0.3, -0.108
"""Length of the string; z of where it is tied to the cup."""
TARGET, TARGET_AT = 0.05, -0.05
"""Half edge of the square in the cup that must hold the whole ball, and z of its middle."""
_CANDIDATES = 16


def build_scene() -> "mujoco.MjModel":
    """The compiled model: joints and motors in the order cup x, cup z; then the joints ball x, ball z."""
    import mujoco

    from epo_lightning.envs.bodies.scenery import GROUND, add_scenery

    geom, slide = mujoco.mjtGeom, mujoco.mjtJoint.mjJNT_SLIDE
    axes = {"x": [1, 0, 0], "z": [0, 0, 1]}
    spec = mujoco.MjSpec()
    spec.option.timestep = TIMESTEP
    add_scenery(spec, CAMERA, [0.0, -1.1, 0.7], [0.0, 0.0, 0.48], tile=0.1)
    spec.worldbody.add_geom(name="ground", type=geom.mjGEOM_PLANE, size=[0.6, 0.2, 0.1], material=GROUND)

    cup = spec.worldbody.add_body(name="cup", pos=[0, 0, CUP_HEIGHT])
    for name, axis in axes.items():
        cup.add_joint(name=f"cup_{name}", type=slide, axis=axis, damping=[3.0, 0.0, 0.0], stiffness=[20.0, 0.0, 0.0])
    for (x, z), (next_x, next_z) in pairwise(OUTLINE):
        ends = [x, 0, z, next_x, 0, next_z]
        cup.add_geom(type=geom.mjGEOM_CAPSULE, fromto=ends, size=[WALL, 0, 0], rgba=[0.27, 0.33, 0.41, 1])
    cup.add_site(name="cup", pos=[0, 0, KNOT], size=[0.005] * 3)

    ball = spec.worldbody.add_body(name="ball", pos=[0, 0, BALL_HEIGHT])
    for name, axis in axes.items():
        ball.add_joint(name=f"ball_{name}", type=slide, axis=axis)
    ball.add_geom(name="ball", type=geom.mjGEOM_SPHERE, size=[BALL, 0, 0], rgba=[0.92, 0.47, 0.16, 1])
    ball.add_site(name="ball", size=[0.005] * 3)

    string = spec.add_tendon(name="string", limited=True, range=[0, STRING], width=0.003)
    string.wrap_site("ball")
    string.wrap_site("cup")
    for name in axes:
        motor = spec.add_actuator(name=name, trntype=mujoco.mjtTrn.mjTRN_JOINT, target=f"cup_{name}")
        motor.gear = [5, 0, 0, 0, 0, 0]
        motor.ctrllimited, motor.ctrlrange = True, [-1, 1]
    return spec.compile()


def gap_to_cup(x: Tensor, z: Tensor) -> Tensor:
    """Distance of a ball at (x, z), seen from the cup's mouth, from the cup's surface: any shape, m."""
    corners = torch.tensor(OUTLINE)
    a, along = corners[:-1], corners.diff(dim=0)  # (G, 2)
    off = torch.stack((x, z), dim=-1)[..., None, :] - a
    share = ((off * along).sum(-1) / along.square().sum(-1)).clamp(0.0, 1.0)
    distance: Tensor = torch.linalg.vector_norm(off - share[..., None] * along, dim=-1)  # (..., G)
    return distance.amin(-1) - WALL - BALL


class BallInCup(BodyEnv):
    """Move a cup in a plane so that the ball on its string ends in it: 1 a step where it lies there, else 0.

    Bodies, motors, starts and reward are those of `ball_in_cup catch` of the DeepMind Control Suite (Tassa et al.,
    arXiv 1801.00690), in MuJoCo as there, in a scene of our own. An episode ends by its time limit only; it counts one
    success when the ball then lies in the cup.

    Observation: x and z of cup and ball in m, each from where its joints are at 0, and their velocities in m/s. Action:
    the forces on the cup along x and z, at most 5 N.

    Args:
        num_envs: N.
        device: Where tensors are handed over; the physics runs on the CPU.
        seed: Seed of the start positions.
        max_steps: Time limit of an episode in env steps of 0.02 s; the best return is a little less.
        threads: CPU threads; null: the cores this process may use, shared by a machine's ranks; auto: what a
            measurement of a second finds best when a training begins. Results do not depend on it.

    Raises:
        Mistake: When `max_steps` or `threads` is no number of threads.
    """

    def __init__(
        self, num_envs: int, device: torch.device, seed: int, max_steps: int = 1000, threads: WantedThreads = None
    ) -> None:
        spec = EnvSpec("BallInCup", num_envs, 8, 2, max_episode_steps=max_steps, step_seconds=CONTROL_SECONDS)
        super().__init__(spec, device, seed, build_scene(), round(CONTROL_SECONDS / TIMESTEP), threads)

    def signals(self) -> Signals:
        """See `VectorEnv.signals`."""
        observation = (
            Signal("cup_position", 2, "m", "x and z, from where the joints are at 0"),
            Signal("ball_position", 2, "m", "x and z, from where the joints are at 0"),
            Signal("cup_velocity", 2, "m/s"),
            Signal("ball_velocity", 2, "m/s"),
        )
        return Signals(observation, (Signal("force", 2, "N", "on the cup along x and z", (-5.0, -5.0), (5.0, 5.0)),))

    def _starts(self, count: int) -> tuple[Tensor, Tensor]:
        # the first of C places where the ball touches nothing: x in [-0.2, 0.2], z in [0.2, 0.5] above its height at 0
        share = torch.rand((count, _CANDIDATES, 2), generator=self._generator)
        x, z = 0.4 * share[..., 0] - 0.2, 0.3 * share[..., 1] + 0.2
        free = gap_to_cup(x, z + BALL_HEIGHT - CUP_HEIGHT) > 0.0
        first = free.to(torch.uint8).argmax(dim=1, keepdim=True)
        position = torch.zeros(count, 4)
        position[:, 2], position[:, 3] = x.gather(1, first)[:, 0], z.gather(1, first)[:, 0]
        return position, torch.zeros(count, 4)

    def _observe(self, position: Tensor, velocity: Tensor) -> Tensor:
        return torch.cat((position, velocity), dim=1)

    def _judge(self, before: Tensor, actions: Tensor, last: Tensor) -> Verdict:
        # r = [|ball - target| < half edge - ball's radius, along x and along z]
        cup, ball = self.worlds.position.float().split(2, dim=1)
        off = ball - cup + torch.tensor((0.0, BALL_HEIGHT - CUP_HEIGHT - TARGET_AT))
        caught = off.abs().amax(1) < TARGET - BALL
        return Verdict(caught.float(), torch.zeros_like(last), (caught & last).float())
