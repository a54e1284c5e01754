"""A task of which the actor sees less than is known.

Shape legend: N environments.

An episode of two steps draws a sign that pays in each of them whatever is done: who sees it knows the value, and who
does not can only expect 0.
"""

import torch
from torch import Tensor

from epo_lightning.envs.base import EnvSpec
from epo_lightning.envs.classic import ClassicEnv, Transition
from epo_lightning.learner.observations import Group, Groups

GROUPS: Groups = (Group("clock", 1), Group("noise", 2), Group("fate", 1, privileged=True))


class PartlySeen(ClassicEnv):
    """Clock, noise, and the sign, which is privileged.

    Args:
        num_envs: N.
        device: Where every tensor lives.
        seed: Seed of what is drawn.
        tells: Whether the sign is observed.
        discrete: Whether the action is one of two choices.
        groups: In place of the task's own, such as wrong ones.
    """

    def __init__(
        self,
        num_envs: int,
        device: torch.device,
        seed: int,
        tells: bool = True,
        discrete: bool = False,
        groups: Groups | None = None,
    ) -> None:
        own = GROUPS if tells else GROUPS[:-1]
        spec = EnvSpec(
            "PartlySeen",
            num_envs,
            obs_dim=3 + tells,
            act_dim=2 if discrete else 1,
            max_episode_steps=2,
            discrete=discrete,
            groups=own if groups is None else groups,
        )
        super().__init__(spec, device, seed, state_dim=4)
        self.tells = tells

    def _draw(self) -> Tensor:
        drawn = self._uniform(4)
        drawn[:, 0] = 0.0
        drawn[:, 3] = torch.where(drawn[:, 3] < 0, -1.0, 1.0)
        return drawn

    def _observe(self, state: Tensor) -> Tensor:
        parts = {"clock": state[:, 0], "noise": state[:, 1:3], "fate": state[:, 3]}
        return self.spec.join(parts) if self.tells and self.spec.groups == GROUPS else state[:, : self.spec.obs_dim]

    def _advance(self, state: Tensor, actions: Tensor, last: Tensor) -> Transition:
        noise = self._uniform(2)
        moved = torch.cat([state[:, :1] + 1, noise, state[:, 3:]], dim=1)
        return Transition(moved, state[:, 3], last, torch.zeros_like(state[:, 0]))
