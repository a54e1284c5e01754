"""Pendulum swing-up of the DeepMind Control Suite: reward only near the top, where the motor cannot lift it.

Shape legend: N environments of this rank.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from epo_lightning.algorithm.symmetry import Symmetry, signs
from epo_lightning.envs.base import EnvSpec
from epo_lightning.envs.classic.base import ClassicEnv, Transition
from epo_lightning.envs.classic.drawing import BODY, DETAIL, NEAR, Canvas
from epo_lightning.envs.signals import Signal, Signals

STEP_SECONDS, GRAVITY = 0.02, 9.81
MASS, LENGTH, BALL = 1.0, 0.5, 0.05
"""kg; m from the hinge to the middle of the ball, whose radius is the third."""
INERTIA = MASS * (LENGTH**2 + 0.4 * BALL**2)
"""Of the ball about the hinge, kg m^2; the rod has no mass."""
DAMPING, TORQUE = 0.1, 1.0
"""N m s; N m of a full action, a fifth of what would lift the ball from the side."""
UPRIGHT_COSINE = math.cos(math.radians(8.0))


class PendulumSwingup(ClassicEnv):
    """Swing a ball on a rod upright and hold it there: 1 a step within 8 degrees of upright, else 0.

    Body, motor, starts and reward are those of `pendulum swingup` of the DeepMind Control Suite (Tassa et al.,
    arXiv 1801.00690); the motion is integrated as MuJoCo does it, and tested against it. The angle counts from upright
    and starts anywhere, at rest. An episode ends by its time limit only; it counts one success when the rod then is
    upright.

    Observation: cosine and sine of the angle, angular velocity in rad/s. Action: the motor's torque, at most 1 N m.

    Args:
        num_envs: N.
        device: Where every tensor lives.
        seed: Seed of the start angles.
        max_steps: Time limit of an episode in env steps of 0.02 s; the best return is a little less.

    Raises:
        Mistake: When `max_steps` < 1.
    """

    def __init__(self, num_envs: int, device: torch.device, seed: int, max_steps: int = 1000) -> None:
        spec = EnvSpec("PendulumSwingup", num_envs, 3, 1, max_episode_steps=max_steps, step_seconds=STEP_SECONDS)
        super().__init__(spec, device, seed, state_dim=2)

    def signals(self) -> Signals:
        """See `VectorEnv.signals`."""
        observation = (
            Signal("direction", 2, "", "cosine and sine of the angle from upright"),
            Signal("angular_velocity", 1, "rad/s"),
        )
        return Signals(observation, (Signal("torque", 1, "N m", "", (-TORQUE,), (TORQUE,)),))

    def _draw(self) -> Tensor:
        angle = math.pi * self._uniform(1)
        return torch.cat((angle, torch.zeros_like(angle)), dim=1)

    def _observe(self, state: Tensor) -> Tensor:
        angle, speed = state.unbind(1)
        return torch.stack((torch.cos(angle), torch.sin(angle), speed), dim=1)

    def _advance(self, state: Tensor, actions: Tensor, last: Tensor) -> Transition:
        angle, speed = state.unbind(1)
        torque = TORQUE * actions[:, 0]
        # Euler's method with implicit damping: (I + b dt) (w' - w) = (torque + m g l sin(angle) - b w) dt
        push = torque + MASS * GRAVITY * LENGTH * torch.sin(angle) - DAMPING * speed
        speed = speed + push * (STEP_SECONDS / (INERTIA + DAMPING * STEP_SECONDS))
        # angle' = angle + w' dt, in [-pi, pi)
        angle = torch.remainder(angle + STEP_SECONDS * speed + math.pi, 2.0 * math.pi) - math.pi

        # r = [cos(angle') >= cos(8 degrees)]
        upright = torch.cos(angle) >= UPRIGHT_COSINE
        return Transition(
            state=torch.stack((angle, speed), dim=1),
            reward=upright.to(torch.float32),
            terminated=torch.zeros_like(last),
            successes=(upright & last).to(torch.float32),
        )

    def symmetry(self) -> Symmetry:
        """Left and right are alike; see `VectorEnv.symmetry`."""
        return Symmetry(signs([1.0, -1.0, -1.0]), signs([-1.0]))

    def script(self) -> Callable[[], Tensor]:
        """Pump energy until it is enough to stand, then hold; see `VectorEnv.script`."""

        def actions() -> Tensor:
            angle, speed = self._present().unbind(1)
            # E = I w^2 / 2 + m g l (cos(angle) - 1), which is 0 at rest at the top
            energy = 0.5 * INERTIA * speed.square() + MASS * GRAVITY * LENGTH * (torch.cos(angle) - 1.0)
            pump = torch.where(energy < 0.0, torch.where(speed >= 0.0, 1.0, -1.0), 0.0)
            hold = -(10.0 * angle + 2.0 * speed)
            near = (angle.abs() < 0.3) & (speed.abs() < 1.5)
            return torch.where(near, hold, pump).clamp(-1.0, 1.0)[:, None]

        return actions

    def render(self, envs: Sequence[int], width: int, height: int) -> np.ndarray:
        """The rod, and between which angles it counts as upright; see `VectorEnv.render`."""
        return np.stack([_picture(row[0], Canvas((-0.7, -0.7), (0.7, 0.7), width, height)) for row in self._rows(envs)])


def _picture(angle: float, canvas: Canvas) -> np.ndarray:
    pivot, limit = (0.0, 0.0), math.acos(UPRIGHT_COSINE)

    def tip(lean: float, length: float) -> tuple[float, float]:
        """Where a rod of this length ends; positive angles lean to the right."""
        return length * math.sin(lean), length * math.cos(lean)

    canvas.polygon([pivot, *(tip(each, 0.65) for each in np.linspace(-limit, limit, 30).tolist())], NEAR)
    canvas.line([pivot, tip(angle, LENGTH)], 0.03, DETAIL)
    canvas.disc(tip(angle, LENGTH), BALL, BODY)
    canvas.disc(pivot, 0.03, DETAIL)
    return canvas.picture()
