"""Which environments belong to which agent, and who is master: index arithmetic only.

Shape legend: N environments of this rank, K agents.

Every rank hosts the whole population; environment e belongs to agent e // (N / K).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from epo_lightning.limits import Mistake

MASTER = 0
"""The master agent's id. It learns from the data of all agents and is never replaced by the genetic algorithm."""


@dataclass(frozen=True)
class Population:
    """K agents that share N environments in equal, contiguous blocks.

    Args:
        num_agents: K.
        num_envs: N, environments on this rank.

    Raises:
        Mistake: When K < 1 or N is not a positive multiple of K.
    """

    num_agents: int
    num_envs: int

    def __post_init__(self) -> None:
        if self.num_agents < 1:
            raise Mistake(f"model.num_agents must be at least 1, got {self.num_agents}")
        if self.num_envs < 1 or self.num_envs % self.num_agents:
            lower = max(self.num_envs // self.num_agents, 1) * self.num_agents
            raise Mistake(
                f"data.num_envs must be a positive multiple of model.num_agents: {self.num_envs} environments cannot be"
                f" divided among {self.num_agents} agents; use e.g. {lower} or {lower + self.num_agents}"
            )

    @property
    def envs_per_agent(self) -> int:
        """N / K."""
        return self.num_envs // self.num_agents

    @property
    def followers(self) -> range:
        """Ids of all agents but the master."""
        return range(MASTER + 1, self.num_agents)

    def agent_of_env(self, device: torch.device | None = None) -> Tensor:
        """(N,) int64: the agent that acts in each environment."""
        return torch.arange(self.num_agents, device=device).repeat_interleave(self.envs_per_agent)

    def staggered(self, rank: int, world_size: int, device: torch.device | None = None) -> Tensor:
        """(N,) shares in [0, 1), evenly spread over the environments that an agent has on all ranks, each agent alike.

        Args:
            rank: Of this process.
            world_size: Ranks that host the same population.
            device: Where the shares shall be.
        """
        envs = torch.arange(self.envs_per_agent, device=device) * world_size + rank
        return (envs / (self.envs_per_agent * world_size)).repeat(self.num_agents)
