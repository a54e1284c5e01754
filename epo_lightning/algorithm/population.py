"""Which environments belong to which agent, and who is master: index arithmetic only.

Shape legend: N environments of this rank, K agents.

Every rank hosts the whole population. The master's environments come first, then those of each follower in its turn.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from epo_lightning.limits import Mistake

MASTER = 0
"""The master agent's id. It learns from the data of all agents and is never replaced by the genetic algorithm."""


@dataclass(frozen=True)
class Population:
    """K agents that share N environments in contiguous blocks, which are equal but for the master's.

    Args:
        num_agents: K.
        num_envs: N, environments on this rank.
        master_share: Share of the environments that is the master's at most: the followers have equally many; None
            for as many as every follower has.

    Raises:
        Mistake: When K < 1, N is not a positive multiple of K, or a share leaves somebody without an environment.
    """

    num_agents: int
    num_envs: int
    master_share: float | None = None

    def __post_init__(self) -> None:
        if self.num_agents < 1:
            raise Mistake(f"model.num_agents must be at least 1, got {self.num_agents}")
        if self.num_agents > 1 and self.master_share is not None:
            if not self.envs_per_follower or self.master_envs < 1:
                raise Mistake(
                    f"model.rollout.master_share {self.master_share:g} of data.num_envs {self.num_envs} leaves"
                    f" {'the master' if self.envs_per_follower else 'the followers'} no environment on a rank with"
                    f" model.num_agents {self.num_agents}: use another share, or more environments"
                )
        elif self.num_envs < 1 or self.num_envs % self.num_agents:
            lower = max(self.num_envs // self.num_agents, 1) * self.num_agents
            raise Mistake(
                f"data.num_envs must be a positive multiple of model.num_agents: {self.num_envs} environments cannot be"
                f" divided among {self.num_agents} agents; use e.g. {lower} or {lower + self.num_agents}"
            )

    @property
    def envs_per_follower(self) -> int:
        """N / K, or what the master's share leaves to each; 0 where there is no follower."""
        if self.num_agents == 1:
            return 0
        if self.master_share is None:
            return self.num_envs // self.num_agents
        return math.ceil((1 - self.master_share) * self.num_envs / (self.num_agents - 1) - 1e-9)

    @property
    def master_envs(self) -> int:
        """N / K, or the master's share."""
        return self.num_envs - self.envs_per_follower * (self.num_agents - 1)

    @property
    def envs_per_agent(self) -> int:
        """N / K, where all agents have equally many environments."""
        assert self.num_agents == 1 or self.master_envs == self.envs_per_follower
        return self.master_envs

    @property
    def followers(self) -> range:
        """Ids of all agents but the master."""
        return range(MASTER + 1, self.num_agents)

    def envs_of(self, device: torch.device | None = None) -> Tensor:
        """(K,) int64: how many environments each agent has."""
        envs = torch.full((self.num_agents,), self.envs_per_follower, device=device)
        envs[MASTER] = self.master_envs  # filled in place: nothing is copied from the host, where a GPU would wait
        return envs

    def agent_of_env(self, device: torch.device | None = None) -> Tensor:
        """(N,) int64: the agent that acts in each environment."""
        return torch.arange(self.num_agents, device=device).repeat_interleave(self.envs_of(device))

    def spread(self, share: float, device: torch.device | None = None) -> Tensor:
        """(N,) bool: so large a share of each agent's environments, evenly spread over them, rounded down."""
        agents = self.agent_of_env(device)
        number = torch.arange(self.num_envs, device=device) - self.first_envs(device)[agents]
        # the n-th is one where floor(share (n + 1)) is larger than floor(share n)
        counted = (torch.stack([number, number + 1]).double() * share + 1e-9).floor()
        return counted[1] > counted[0]

    def first_envs(self, device: torch.device | None = None) -> Tensor:
        """(K,) int64: the first environment of each agent."""
        envs = self.envs_of(device)
        return envs.cumsum(0) - envs

    def sums(self, values: Tensor) -> Tensor:
        """(..., K) sum over the environments of each agent, of (..., N)."""
        masters = values[..., : self.master_envs].sum(-1, keepdim=True)
        if self.num_agents == 1:
            return masters
        others = values[..., self.master_envs :].unflatten(-1, (len(self.followers), -1))
        return torch.cat([masters, others.sum(-1)], -1)

    def staggered(self, rank: int, world_size: int, device: torch.device | None = None) -> Tensor:
        """(N,) shares in [0, 1), evenly spread over the environments that an agent has on all ranks, each agent alike.

        Args:
            rank: Of this process.
            world_size: Ranks that host the same population.
            device: Where the shares shall be.
        """
        agents = self.agent_of_env(device)
        envs = torch.arange(self.num_envs, device=device) - self.first_envs(device)[agents]
        return (envs * world_size + rank) / (self.envs_of(device)[agents] * world_size)
