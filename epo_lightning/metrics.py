"""What is counted per agent and per episode.

Shape legend: N environments, T horizon, K agents, M measured quantities.
"""

from typing import NamedTuple

import torch
from einops import reduce
from torch import Tensor
from torchmetrics import Metric

QUANTITIES = ("return", "length", "successes")
"""The measured quantities of an episode, in the order of every M axis."""


class FinishedEpisodes(NamedTuple):
    """The episodes that ended in one rollout.

    Attributes:
        totals: (T, M, N) what the running episodes had gathered up to and including each step.
        ended: (T, N) bool, an episode ended at this step, so that its total is final.
        counts_for_fitness: (T, N) bool, `ended`, and the whole episode was played with the agent's present gene.
    """

    totals: Tensor
    ended: Tensor
    counts_for_fitness: Tensor


class EpisodeLedger:
    """Running episodes of N environments, and the last finished one of each.

    Args:
        num_envs: N.
        device: Where the tensors live.
    """

    def __init__(self, num_envs: int, device: torch.device) -> None:
        size = len(QUANTITIES), num_envs
        self.running = torch.zeros(size, device=device)
        self.last = torch.zeros(size, device=device)
        self.has_finished = torch.zeros(num_envs, dtype=torch.bool, device=device)
        self.own_gene = torch.ones(num_envs, dtype=torch.bool, device=device)

    def record(self, rewards: Tensor, successes: Tensor, done: Tensor) -> FinishedEpisodes:
        """Enter one rollout: `rewards`, `successes` and `done` are (T, N)."""
        steps = torch.stack([rewards, torch.ones_like(rewards), successes], dim=1)
        totals = torch.empty_like(steps)
        keep = (~done).to(steps.dtype)
        running = self.running
        for t in range(len(steps)):
            torch.add(running, steps[t], out=totals[t])
            running = totals[t] * keep[t]
        self.running = running
        # How many episodes each environment had ended before (or at) each step; one begun in here is the present gene's
        ended = done.long().cumsum(0)
        counts = done & (self.own_gene | (ended > 1))
        any_ended = ended[-1] > 0
        last_end = (done & (ended == ended[-1])).to(steps.dtype)
        self.last = torch.where(any_ended, (totals * last_end[:, None]).sum(0), self.last)
        self.has_finished = self.has_finished | any_ended
        self.own_gene = self.own_gene | any_ended
        return FinishedEpisodes(totals, done, counts)

    def disown(self, envs: Tensor) -> None:
        """The running episodes of `envs` (N,) bool began under another gene: they will not count for fitness."""
        begun = self.running[QUANTITIES.index("length")] > 0
        self.own_gene = self.own_gene & ~(envs & begun)

    def drop_running(self) -> None:
        """Forget the running episodes: every environment begins a new one."""
        self.running = torch.zeros_like(self.running)
        self.own_gene = torch.ones_like(self.own_gene)

    def state_dict(self) -> dict[str, Tensor]:
        """All of it, as tensors."""
        return dict(vars(self))

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Continue from `state` on this ledger's device."""
        for name, value in state.items():
            setattr(self, name, value.to(self.running.device, copy=True))


class AgentMean(Metric):
    """Mean of each quantity over episodes, per agent; sums and counts are added up over ranks.

    Args:
        num_agents: K.
    """

    full_state_update = False
    total: Tensor
    count: Tensor

    def __init__(self, num_agents: int) -> None:
        super().__init__(compute_with_cache=False)  # `forget` and `load_sums` change the sums behind the cache's back
        self.num_agents = num_agents
        zeros = torch.zeros(len(QUANTITIES), num_agents, dtype=torch.float64)
        self.add_state("total", zeros, dist_reduce_fx="sum")
        self.add_state("count", zeros[0].clone(), dist_reduce_fx="sum")

    def update(self, values: Tensor, mask: Tensor) -> None:
        """Take in values (..., M, N) where mask (..., N); environments are in agent order."""
        kept = torch.where(mask.unsqueeze(-2), values, 0.0).double()
        self.total += reduce(kept, "... m (k n) -> m k", "sum", k=self.num_agents)
        self.count += reduce(mask.double(), "... (k n) -> k", "sum", k=self.num_agents)

    def forget(self, agents: Tensor) -> None:
        """Start anew for `agents` (M,)."""
        self.total[:, agents] = 0.0
        self.count[agents] = 0.0

    def sums(self) -> dict[str, Tensor]:
        """This rank's sums and counts, to save; torchmetrics' own `state_dict` would be a module's."""
        return {"total": self.total, "count": self.count}

    def load_sums(self, sums: dict[str, Tensor]) -> None:
        """Continue from `sums`."""
        self.total.copy_(sums["total"])
        self.count.copy_(sums["count"])
        self._update_count = 1

    def compute(self) -> tuple[Tensor, Tensor]:
        """(M, K) means, NaN for agents without an episode, and the (K,) number of episodes."""
        return self.total / self.count, self.count


def explained_variance(values: Tensor, targets: Tensor) -> Tensor:
    """() 1 - Var(targets - values) / Var(targets): 1 is a perfect critic, 0 one that knows the mean."""
    return 1 - (targets - values).var() / targets.var().clamp(min=1e-12)
