"""What is counted per agent and per episode.

Shape legend: N environments, T horizon, K agents, M measured quantities.
"""

from typing import NamedTuple

import torch
from einops import reduce
from torch import Tensor
from torchmetrics import Metric

from epo_lightning.algorithm.population import Population

QUANTITIES = ("return", "length", "successes")
"""The measured quantities of an episode, in the order of every M axis."""
_LENGTH, _SUCCESSES = QUANTITIES.index("length"), QUANTITIES.index("successes")


class FinishedEpisodes(NamedTuple):
    """The episodes that ended in one rollout.

    Attributes:
        totals: (T, M, N) what the running episodes had gathered up to and including each step.
        ended: (T, N) bool, an episode ended at this step, so that its total is final.
    """

    totals: Tensor
    ended: Tensor


class EpisodeLedger:
    """Running episodes of N environments, and the last finished one of each.

    Args:
        num_envs: N.
        device: Where the tensors live.

    Attributes:
        running: (M, N) what the running episodes have gathered.
        last: (M, N) of the last finished episode.
        has_finished: (N,) bool: there is one.
        began_late: (N,) bool: the running episode meets its time limit early, or somebody else began it: it will not be
            the last finished one.
        has_succeeded: () bool: a success was counted in some environment, ever; until then a task may count none.
    """

    def __init__(self, num_envs: int, device: torch.device) -> None:
        size = len(QUANTITIES), num_envs
        self.running = torch.zeros(size, device=device)
        self.last = torch.zeros(size, device=device)
        self.has_finished = torch.zeros(num_envs, dtype=torch.bool, device=device)
        self.began_late = torch.zeros_like(self.has_finished)
        self.has_succeeded = torch.zeros((), dtype=torch.bool, device=device)

    def begin_late(self, late: Tensor) -> None:
        """The episodes that begin now in the environments `late` (N,) are no whole ones: they are not counted."""
        self.began_late = late.clone()

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
        # How many episodes each environment had ended before (or at) each step
        ended = done.long().cumsum(0)
        any_counts = ended[-1] > self.began_late.long()  # the first to end is the one that began late
        last_end = (done & (ended == ended[-1])).to(steps.dtype)
        self.last = torch.where(any_counts, (totals * last_end[:, None]).sum(0), self.last)
        self.has_finished = self.has_finished | any_counts
        self.began_late = self.began_late & (ended[-1] == 0)
        self.has_succeeded = self.has_succeeded | (successes > 0).any()
        return FinishedEpisodes(totals, done)

    def forget(self, envs: Tensor) -> None:
        """Somebody else acts in `envs` (N,) bool: they have finished no episode, and what runs is no whole one."""
        self.has_finished = self.has_finished & ~envs
        self.began_late = self.began_late | (envs & (self.running[_LENGTH] > 0))

    def copy(self, envs: Tensor, sources: Tensor) -> None:
        """The last finished episodes of the environments `sources` (n,) count as those of `envs` (n,), too."""
        self.last[:, envs] = self.last[:, sources]
        self.has_finished[envs] = self.has_finished[sources]

    def drop_running(self) -> None:
        """Forget the running episodes: every environment begins a new one, and has finished none yet."""
        self.running = torch.zeros_like(self.running)
        self.has_finished = torch.zeros_like(self.has_finished)
        self.began_late = torch.zeros_like(self.began_late)

    def state_dict(self) -> dict[str, Tensor]:
        """The running and the last episodes, as tensors."""
        flags = {name: getattr(self, name) for name in ("has_finished", "began_late", "has_succeeded")}
        return {"running": self.running, "last": self.last, **flags}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Continue from `state` on this ledger's device."""
        device = self.running.device
        self.running, self.last, self.has_finished = (
            state[name].to(device, copy=True) for name in ("running", "last", "has_finished")
        )
        # checkpoints that were written before these were kept do not have them
        self.began_late = state.get("began_late", torch.zeros_like(self.has_finished)).to(device, copy=True)
        self.has_succeeded = state.get("has_succeeded", (self.last[_SUCCESSES] > 0).any()).to(device, copy=True)


class AgentMean(Metric):
    """Mean of each quantity over episodes, per agent; with several ranks `total` and `count` are added up before.

    Args:
        population: Which environments are whose.
    """

    full_state_update = False
    total: Tensor
    count: Tensor

    def __init__(self, population: Population) -> None:
        super().__init__(sync_on_compute=False)
        self.population = population
        zeros = torch.zeros(len(QUANTITIES), population.num_agents, dtype=torch.float64)
        self.add_state("total", zeros, dist_reduce_fx="sum")
        self.add_state("count", zeros[0].clone(), dist_reduce_fx="sum")

    def update(self, values: Tensor, mask: Tensor) -> None:
        """Take in values (..., M, N) where mask (..., N); environments are in agent order."""
        kept = torch.where(mask.unsqueeze(-2), values, 0.0).double()
        self.total += reduce(self.population.sums(kept), "... m k -> m k", "sum")
        self.count += reduce(self.population.sums(mask.double()), "... k -> k", "sum")

    def compute(self) -> tuple[Tensor, Tensor]:
        """(M, K) means, NaN for agents without an episode, and the (K,) number of episodes."""
        return self.total / self.count, self.count


def explained_variance(values: Tensor, targets: Tensor) -> Tensor:
    """() 1 - Var(targets - values) / Var(targets): 1 is a perfect critic, 0 one that knows the mean."""
    return 1 - (targets - values).var() / targets.var().clamp(min=1e-12)
