"""Continuous mountain car: an underpowered car must swing up a hill; the only positive reward waits at the top.

Shape legend: N environments of this rank.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from epo_lightning.envs.base import EnvSpec
from epo_lightning.envs.classic.base import ClassicEnv, Transition
from epo_lightning.envs.classic.drawing import BODY, DETAIL, EARTH, GOAL, SOLID, Canvas, Point
from epo_lightning.envs.signals import Signal, Signals
from epo_lightning.limits import require_range

MIN_POSITION, MAX_POSITION, MAX_SPEED = -1.2, 0.6, 0.07
START, START_SPREAD = -0.5, 0.1
"""Middle and half width of where episodes start."""
VIEW = (-1.3, 0.0), (0.8, 1.5)
"""Corners of what a picture shows: position and height."""
_WHEEL, _POLE = 0.035, 0.22


def height_of(position: float) -> float:
    """Height of the hill: gravity's cos(3 x) is in proportion to its slope."""
    return 0.45 * math.sin(3.0 * position) + 0.55


class MountainCar(ClassicEnv):
    """Sparse reward with an action cost: standing still is the local optimum (return 0, the best is about 95).

    The dynamics are those of Gymnasium's `MountainCarContinuous-v0`. Observation: position and velocity, raw. Action:
    the force. An episode terminates at the goal with one success. Starts are uniform in [-0.6, -0.4], at rest.

    Args:
        num_envs: N.
        device: Where every tensor lives.
        seed: Seed of the start positions.
        max_steps: Time limit of an episode in env steps.
        goal_position: The car must reach this position; it starts near -0.5 and the track ends at 0.6.
        goal_reward: Reward in the step that reaches the goal.
        action_cost: Every step costs this times the squared action.
        power: Acceleration per env step at full force.
        gravity: Acceleration per env step on the steepest slope.

    Raises:
        Mistake: When the goal does not lie on the track to the right of the starts, or `max_steps` < 1.
    """

    def __init__(
        self,
        num_envs: int,
        device: torch.device,
        seed: int,
        max_steps: int = 999,
        goal_position: float = 0.45,
        goal_reward: float = 100.0,
        action_cost: float = 0.1,
        power: float = 0.0015,
        gravity: float = 0.0025,
    ) -> None:
        rightmost = START + START_SPREAD
        require_range("data.env.init_args.goal_position", goal_position, rightmost, MAX_POSITION, open_low=True)
        spec = EnvSpec("MountainCar", num_envs, obs_dim=2, act_dim=1, max_episode_steps=max_steps)
        super().__init__(spec, device, seed, state_dim=2)
        self.goal_position = goal_position
        self.goal_reward = goal_reward
        self.action_cost = action_cost
        self.power = power
        self.gravity = gravity

    def signals(self) -> Signals:
        """See `VectorEnv.signals`."""
        observation = (
            Signal("position", 1),
            Signal("velocity", 1, "", "in a step"),
        )
        return Signals(observation, (Signal("force", 1, "", "in units of the motor's"),))

    def _draw(self) -> Tensor:
        position = START + START_SPREAD * self._uniform(1)
        return torch.cat((position, torch.zeros_like(position)), dim=1)

    def _observe(self, state: Tensor) -> Tensor:
        return state.clone()

    def _advance(self, state: Tensor, actions: Tensor, last: Tensor) -> Transition:
        position, velocity = state.unbind(1)
        force = actions[:, 0]
        # v' = clip(v + power a - gravity cos(3 x)),  x' = clip(x + v'); the left end of the track stops the car.
        velocity = velocity + self.power * force - self.gravity * torch.cos(3.0 * position)
        velocity = velocity.clamp(-MAX_SPEED, MAX_SPEED)
        position = (position + velocity).clamp(MIN_POSITION, MAX_POSITION)
        velocity = torch.where((position <= MIN_POSITION) & (velocity < 0.0), 0.0, velocity)

        # r = goal_reward [x' >= goal] - action_cost a^2
        reached = position >= self.goal_position
        successes = reached.to(torch.float32)
        reward = self.goal_reward * successes - self.action_cost * force.square()
        return Transition(torch.stack((position, velocity), dim=1), reward, reached, successes)

    def script(self) -> Callable[[], Tensor]:
        """Full force the way the car already rolls, until it is up; see `VectorEnv.script`."""

        def actions() -> Tensor:
            return torch.where(self._present()[:, 1:] >= 0.0, 1.0, -1.0)

        return actions

    def render(self, envs: Sequence[int], width: int, height: int) -> np.ndarray:
        """The car, the hill and the flag at the goal; see `VectorEnv.render`."""
        return np.stack([self._picture(row[0], Canvas(*VIEW, width, height)) for row in self._rows(envs)])

    def _picture(self, position: float, canvas: Canvas) -> np.ndarray:
        left, right, bottom = canvas.low[0], canvas.high[0], canvas.low[1]
        hill = [(x, height_of(x)) for x in np.linspace(left, right, 200).tolist()]
        canvas.polygon([(left, bottom), *hill, (right, bottom)], EARTH)
        canvas.box((left, bottom), (MIN_POSITION, canvas.high[1]), SOLID)

        goal = (self.goal_position, height_of(self.goal_position))
        top = goal[1] + _POLE
        canvas.polygon([(goal[0], top), (goal[0] + 0.13, top - 0.04), (goal[0], top - 0.08)], GOAL)
        canvas.line([goal, (goal[0], top)], 0.01, DETAIL)

        slope = math.atan(1.35 * math.cos(3.0 * position))

        def on_car(along: float, above: float) -> Point:
            """The point so far in front of the car's middle and above the track."""
            x = position + along * math.cos(slope) - above * math.sin(slope)
            return x, height_of(position) + along * math.sin(slope) + above * math.cos(slope)

        outline = [(-0.09, 0.03), (0.09, 0.03), (0.09, 0.08), (0.04, 0.08), (0.02, 0.12), (-0.06, 0.12), (-0.09, 0.08)]
        canvas.polygon([on_car(*corner) for corner in outline], BODY)
        for along in (-0.05, 0.05):
            canvas.disc(on_car(along, _WHEEL), _WHEEL, DETAIL)
        return canvas.picture()
