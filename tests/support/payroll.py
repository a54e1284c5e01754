"""Environments that pay what a table says."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from epo_lightning.envs.base import EnvSpec, StepResult, VectorEnv


class Payroll(VectorEnv):
    """Four environments of each agent, iterations of four steps, episodes of two.

    Pays agent k, in every step of iteration i, half of `table[i][k]`: its return. None means no episode ends.
    """

    def __init__(self, num_envs: int, table: Sequence[Sequence[float | None]]) -> None:
        self.spec = EnvSpec("Payroll", num_envs, obs_dim=1, act_dim=1, max_episode_steps=2)
        self.table, self.clock = table, 0

    def reset(self) -> Tensor:
        return torch.zeros(self.spec.num_envs, 1)

    def step(self, actions: Tensor) -> StepResult:
        row = self.table[self.clock // 4]
        self.clock += 1
        pay = torch.tensor([value or 0.0 for value in row]).repeat_interleave(4) / 2
        ends = torch.tensor([value is not None for value in row]).repeat_interleave(4) & (self.clock % 2 == 0)
        return StepResult(self.reset(), pay, ends, torch.zeros_like(ends), torch.zeros_like(pay))

    def state_dict(self) -> dict[str, Any]:
        return {"clock": self.clock}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.clock = state["clock"]
