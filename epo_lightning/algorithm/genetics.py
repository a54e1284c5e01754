"""The genetic algorithm on genomes; pure functions (EPO section 4.1).

Shape legend: K agents, M children. Agent 0 is the master: it is neither parent nor child.

All randomness comes from the generator handed in, so that rank 0 can decide for every rank.
"""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from epo_lightning.algorithm.crossover import Crossover
from epo_lightning.algorithm.population import MASTER
from epo_lightning.algorithm.ties import TIE


class Inheritance(NamedTuple):
    """How a part of the genome comes from two parents.

    Attributes:
        crossover: Mixes the parents'.
        mutation_sigma: Standard deviation of the Gaussian noise that is added then; None adds none and draws none.
    """

    crossover: Crossover
    mutation_sigma: float | None = None


class Offspring(NamedTuple):
    """What one generation changes.

    Attributes:
        children: (M,) int64 ids of the replaced agents.
        parents: (M, 2) int64: the elite parent, and the one drawn by relative fitness.
        genome: (M, ...) of each name: the children's.
    """

    children: Tensor
    parents: Tensor
    genome: dict[str, Tensor]


def should_evolve(fitness: Tensor, spread_threshold: float) -> Tensor:
    """() bool: max f - min f > threshold * |median f| over the followers (EPO eq. 3); never when all are equal."""
    followers = fitness[MASTER + 1 :]
    spread = followers.max() - followers.min()
    return (spread > spread_threshold * followers.quantile(0.5).abs()) & (spread > tie_width(followers))


def may_adopt(fitness: Tensor, margin: float) -> Tensor:
    """() bool: the best follower is better than the master by more than `margin` of its absolute fitness."""
    best = fitness[MASTER + 1 :].max()
    lead = best - fitness[MASTER]
    return (lead > margin * best.abs()) & (lead > tie_width(fitness))


def rank_followers(fitness: Tensor) -> Tensor:
    """(K - 1,) follower ids, best first; equal fitness keeps the order of ids."""
    return rank(fitness[MASTER + 1 :]) + MASTER + 1


def rank(fitness: Tensor) -> Tensor:
    """(n,) places in `fitness` (n,), best first; neighbours within `TIE` are equal, and equal ones keep their order."""
    values, order = fitness.sort(descending=True, stable=True)
    lower = values[:-1] - values[1:] > tie_width(fitness)
    group = torch.cat([torch.zeros_like(order[:1]), lower.long().cumsum(0)])
    return order[(group * len(order) + order).argsort()]


def tie_width(fitness: Tensor) -> Tensor:
    """() the difference up to which two values of `fitness` are equal."""
    return TIE * fitness.abs().max()


def mutate(genes: Tensor, sigma: float, generator: torch.Generator) -> Tensor:
    """Genes with noise: genes + N(0, sigma^2)."""
    return genes + sigma * torch.randn(genes.shape, generator=generator, device=genes.device, dtype=genes.dtype)


def evolve(
    genome: Mapping[str, Tensor],
    fitness: Tensor,
    inheritance: Mapping[str, Inheritance],
    *,
    num_elites: int,
    num_offspring: int | None,
    generator: torch.Generator,
) -> Offspring:
    """One generation: the worst followers become mutated children of an elite and a fitness-chosen follower.

    Both parents may be the same agent: such a child is a mutated copy of an elite.

    Args:
        genome: (K, ...) of each name, of the whole population (see `Genome.read`).
        fitness: (K,) of the whole population; the master's is ignored.
        inheritance: Of each name.
        num_elites: Best followers, which stay as they are.
        num_offspring: How many of the worst followers are replaced; None means all that are not elites.
        generator: Source of randomness.
    """
    assert torch.isfinite(fitness[MASTER + 1 :]).all(), "every follower needs a fitness"
    ranking = rank_followers(fitness)
    elites = ranking[:num_elites]
    replaceable = ranking[num_elites:]
    children = replaceable if num_offspring is None else replaceable[len(replaceable) - num_offspring :]
    count = len(children)

    chosen = torch.randint(num_elites, (count,), generator=generator, device=fitness.device)
    first = elites[chosen]
    # p_j ~ f_j - min f over the followers; uniform when all fitnesses are equal
    relative = fitness[MASTER + 1 :] - fitness[MASTER + 1 :].min()
    weights = torch.where(relative.max() > tie_width(fitness[MASTER + 1 :]), relative, torch.ones_like(relative))
    second = torch.multinomial(weights, count, replacement=True, generator=generator) + MASTER + 1

    inherited = {
        name: _inherit(part[first], part[second], inheritance[name], generator) for name, part in genome.items()
    }
    return Offspring(children=children, parents=torch.stack([first, second], dim=1), genome=inherited)


def _inherit(first: Tensor, second: Tensor, rule: Inheritance, generator: torch.Generator) -> Tensor:
    """One part of the children's genome, (M, ...) like the parents'; operators see one row of entries per child."""
    child = rule.crossover(first.unsqueeze(1).flatten(1), second.unsqueeze(1).flatten(1), generator)
    if rule.mutation_sigma is not None:
        child = mutate(child, rule.mutation_sigma, generator)
    return child.reshape(first.shape)
