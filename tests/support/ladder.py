"""The ladder: tasks that every correct learner solves within seconds, and whose answers are known.

Shape legend: N environments, T steps of an episode, S entries of a state.

A rung is one thing that a learner must be able to do; who falls from a rung lacks that thing or one of a rung below.
Under a Gaussian of mean m and standard deviation sigma, far from the bounds of the action, the expected reward is
E[c - (a - x)^2] = c - sigma^2 - (m - x)^2. That holds for every distribution with that mean and standard deviation.
"""

from typing import Literal

import torch
from torch import Tensor

from epo_lightning.envs.base import EnvSpec
from epo_lightning.envs.classic import ClassicEnv, Transition

TARGET = 0.5
"""The action that pays most, where the action matters."""


class Rung(ClassicEnv):
    """One observation entry, one action entry; a subclass says what is seen and paid.

    The state (N, 2) is the number of the step and what the episode remembers.

    Args:
        num_envs: N.
        device: Where every tensor lives.
        seed: Seed of what is drawn.
        ending: Whether an episode ends as `terminated` (no future) or as `truncated` (to be bootstrapped).
    """

    steps = 1

    def __init__(
        self,
        num_envs: int,
        device: torch.device,
        seed: int,
        ending: Literal["terminated", "truncated"] = "terminated",
    ) -> None:
        spec = EnvSpec(type(self).__name__, num_envs, obs_dim=1, act_dim=1, max_episode_steps=self.steps)
        super().__init__(spec, device, seed, state_dim=2)
        self.terminates = ending == "terminated"

    def _draw(self) -> Tensor:
        sign = torch.where(self._uniform(1) < 0, -1.0, 1.0)
        return torch.cat([torch.zeros_like(sign), sign], dim=1)

    def _observe(self, state: Tensor) -> Tensor:
        return torch.zeros_like(state[:, :1])

    def _advance(self, state: Tensor, actions: Tensor, last: Tensor) -> Transition:
        step, memory = state.unbind(1)
        memory = self.remember(step, memory, actions[:, 0])
        return Transition(
            state=torch.stack([step + 1, memory], dim=1),
            reward=self.pay(last, memory, actions[:, 0]),
            terminated=last if self.terminates else torch.zeros_like(last),
            successes=torch.zeros_like(step),
        )

    def remember(self, step: Tensor, memory: Tensor, action: Tensor) -> Tensor:
        """(N,) what the episode remembers from step `step` (N,) on."""
        return memory

    def pay(self, last: Tensor, memory: Tensor, action: Tensor) -> Tensor:
        """(N,) reward of a step; `last` (N,) says whether the episode ends with it."""
        raise NotImplementedError


class Constant(Rung):
    """Every step pays 1. V = 1 with episodes of one step, and 1 / (1 - gamma) where a time limit ends them."""

    def pay(self, last: Tensor, memory: Tensor, action: Tensor) -> Tensor:
        return torch.ones_like(action)


class Action(Rung):
    """An episode of one step pays 1 - (a - 0.5)^2. The mean action becomes 0.5, V = 1 - sigma^2."""

    def pay(self, last: Tensor, memory: Tensor, action: Tensor) -> Tensor:
        return 1 - (action - TARGET).square()


class Observation(Rung):
    """An episode of one step shows o, -1 or 1, and pays o - (a - 0.5 o)^2: the mean becomes 0.5 o, V = o - sigma^2."""

    def _observe(self, state: Tensor) -> Tensor:
        return state[:, 1:].clone()

    def pay(self, last: Tensor, memory: Tensor, action: Tensor) -> Tensor:
        return memory - (action - TARGET * memory).square()


class Delay(Rung):
    """An episode of three steps shows its clock and pays 1 - (a - 0.5)^2 at its end, where a is the first action.

    The first mean becomes 0.5. With R = 1 - sigma^2: V = gamma^2 R, gamma R, R.
    """

    steps = 3

    def _observe(self, state: Tensor) -> Tensor:
        return state[:, :1] - 1

    def remember(self, step: Tensor, memory: Tensor, action: Tensor) -> Tensor:
        return torch.where(step == 0, action, memory)

    def pay(self, last: Tensor, memory: Tensor, action: Tensor) -> Tensor:
        return torch.where(last, 1 - (memory - TARGET).square(), 0.0)


class Shown(Rung):
    """As `Delay` in two steps, of which the first shows 0 and the second 2 + a: whatever the end depends on is seen.

    The first mean becomes 0.5. With R = 1 - sigma^2: V = gamma R.
    """

    steps = 2

    def _observe(self, state: Tensor) -> Tensor:
        step, memory = state[:, :1], state[:, 1:]
        return torch.where(step == 0, 0.0, 2 + memory)

    remember = Delay.remember
    pay = Delay.pay


class Memory(Rung):
    """An episode of three steps shows o, -1 or 1, in the first of them, 0 in the others, and pays at its end.

    It pays o - (a - 0.5 o)^2, where a is the last action: its mean becomes 0.5 o, V = o - sigma^2 then.
    """

    steps = 3

    def _observe(self, state: Tensor) -> Tensor:
        return torch.where(state[:, :1] == 0, state[:, 1:], 0.0)

    def pay(self, last: Tensor, memory: Tensor, action: Tensor) -> Tensor:
        return torch.where(last, memory - (action - TARGET * memory).square(), 0.0)
