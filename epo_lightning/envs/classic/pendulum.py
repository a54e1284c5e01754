"""Pendulum swing-up: dense reward, no termination.

Shape legend: N environments of this rank.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from epo_lightning.algorithm.symmetry import Symmetry, signs
from epo_lightning.envs.base import EnvSpec
from epo_lightning.envs.classic.base import ClassicEnv, Transition
from epo_lightning.envs.classic.drawing import BODY, DETAIL, NEAR, Canvas, Point
from epo_lightning.envs.signals import Signal, Signals
from epo_lightning.learner.observations import Group
from epo_lightning.limits import Mistake, require_range

MAX_SPEED, STEP_SECONDS = 8.0, 0.05
UPRIGHT_COSINE = 0.95


class Pendulum(ClassicEnv):
    """Swing a rod of 1 m and 1 kg upright and hold it there with a torque too weak to lift it at once.

    The dynamics are those of Gymnasium's `Pendulum-v1`. Observation: cosine and sine of the angle from upright, angular
    velocity in rad/s. An episode ends by its time limit only; it counts one success when the rod then is upright (the
    cosine of its angle at least 0.95). A random policy returns about -1200 in 200 steps, a good one about -150.

    Args:
        num_envs: N.
        device: Where every tensor lives.
        seed: Seed of the start states: any angle, angular velocity within 1 rad/s.
        max_steps: Time limit of an episode in env steps of 0.05 s.
        max_torque: Torque of a full action, in N m; about 5 N m would lift the rod without a swing.
        gravity: In m/s^2.
        wind: Most torque, either way, of a wind that is drawn for each episode and that a policy does not see, in N m.
        privileged: Whether a critic of its own sees the wind: the group `critic`.

    Raises:
        Mistake: When `max_torque` is not positive, `max_steps` < 1, `wind` < 0, or there is none to be seen.
    """

    def __init__(
        self,
        num_envs: int,
        device: torch.device,
        seed: int,
        max_steps: int = 200,
        max_torque: float = 2.0,
        gravity: float = 10.0,
        wind: float = 0.0,
        privileged: bool = False,
    ) -> None:
        require_range("data.env.init_args.max_torque", max_torque, 0.0, open_low=True)
        require_range("data.env.init_args.wind", wind, 0.0)
        if privileged and not wind:
            raise Mistake("data.env.init_args.privileged: there is no wind to be seen; set it to false, or wind to 1")
        groups = (Group("policy", 3), Group("critic", 1, privileged=True)) if privileged else ()
        size = 3 + privileged
        spec = EnvSpec("Pendulum", num_envs, size, 1, max_steps, STEP_SECONDS, groups=groups)
        ranges = (math.pi, 1.0, wind) if wind else (math.pi, 1.0)
        super().__init__(spec, device, seed, state_dim=len(ranges))
        self.max_torque, self.gravity, self.privileged = max_torque, gravity, privileged
        self._start_range = torch.tensor(ranges, device=self.device)

    def signals(self) -> Signals:
        """See `VectorEnv.signals`."""
        observation = (
            Signal("direction", 2, "", "cosine and sine of the angle from upright"),
            Signal("angular_velocity", 1, "rad/s"),
        )
        return Signals(observation, (Signal("torque", 1, "N m", "", (-self.max_torque,), (self.max_torque,)),))

    def _draw(self) -> Tensor:
        return self._uniform(len(self._start_range)) * self._start_range

    def symmetry(self) -> Symmetry:
        """Left and right are alike; see `VectorEnv.symmetry`."""
        told = [-1.0] if self.privileged else []
        return Symmetry(signs([1.0, -1.0, -1.0, *told]), signs([-1.0]))

    def _observe(self, state: Tensor) -> Tensor:
        angle, speed, *wind = state.unbind(1)
        told = wind if self.privileged else []
        return torch.stack((torch.cos(angle), torch.sin(angle), speed, *told), dim=1)

    def _advance(self, state: Tensor, actions: Tensor, last: Tensor) -> Transition:
        angle, speed, *wind = state.unbind(1)
        torque = self.max_torque * actions[:, 0]
        # r = -(angle^2 + 0.1 speed^2 + 0.001 torque^2) before the step, the angle in [-pi, pi)
        wrapped = torch.remainder(angle + math.pi, 2.0 * math.pi) - math.pi
        reward = -(wrapped.square() + 0.1 * speed.square() + 0.001 * torque.square())
        # w' = clip(w + (3 g / (2 l) sin(angle) + 3 / (m l^2) torque) dt),  angle' = angle + w' dt   with l = m = 1
        pull = torque + wind[0] if wind else torque
        speed = speed + (1.5 * self.gravity * torch.sin(angle) + 3.0 * pull) * STEP_SECONDS
        speed = speed.clamp(-MAX_SPEED, MAX_SPEED)
        angle = wrapped + speed * STEP_SECONDS

        upright = torch.cos(angle) >= UPRIGHT_COSINE
        return Transition(
            state=torch.stack((angle, speed, *wind), dim=1),
            reward=reward,
            terminated=torch.zeros_like(last),
            successes=(upright & last).to(torch.float32),
            log={"upright": upright.to(torch.float32)},
        )

    def render(self, envs: Sequence[int], width: int, height: int) -> np.ndarray:
        """The rod, and between which angles it counts as upright; see `VectorEnv.render`."""
        return np.stack([_picture(row[0], Canvas((-1.2, -1.2), (1.2, 1.2), width, height)) for row in self._rows(envs)])


def _picture(angle: float, canvas: Canvas) -> np.ndarray:
    pivot = (0.0, 0.0)
    limit = math.acos(UPRIGHT_COSINE)
    canvas.polygon([pivot, *(_tip(each, 1.15) for each in np.linspace(-limit, limit, 30).tolist())], NEAR)
    canvas.line([pivot, _tip(angle, 1.0)], 0.14, BODY)
    canvas.disc(pivot, 0.04, DETAIL)
    return canvas.picture()


def _tip(angle: float, length: float) -> Point:
    """Where a rod from the origin ends; positive angles lie on the left of the upright one."""
    return -length * math.sin(angle), length * math.cos(angle)
