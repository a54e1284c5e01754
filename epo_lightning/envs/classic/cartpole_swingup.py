"""Cart-pole swing-up of the DeepMind Control Suite with its sparse reward: nothing leads the pole up.

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
from epo_lightning.envs.classic.drawing import BODY, DETAIL, NEAR, SOLID, Canvas
from epo_lightning.envs.signals import Signal, Signals

STEP_SECONDS, GRAVITY = 0.01, 9.81
CART, POLE, HALF = 1.0, 0.1, 0.5
"""Masses in kg; m from the hinge to the pole's middle."""
RADIUS = 0.045
"""Of the pole, a capsule: a cylinder of 1 m between two half balls."""
CART_DAMPING, POLE_DAMPING = 5e-4, 2e-6
"""N s/m; N m s."""
FORCE, RAIL = 10.0, 1.8
"""N of a full action; m from the middle to either end of the rail."""
CENTRED, UPRIGHT_COSINE = 0.25, 0.995
"""m and cosine: where the pole counts as standing."""
START_NOISE = 0.01


def pole_inertia() -> float:
    """Of the pole about its middle, across it, in kg m^2."""
    # shares of the mass: cylinder pi r^2 h, two half balls 4/3 pi r^3
    length = 2.0 * HALF
    cylinder = POLE * length / (length + 4.0 / 3.0 * RADIUS)
    balls = POLE - cylinder
    # m_c (h^2 / 12 + r^2 / 4) + m_b (2/5 r^2 + h^2 / 4 + 3/8 h r)
    about_cylinder = cylinder * (length**2 / 12.0 + RADIUS**2 / 4.0)
    return about_cylinder + balls * (0.4 * RADIUS**2 + length**2 / 4.0 + 0.375 * length * RADIUS)


ABOUT_HINGE = pole_inertia() + POLE * HALF**2


def slopes(state: Tensor, force: Tensor) -> Tensor:
    """Time derivative (N, 4) of `state` (N, 4) (x, angle, x velocity, angular velocity) under `force` (N,) in N."""
    _, angle, velocity, spin = state.unbind(1)
    sine, cosine = torch.sin(angle), torch.cos(angle)
    # (M + m) x'' + m l cos(angle) angle'' = F - c x' + m l sin(angle) angle'^2
    # m l cos(angle) x'' + (I + m l^2) angle'' = m g l sin(angle) - b angle'
    coupling = POLE * HALF * cosine
    along = force - CART_DAMPING * velocity + POLE * HALF * sine * spin.square()
    around = POLE * GRAVITY * HALF * sine - POLE_DAMPING * spin
    determinant = (CART + POLE) * ABOUT_HINGE - coupling.square()
    acceleration = (ABOUT_HINGE * along - coupling * around) / determinant
    turning = ((CART + POLE) * around - coupling * along) / determinant
    return torch.stack((velocity, spin, acceleration, turning), dim=1)


class CartpoleSwingup(ClassicEnv):
    """Swing a pole on a cart upright, in the middle of a rail, and hold it: 1 a step where it stands there, else 0.

    Bodies, motor, starts and reward are those of `cartpole swingup_sparse` of the DeepMind Control Suite (Tassa et al.,
    arXiv 1801.00690): 1 where the cart is within 0.25 m of the middle and the cosine of the pole's angle from upright
    is at least 0.995. The equations of motion are integrated by the classical Runge-Kutta method, as there, and tested
    against MuJoCo; only the rail's ends differ, which stop the cart at once instead of by a spring. The pole starts
    hanging, all states with a normal noise of 0.01. An episode ends by its time limit only; it counts one success when
    the pole then stands.

    Observation: x in m, cosine and sine of the pole's angle from upright, velocity in m/s, angular velocity in rad/s.
    Action: the force on the cart, at most 10 N.

    Args:
        num_envs: N.
        device: Where every tensor lives.
        seed: Seed of the start states.
        max_steps: Time limit of an episode in env steps of 0.01 s; the best return is a little less.

    Raises:
        Mistake: When `max_steps` < 1.
    """

    def __init__(self, num_envs: int, device: torch.device, seed: int, max_steps: int = 1000) -> None:
        spec = EnvSpec("CartpoleSwingup", num_envs, 5, 1, max_episode_steps=max_steps, step_seconds=STEP_SECONDS)
        super().__init__(spec, device, seed, state_dim=4)
        self._hanging = torch.tensor((0.0, math.pi, 0.0, 0.0), device=self.device)

    def signals(self) -> Signals:
        """See `VectorEnv.signals`."""
        observation = (
            Signal("position", 1, "m", "of the cart, from the rail's middle"),
            Signal("direction", 2, "", "cosine and sine of the pole's angle from upright"),
            Signal("velocity", 1, "m/s"),
            Signal("angular_velocity", 1, "rad/s"),
        )
        return Signals(observation, (Signal("force", 1, "N", "on the cart", (-FORCE,), (FORCE,)),))

    def _draw(self) -> Tensor:
        noise = torch.randn((self.spec.num_envs, 4), generator=self._generator, device=self.device)
        return self._hanging + START_NOISE * noise

    def _observe(self, state: Tensor) -> Tensor:
        x, angle, velocity, spin = state.unbind(1)
        return torch.stack((x, torch.cos(angle), torch.sin(angle), velocity, spin), dim=1)

    def _advance(self, state: Tensor, actions: Tensor, last: Tensor) -> Transition:
        force, dt = FORCE * actions[:, 0], STEP_SECONDS
        # s' = s + dt (k1 + 2 k2 + 2 k3 + k4) / 6
        first = slopes(state, force)
        second = slopes(state + 0.5 * dt * first, force)
        third = slopes(state + 0.5 * dt * second, force)
        fourth = slopes(state + dt * third, force)
        moved = state + dt / 6.0 * (first + 2.0 * (second + third) + fourth)

        x, angle, velocity, spin = moved.unbind(1)
        velocity = torch.where(x.abs() > RAIL, 0.0, velocity)
        x = x.clamp(-RAIL, RAIL)
        angle = torch.remainder(angle + math.pi, 2.0 * math.pi) - math.pi
        # r = [|x'| <= 0.25] [cos(angle') >= 0.995]
        standing = (x.abs() <= CENTRED) & (torch.cos(angle) >= UPRIGHT_COSINE)
        return Transition(
            state=torch.stack((x, angle, velocity, spin), dim=1),
            reward=standing.to(torch.float32),
            terminated=torch.zeros_like(last),
            successes=(standing & last).to(torch.float32),
        )

    def symmetry(self) -> Symmetry:
        """Left and right are alike; see `VectorEnv.symmetry`."""
        return Symmetry(signs([-1.0, 1.0, -1.0, -1.0, -1.0]), signs([-1.0]))

    def script(self) -> Callable[[], Tensor]:
        """Pump energy into the pole until it is enough to stand, then balance it; see `VectorEnv.script`."""

        def actions() -> Tensor:
            x, angle, velocity, spin = self._present().unbind(1)
            # E = I w^2 / 2 + m g l (cos(angle) - 1), which is 0 at rest at the top; a push against the swing adds to it
            energy = 0.5 * ABOUT_HINGE * spin.square() + POLE * GRAVITY * HALF * (torch.cos(angle) - 1.0)
            pump = 40.0 * energy * spin * torch.cos(angle) - 0.5 * x - 0.5 * velocity
            balance = 0.3 * x + 0.6 * velocity + 6.0 * angle + 1.5 * spin
            near = (angle.abs() < 0.35) & (spin.abs() < 3.0)
            return torch.where(near, balance, pump).clamp(-1.0, 1.0)[:, None]

        return actions

    def render(self, envs: Sequence[int], width: int, height: int) -> np.ndarray:
        """Cart, pole and rail, and where the pole counts as standing; see `VectorEnv.render`."""
        pictures = []
        for x, angle, *_ in self._rows(envs):
            canvas = Canvas((-2.1, -1.2), (2.1, 1.2), width, height)
            canvas.box((-CENTRED, -0.06), (CENTRED, 1.1), NEAR)
            canvas.line([(-RAIL - 0.2, 0.0), (RAIL + 0.2, 0.0)], 0.03, DETAIL)
            for end in (-RAIL - 0.25, RAIL + 0.2):
                canvas.box((end, -0.1), (end + 0.05, 0.1), SOLID)
            canvas.box((x - 0.2, -0.1), (x + 0.2, 0.1), SOLID)
            canvas.line([(x, 0.0), (x + math.sin(angle), math.cos(angle))], 2.0 * RADIUS, BODY)
            canvas.disc((x, 0.0), 0.03, DETAIL)
            pictures.append(canvas.picture())
        return np.stack(pictures)
