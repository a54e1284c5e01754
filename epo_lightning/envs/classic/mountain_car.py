"""Continuous mountain car: an underpowered car must swing up a hill; the only positive reward waits at the top.

Shape legend: N environments of this rank.
"""

import torch
from torch import Tensor

from epo_lightning.envs.base import EnvSpec
from epo_lightning.envs.classic.base import ClassicEnv, Transition

MIN_POSITION, MAX_POSITION, MAX_SPEED = -1.2, 0.6, 0.07


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
        ValueError: When the goal does not lie on the track to the right of the starts, or `max_steps` < 1.
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
        if not -0.4 < goal_position <= MAX_POSITION:
            raise ValueError(f"data.env.init_args.goal_position must be in (-0.4, {MAX_POSITION}], got {goal_position}")
        spec = EnvSpec("MountainCar", num_envs, obs_dim=2, act_dim=1, max_episode_steps=max_steps)
        super().__init__(spec, device, seed, state_dim=2)
        self.goal_position = goal_position
        self.goal_reward = goal_reward
        self.action_cost = action_cost
        self.power = power
        self.gravity = gravity

    def _draw(self) -> Tensor:
        position = -0.5 + 0.1 * self._uniform(1)
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
