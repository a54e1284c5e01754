"""An environment in which every agent's return is its number."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from epo_lightning.envs.base import EnvSpec, StepResult, VectorEnv


class AgentReward(VectorEnv):
    """Pays every environment its own agent's number in each step of episodes of two steps; 4 environments an agent."""

    def __init__(self, num_envs: int, device: torch.device, seed: int) -> None:
        self.spec = EnvSpec("AgentReward", num_envs, obs_dim=1, act_dim=1, max_episode_steps=2)
        self.reward = (torch.arange(num_envs, device=device) // 4).float()
        self.clock = 0

    def reset(self) -> Tensor:
        return torch.zeros(self.spec.num_envs, 1, device=self.reward.device)

    def step(self, actions: Tensor) -> StepResult:
        self.clock += 1
        ends = torch.full_like(self.reward, self.clock % 2 == 0, dtype=torch.bool)
        return StepResult(self.reset(), self.reward, ends, torch.zeros_like(ends), torch.zeros_like(self.reward))

    def state_dict(self) -> dict[str, Any]:
        return {"clock": self.clock}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.clock = state["clock"]
