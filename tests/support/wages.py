"""A task that pays what is done, and a policy whose agents do what their number says: every return is known."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from epo_lightning.envs.base import EnvSpec, StepResult, VectorEnv
from epo_lightning.learner.policy import Policy

STEPS = 4


class Wages(VectorEnv):
    """Episodes of four steps, each of which pays the action; the last one is a success if that is above a quarter."""

    def __init__(self, num_envs: int, device: torch.device, seed: int) -> None:
        self.spec = EnvSpec("Wages", num_envs, obs_dim=1, act_dim=1, max_episode_steps=STEPS)
        self.seed, self.device, self.clock = seed, device, 0

    def reset(self) -> Tensor:
        self.clock = 0
        return torch.zeros(self.spec.num_envs, 1, device=self.device)

    def step(self, actions: Tensor) -> StepResult:
        self.clock += 1
        pay = actions[:, 0].clone()
        ends = torch.full_like(pay, self.clock % STEPS == 0, dtype=torch.bool)
        obs = torch.zeros(self.spec.num_envs, 1, device=self.device)
        return StepResult(obs, pay, ends, torch.zeros_like(ends), ((pay > 0.25) & ends).float())

    def state_dict(self) -> dict[str, Any]:
        return {"clock": self.clock}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.clock = state["clock"]


class Steady(Policy):
    """Agent k does k / 8; where actions are drawn the opposite, or nothing, by a coin."""

    num_agents = 8

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.calls: list[int] = []

    def initial_state(self, rows: int, device: torch.device | None = None) -> Tensor:
        return torch.zeros(0, rows, 0, device=device)

    def act(
        self, obs: Tensor, agent_ids: Tensor, state: Tensor, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        self.calls.append(len(obs))
        actions = agent_ids[:, None] / 8
        if generator is not None:
            actions = -actions * torch.randint(2, actions.shape, generator=generator)
        return actions, state
