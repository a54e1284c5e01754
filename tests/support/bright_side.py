"""A task that is seen as a picture: one half of it is bright, and to choose that half pays.

Shape legend: N environments.
"""

import torch
from torch import Tensor

from epo_lightning.envs.base import EnvSpec
from epo_lightning.envs.classic import ClassicEnv, Transition
from epo_lightning.learner.observations import Group

SIDE = 6


class BrightSide(ClassicEnv):
    """A grey picture of 6 x 6 x 1, and a number that says nothing; to choose the right half is 1, or above 0.

    Args:
        num_envs: N.
        device: Where every tensor lives.
        seed: Seed of what is drawn.
        discrete: An action is a choice; else a number.
    """

    def __init__(self, num_envs: int, device: torch.device, seed: int, discrete: bool = True) -> None:
        groups = (Group("eye", (SIDE, SIDE, 1)), Group("nothing", 1))
        size = SIDE * SIDE + 1
        actions = 2 if discrete else 1
        spec = EnvSpec(
            "BrightSide", num_envs, obs_dim=size, act_dim=actions, max_episode_steps=2, discrete=discrete, groups=groups
        )
        super().__init__(spec, device, seed, state_dim=1)

    def _draw(self) -> Tensor:
        return (self._uniform(1) < 0).float()

    def _observe(self, state: Tensor) -> Tensor:
        picture = torch.full((len(state), SIDE, SIDE, 1), 40.0, device=self.device)
        right = state[:, :, None, None] > 0
        picture[:, :, : SIDE // 2] += torch.where(right, 0.0, 120.0)
        picture[:, :, SIDE // 2 :] += torch.where(right, 120.0, 0.0)
        return self.spec.join({"eye": picture, "nothing": torch.zeros_like(state)})

    def _advance(self, state: Tensor, actions: Tensor, last: Tensor) -> Transition:
        choice = actions if self.spec.discrete else actions[:, 0] > 0
        reward = (choice == state[:, 0]).float()
        return Transition(self._draw(), reward, torch.zeros_like(last), reward)
