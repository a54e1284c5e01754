"""The genetic algorithm on latent genes; pure functions (EPO section 4.1).

Shape legend: K agents, Z gene entries, M children. Agent 0 is the master: it is neither parent nor child.

All randomness comes from the generator handed in, so that rank 0 can decide for every rank.
"""

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from epo_lightning.algorithm.population import MASTER
from epo_lightning.algorithm.ties import TIE

Crossover = Literal["average", "uniform", "k_point"]


class Offspring(NamedTuple):
    """What one generation changes.

    Attributes:
        children: (M,) int64 ids of the replaced agents.
        parents: (M, 2) int64: the elite parent, and the one drawn by relative fitness.
        genes: (M, Z) genes of the children.
        log_std: (M, A) log standard deviations of the children.
    """

    children: Tensor
    parents: Tensor
    genes: Tensor
    log_std: Tensor


def should_evolve(fitness: Tensor, spread_threshold: float) -> Tensor:
    """() bool: max f - min f > threshold * |median f| over the followers (EPO eq. 3); never when all are equal."""
    followers = fitness[MASTER + 1 :]
    spread = followers.max() - followers.min()
    return (spread > spread_threshold * followers.quantile(0.5).abs()) & (spread > tie_width(followers))


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


def crossover(first: Tensor, second: Tensor, kind: Crossover, points: int, generator: torch.Generator) -> Tensor:
    """Children (M, Z) of the parents `first` and `second`, each (M, Z).

    Args:
        first: Genes of the elite parents.
        second: Genes of the other parents.
        kind: `average` takes the mean, `uniform` each entry from a random parent, `k_point` alternates between the
            parents at `points` random places.
        points: Crossing points of `k_point`, fewer than Z.
        generator: Source of randomness.
    """
    if kind == "average":
        return 0.5 * (first + second)
    if kind == "uniform":
        mask = torch.rand(first.shape, generator=generator, device=first.device) < 0.5
        return torch.where(mask, first, second)
    rows, width = first.shape
    # `points` distinct cuts among the Z - 1 places between two entries; their running count tells whose turn it is
    places = torch.rand(rows, width - 1, generator=generator, device=first.device).argsort(-1)
    cuts = (places < points).long().cumsum(-1)
    turn = torch.cat([torch.zeros_like(cuts[:, :1]), cuts], dim=-1)
    return torch.where(turn % 2 == 0, first, second)


def mutate(genes: Tensor, sigma: float, generator: torch.Generator) -> Tensor:
    """genes + N(0, sigma^2)."""
    return genes + sigma * torch.randn(genes.shape, generator=generator, device=genes.device, dtype=genes.dtype)


def evolve(
    genes: Tensor,
    log_std: Tensor,
    fitness: Tensor,
    *,
    num_elites: int,
    num_offspring: int | None,
    crossover_kind: Crossover,
    crossover_points: int,
    mutation_sigma: float,
    generator: torch.Generator,
) -> Offspring:
    """One generation: the worst followers become mutated children of an elite and a fitness-chosen follower.

    Both parents may be the same agent: such a child is a mutated copy of an elite.

    Args:
        genes: (K, Z) of the whole population.
        log_std: (K, A); a child inherits the mean of its parents'.
        fitness: (K,) of the whole population; the master's is ignored.
        num_elites: Best followers, which stay as they are.
        num_offspring: How many of the worst followers are replaced; None means all that are not elites.
        crossover_kind: See `crossover`.
        crossover_points: See `crossover`.
        mutation_sigma: Standard deviation of the mutation.
        generator: Source of randomness.
    """
    assert torch.isfinite(fitness[MASTER + 1 :]).all(), "every follower needs a fitness"
    ranking = rank_followers(fitness)
    elites = ranking[:num_elites]
    replaceable = ranking[num_elites:]
    children = replaceable if num_offspring is None else replaceable[len(replaceable) - num_offspring :]
    count = len(children)

    chosen = torch.randint(num_elites, (count,), generator=generator, device=genes.device)
    first = elites[chosen]
    # p_j ~ f_j - min f over the followers; all alike when nobody differs
    relative = fitness[MASTER + 1 :] - fitness[MASTER + 1 :].min()
    weights = torch.where(relative.max() > tie_width(fitness[MASTER + 1 :]), relative, torch.ones_like(relative))
    second = torch.multinomial(weights, count, replacement=True, generator=generator) + MASTER + 1

    child_genes = crossover(genes[first], genes[second], crossover_kind, crossover_points, generator)
    child_log_std = 0.5 * (log_std[first] + log_std[second])
    return Offspring(
        children=children,
        parents=torch.stack([first, second], dim=1),
        genes=mutate(child_genes, mutation_sigma, generator),
        log_std=child_log_std,
    )
