"""How hyper-parameters change from parent to child; pure functions.

Shape legend: M agents.
"""

import math
from collections.abc import Mapping
from typing import Literal, NamedTuple

import torch
from torch import Tensor

DISCOUNT_CHANGE = (1.1, 1.2)
"""Range of the factor of 1 - gamma, whatever that of the others is."""
_COIN = 0.5


class Gene(NamedTuple):
    """How one hyper-parameter changes.

    Attributes:
        low: Smallest value.
        high: Largest value.
        kind: `factor`: x or / a factor; `complement`: 1 - x is; `step`: + or - 1.
    """

    low: float = -math.inf
    high: float = math.inf
    kind: Literal["factor", "complement", "step"] = "factor"


SPECIAL = {
    "clip": Gene(0.01, 0.3),
    "num_epochs": Gene(1, 8, "step"),
    "gamma": Gene(0.0, 1.0, "complement"),
}
"""Hyper-parameters with a rule of their own; every other one is multiplied or divided, without bounds."""


class Mutated(NamedTuple):
    """Hyper-parameters after mutation.

    Attributes:
        values: (M,) float64 of each name.
        clamped: (M,) bool of each name: what came out was out of range and was set to the nearer bound.
    """

    values: dict[str, Tensor]
    clamped: dict[str, Tensor]


def mutate(
    values: Mapping[str, Tensor],
    genes: Mapping[str, Gene],
    mutation_rate: float,
    change: tuple[float, float],
    generator: torch.Generator,
) -> Mutated:
    """Change each hyper-parameter of each agent with probability `mutation_rate`, independently.

    Args:
        values: (M,) float64 of each name.
        genes: Those that may change; every other one stays.
        mutation_rate: See `Rule`.
        change: See `Rule`.
        generator: Draws for all of them, whether they change or not.
    """
    agents = len(next(iter(values.values())))
    draws = torch.rand(len(genes), 3, agents, generator=generator, dtype=torch.float64)
    mutated, clamped = dict(values), {}
    for (name, gene), (changes, direction, share) in zip(genes.items(), draws, strict=True):
        low, high = DISCOUNT_CHANGE if gene.kind == "complement" else change
        factor, up, old = low + (high - low) * share, direction < _COIN, values[name]
        if gene.kind == "step":
            new = old + torch.where(up, 1.0, -1.0)
        elif gene.kind == "complement":  # 1 - x <- (1 - x) x or / U(1.1, 1.2)
            new = 1 - torch.where(up, (1 - old) * factor, (1 - old) / factor)
        else:
            new = torch.where(up, old * factor, old / factor)
        new = torch.where(changes < mutation_rate, new, old)
        mutated[name] = new.clamp(gene.low, gene.high)
        clamped[name] = mutated[name] != new
    return Mutated(mutated, clamped)
