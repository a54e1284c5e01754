"""The saved experience of some ranks, dealt to another number of them.

Shape legend: R ranks that saved, N environments of one rank of now, n those of one that saved, K agents,
M measured quantities, C steps of a replay buffer.

Every agent's environments stand in one row, rank by rank, and the first of them are dealt first. A rank that has as
many environments as before, and whose number one had, is as it was, simulator and all. Anywhere else the simulator
begins new episodes: what was counted of an environment goes where it is dealt, and what was remembered, too.
Environments that are left over end; what they say of their agents' fitness stays in the window.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from epo_lightning.algorithm.population import Population
from epo_lightning.experience.fitness import FitnessWindow

_NOBODY = -1


@dataclass(frozen=True)
class Deal:
    """What one rank gets.

    Args:
        states: What each of R ranks saved (see `Experience.saved`).
        rank: Who gets it.
        world_size: How many ranks there are now.
        population: Who acts in its N environments.
    """

    states: Sequence[Mapping[str, Any]]
    rank: int
    world_size: int
    population: Population

    @cached_property
    def before(self) -> Population:
        """Who acted where, on a rank that saved."""
        return replace(self.population, num_envs=self.states[0]["obs"].shape[0])

    @property
    def goes_on(self) -> bool:
        """Whether the simulator of this rank does."""
        return self.before.num_envs == self.population.num_envs and self.rank < len(self.states)

    @cached_property
    def sources(self) -> Tensor:
        """(N,) the environment that each is from, numbered through the R ranks; -1 of a new one."""
        row, places = self._row, self._places(self.population, self.rank)
        agents = self.population.agent_of_env()
        held = places < row.shape[1]
        return torch.where(held, row[agents, places.clamp(max=row.shape[1] - 1)], _NOBODY)

    @cached_property
    def left_over(self) -> Tensor:
        """(R n,) bool: environments that no rank gets."""
        agents = self.before.agent_of_env()
        places = torch.cat([self._places(self.before, rank) for rank in range(len(self.states))])
        return places >= (self.world_size * self.population.envs_of())[agents].repeat(len(self.states))

    @property
    def _row(self) -> Tensor:
        """(K, R of its most environments) the environments of every agent; -1 behind the last."""
        envs, ranks = self.before.envs_of(), len(self.states)
        row = torch.full((self.before.num_agents, ranks * int(envs.max())), _NOBODY)
        agents = self.before.agent_of_env()
        for rank in range(ranks):
            row[agents, self._places(self.before, rank)] = rank * self.before.num_envs + torch.arange(len(agents))
        return row

    @staticmethod
    def _places(population: Population, rank: int) -> Tensor:
        """Of the environments of a rank, in the rows of their agents."""
        agents, number = population.agent_of_env(), torch.arange(population.num_envs)
        return rank * population.envs_of()[agents] + number - population.first_envs()[agents]

    def state(self) -> dict[str, Any]:
        """As a rank would have saved it; of a simulator that begins new episodes `env` and `obs` are None."""
        like = self.states[self.rank % len(self.states)]
        if self.goes_on:
            return {**like, "fitness": {**like["fitness"], "gone": self._gone()}}
        dealt = {name: value for name, value in like.items() if name not in ("env", "obs", "state", "image_state")}
        dealt |= {"env": None, "obs": None, "ledger": self._ledger(), "fitness": self._fitness()}
        if "replay" in like:
            dealt["replay"] = self._replay()
        return dealt

    def _dealt(self, *path: str, new: float = 0) -> Tensor:
        """(..., N) an entry (..., n) of what the ranks saved, and `new` in new environments."""
        pool = torch.cat([_at(state, path) for state in self.states], -1)
        taken = pool.index_select(-1, self.sources.clamp(min=0))
        return torch.where(self.sources == _NOBODY, torch.full_like(taken, new), taken)

    def _ledger(self) -> dict[str, Tensor]:
        """The last episodes of the environments; none runs."""
        last, has_finished = self._dealt("ledger", "last"), self._dealt("ledger", "has_finished")
        succeeded = [_at(state, ("ledger", "has_succeeded")) for state in self.states]
        return {
            "running": torch.zeros_like(last),
            "last": last,
            "has_finished": has_finished,
            "began_late": torch.zeros_like(has_finished),
            "has_succeeded": torch.stack(succeeded).any(),
        }

    def _fitness(self) -> dict[str, Any]:
        """The episodes that have ended in the window; those that were cut do not count."""
        total, count = self._dealt("fitness", "total"), self._dealt("fitness", "count")
        empty = {"is_old": torch.zeros_like(count, dtype=torch.bool), "before": torch.zeros_like(total)}
        opened_at = self.states[0]["fitness"]["opened_at"]
        return {"total": total, "count": count, **empty, "opened_at": opened_at, "gone": self._gone()}

    def _gone(self) -> dict[str, Tensor] | None:
        """What environments that are left over say of their agents: (M, K) sum, and (K,) how many."""
        sums: list[dict[str, Tensor]] = []
        earlier = self.states[0]["fitness"].get("gone")
        parts = self.left_over.chunk(len(self.states))
        for state, left in zip(self.states, parts, strict=True):
            window = FitnessWindow(self.before, torch.device("cpu"))
            window.load_state_dict({**state["fitness"], "gone": None})
            sums.append(window.farewell(state["ledger"]["running"], left))
        known = [*([earlier] if earlier is not None else []), *sums]
        if earlier is None and not self.left_over.any():
            return None
        return {name: torch.stack([each[name] for each in known]).sum(0) for name in ("total", "count")}

    def _replay(self) -> dict[str, Any]:
        """What the environments remember; a new one has what another one remembers."""
        like = self.states[self.rank % len(self.states)]["replay"]
        if self.before.num_envs == self.population.num_envs:
            return dict(like)
        own = torch.arange(self.population.num_envs) + self.rank * self.population.num_envs
        columns = own % (len(self.states) * self.before.num_envs)
        tensors = {name for name in ("rows", "waiting") if name in like}
        pooled = {name: torch.cat([state["replay"][name] for state in self.states], 1) for name in tensors}
        return {**like, **{name: pool.index_select(1, columns) for name, pool in pooled.items()}}

    def told(self) -> str:
        """What becomes of the environments, in one line."""
        ranks, before, now = len(self.states), self.before.num_envs, self.population.num_envs
        all_before, all_now = ranks * before, self.world_size * now
        on = min(ranks, self.world_size) * now if before == now else 0
        parts = [f"{on} environments go on", f"{all_now - on} begin new episodes"]
        parts += [f"{left} end" for left in [int(self.left_over.sum())] if left]
        line = (
            f"Ranks: the checkpoint has {ranks} x {before} environments, this run {self.world_size} x {now}:"
            f" {', '.join(parts)}; weights, normalisers, fitness and counters are as they were"
        )
        if all_before != all_now and all_before % self.world_size == 0:
            line += f" (as many as before in all: --data.num_envs {all_before // self.world_size})"
        return line


def _at(state: Mapping[str, Any], path: Sequence[str]) -> Tensor:
    value: Any = state
    for name in path:
        value = value[name]
    assert isinstance(value, Tensor)
    return value
