"""Selection at several frequencies: followers that bloom late are compared with each other only (arXiv 2506.03225).

Shape legend: K agents, M replaced agents, n followers of a sub-population, q = n // 4 of them, at least 1.

The followers are dealt to sub-populations, each with a number of windows between its generations. In a generation of
one the worst q become mutated children of the best q. The q before the worst are overwritten by the best outsiders,
where these are better. Who comes from a sub-population that selects more often leaves its hyper-parameters behind:
they are good for soon, and those of the best insider are good for longer.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from epo_lightning.algorithm.genetics import (
    Inheritance,
    Offspring,
    evolve,
    rank,
    rank_followers,
    should_evolve,
    tie_width,
)
from epo_lightning.algorithm.population import MASTER


class SubPopulation(NamedTuple):
    """Followers that are selected together.

    Attributes:
        period: Windows between two generations.
        agents: (n + 1,) int64: the master, who takes no part, and the ids of its followers.
    """

    period: int
    agents: Tensor

    @property
    def quarter(self) -> int:
        """How many are parents, how many are replaced, and how many may be overwritten: q."""
        return max(1, (len(self.agents) - 1) // 4)

    def ranking(self, fitness: Tensor) -> Tensor:
        """(n,) its followers, best first, by the fitness (K,) of all agents."""
        return self.agents[rank_followers(fitness[self.agents])]


def deal(num_agents: int, periods: Sequence[int]) -> list[SubPopulation]:
    """Followers in turn, so that whatever grows with their number is spread over all sub-populations."""
    followers = torch.arange(MASTER + 1, num_agents)
    master = torch.tensor([MASTER])
    return [
        SubPopulation(period, torch.cat([master, followers[place :: len(periods)]]))
        for place, period in enumerate(periods)
    ]


def due(populations: Sequence[SubPopulation], window: int) -> list[SubPopulation]:
    """Whose turn it is at the end of the `window`-th window, counted from 1."""
    return [each for each in populations if window % each.period == 0]


def differing(populations: Sequence[SubPopulation], fitness: Tensor, threshold: float) -> list[SubPopulation]:
    """Those of which the fitness differs enough (see `should_evolve`)."""
    return [each for each in populations if bool(should_evolve(fitness[each.agents], threshold))]


def evolve_some(
    chosen: Sequence[SubPopulation],
    others: Sequence[SubPopulation],
    genome: Mapping[str, Tensor],
    fitness: Tensor,
    inheritance: Mapping[str, Inheritance],
    hyper_parameters: Collection[str],
    generator: torch.Generator,
) -> Offspring:
    """A generation of some sub-populations.

    Args:
        chosen: Whose generation it is.
        others: All of them, the chosen ones among them.
        genome: (K, ...) of each name, of the whole population.
        fitness: (K,).
        inheritance: Of each name.
        hyper_parameters: Names of the genome that do not come along from a sub-population that selects more often.
        generator: Source of randomness.

    Returns:
        Children and overwritten followers, one sub-population after the other; the two parents of one that was
        overwritten are the outsider.
    """
    parts = []
    for each in chosen:
        own = {name: part[each.agents] for name, part in genome.items()}
        bred = evolve(
            own,
            fitness[each.agents],
            inheritance,
            num_elites=each.quarter,
            num_offspring=each.quarter,
            generator=generator,
        )
        parts.append(Offspring(each.agents[bred.children], each.agents[bred.parents], bred.genome))
        parts.append(_migrants(each, others, genome, fitness, hyper_parameters))
    return Offspring(
        torch.cat([part.children for part in parts]),
        torch.cat([part.parents for part in parts]),
        {name: torch.cat([part.genome[name] for part in parts]) for name in genome},
    )


def _migrants(
    population: SubPopulation,
    others: Sequence[SubPopulation],
    genome: Mapping[str, Tensor],
    fitness: Tensor,
    hyper_parameters: Collection[str],
) -> Offspring:
    """The best outsiders in the places of those before the worst, the best for the best, where they are better."""
    ranking, quarter = population.ranking(fitness), population.quarter
    places = ranking[max(len(ranking) - 2 * quarter, quarter) : len(ranking) - quarter]
    outside = [each for each in others if each is not population]
    if outside:
        agents = torch.cat([each.agents[1:] for each in outside])
        periods = torch.cat([torch.full_like(each.agents[1:], each.period) for each in outside])
        best = rank(fitness[agents])[: len(places)]
        agents, periods, places = agents[best], periods[best], places[: len(best)]
        better = fitness[agents] - fitness[places] > tie_width(fitness)
        agents, periods, places = agents[better], periods[better], places[better]
    else:
        agents = periods = places = places[:0]
    advised = torch.where(periods < population.period, ranking[0], agents)
    taken = {name: part[advised if name in hyper_parameters else agents] for name, part in genome.items()}
    return Offspring(places, torch.stack([agents, agents], dim=1), taken)
