"""Fitness: what an agent's episodes return, measured alike for every agent.

Shape legend: N environments of this rank, T horizon, K agents, M measured quantities.

A window opens for all agents at the same moment, and episodes that run then do not count: an environment counts with
the first `episodes` episodes that it begins inside the window. One that still runs when the window is measured counts
with what it has returned so far. Every environment weighs the same, whether its episodes are short or long.
"""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from epo_lightning.algorithm.population import Population
from epo_lightning.experience.episodes import QUANTITIES, FinishedEpisodes
from epo_lightning.experience.ranks import several_ranks, sum_over_ranks

_LENGTH = QUANTITIES.index("length")
_ENOUGH = 0.5
"""Of what its environments can show in a window, the share that must have been seen of an agent."""


class FitnessWindow:
    """The episodes that the environments of one rank began since the window was opened.

    Args:
        population: K agents, and whose of the N environments are.
        device: Where the tensors live.

    Attributes:
        episodes: How many episodes of an environment count; 1 unless it is set.
        opened_at: Env steps at which the window was opened.
        missing: Environments of all ranks that had begun no episode in it when it was asked whether it is complete.
        gone: What environments have said that were there when it was opened and are no more, on any rank, the same on
            all: `total` (M, K), and `count` (K,) of them; None where there are none.
    """

    def __init__(self, population: Population, device: torch.device) -> None:
        self.population, num_envs = population, population.num_envs
        self.episodes = 1
        self.opened_at = 0
        self.missing = 0
        self.gone: dict[str, Tensor] | None = None
        self._total = torch.zeros(len(QUANTITIES), num_envs, device=device)
        self._count = torch.zeros(num_envs, dtype=torch.long, device=device)
        self._is_old = torch.zeros(num_envs, dtype=torch.bool, device=device)
        self._before = torch.zeros_like(self._total)

    def open(self, running: Tensor, env_steps: int) -> None:
        """Forget everything: a new window begins now.

        Args:
            running: (M, N) what the running episodes have gathered; they are not the window's.
            env_steps: What the training has made so far.
        """
        self.opened_at, self.gone = env_steps, None
        self._total = torch.zeros_like(self._total)
        self._count = torch.zeros_like(self._count)
        self._is_old = running[_LENGTH] > 0
        self._before = running.clone()

    def begin_late(self, late: Tensor) -> None:
        """The episodes that begin now in the environments `late` (N,) are shorter than others: not the window's."""
        self._is_old = self._is_old | late

    def update(self, finished: FinishedEpisodes) -> None:
        """Take in the episodes that ended in one rollout."""
        # Which of its own episodes, counted from 1, each environment ended at a step; 0 for the one that is older
        number = self._count + finished.ended.long().cumsum(0) - self._is_old.long()
        counts = finished.ended & (number >= 1) & (number <= self.episodes)
        self._total = self._total + torch.where(counts[:, None], finished.totals, 0.0).sum(0)
        # not below what is in the total already: a resumed run may ask for fewer episodes
        self._count = torch.maximum(self._count, number[-1].clamp(max=self.episodes))
        self._is_old = self._is_old & ~finished.ended.any(0)

    def is_complete(self, env_steps: int, env_steps_wanted: int, running: Tensor) -> bool:
        """Whether the window may be measured; with several ranks a collective call once the window is long enough.

        It is when it has lasted `env_steps_wanted`, every environment of every rank has begun an episode in it, and
        enough has been seen of each agent: in the mean over its environments half of what one can show, which is an
        episode that has ended, or one that has lasted as long as the window is wanted to. Otherwise agents whose
        episodes all begin at once would be measured by their first few steps. An episode that runs on from before is
        waited for as long again, and no longer.
        """
        self.missing, age = 0, env_steps - self.opened_at
        if age < env_steps_wanted:
            return False
        nothing = self._weight(running) == 0
        lasted = torch.where(self._is_old, running[_LENGTH] - self._before[_LENGTH], running[_LENGTH])
        if age >= 2 * env_steps_wanted:
            nothing = nothing & ~self._is_old
        ranks = dist.get_world_size() if several_ranks() else 1
        wanted = env_steps_wanted / (ranks * self.population.num_envs)
        seen = torch.where(self._count > 0, 1.0, (lasted.double() / wanted).clamp(max=1.0)) * ~nothing
        told = torch.cat([self.population.sums(seen), nothing.sum()[None].double()])
        sum_over_ranks(told)
        self.missing = int(told[-1])
        enough = told[:-1] >= _ENOUGH * ranks * self.population.envs_of(told.device)
        return not self.missing and bool(enough.all())

    def is_finished(self) -> bool:
        """Whether every environment of every rank has ended all episodes that count in it: a collective call."""
        unfinished = (self._count < self.episodes).sum()
        sum_over_ranks(unfinished)
        return not int(unfinished)

    def measure(self, running: Tensor) -> Tensor:
        """(M, K) float64 mean of each quantity over the environments of each agent, of all ranks: a collective call.

        Args:
            running: (M, N) what the running episodes have gathered.
        """
        values = self.of_each_env(running).double()
        means = self.population.sums(values) / self.population.envs_of(values.device)
        sum_over_ranks(means)
        ranks = dist.get_world_size() if several_ranks() else 1
        means = means / ranks
        if self.gone is None:
            return means
        envs = self.population.envs_of(values.device) * ranks
        return (means * envs + self.gone["total"]) / (envs + self.gone["count"])

    def farewell(self, running: Tensor, leaving: Tensor) -> dict[str, Tensor]:
        """What the environments `leaving` (N,) bool have said of their agents, as `gone` keeps it.

        Args:
            running: (M, N) what the running episodes have gathered.
            leaving: Those that will be no more; who has no episode in the window has said nothing.
        """
        said = leaving & (self._weight(running) > 0)
        values = torch.where(said, self.of_each_env(running), 0.0).double()
        return {"total": self.population.sums(values), "count": self.population.sums(said.double())}

    def of_each_env(self, running: Tensor) -> Tensor:
        """(M, N) mean of each quantity over the episodes that count of each environment of this rank."""
        weight = self._weight(running)
        unfinished = torch.where(weight > self._count, running, 0.0)
        # Where the old episode has outlasted the window: what it has returned in there
        return torch.where(self._is_old, running - self._before, (self._total + unfinished) / weight.clamp(min=1))

    def _weight(self, running: Tensor) -> Tensor:
        """(N,) how many episodes an environment has in the window: complete ones, and one that runs if it counts."""
        runs = ~self._is_old & (running[_LENGTH] > 0) & (self._count < self.episodes)
        return self._count + runs.long()

    def state_dict(self) -> dict[str, Any]:
        """Everything but `episodes`, which is a setting."""
        tensors = {"total": self._total, "count": self._count, "is_old": self._is_old, "before": self._before}
        return {**tensors, "opened_at": self.opened_at, "gone": self.gone}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state` on this window's device."""
        device = self._total.device
        self._total, self._count, self._is_old, self._before = (
            state[name].to(device, copy=True) for name in ("total", "count", "is_old", "before")
        )
        self.opened_at = state["opened_at"]
        gone = state.get("gone")  # checkpoints that were written before it was kept do not have it
        self.gone = None if gone is None else {name: value.to(device, copy=True) for name, value in gone.items()}
