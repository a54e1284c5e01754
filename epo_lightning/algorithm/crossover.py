"""Crossover: how a child's genes come from those of its two parents (EPO section 4.1).

Shape legend: M children, Z gene entries of one agent.

An operator of one's own is a subclass of `Crossover`, given to `GeneticEvolution` by its `class_path`. What it refuses,
`check` refuses, which is asked before the first iteration: of its constructor the command line would not tell the line.
"""

from abc import ABC, abstractmethod
from typing import Literal

import torch
from torch import Tensor

from epo_lightning.limits import Mistake, require_range

_KEY = "trainer.callbacks GeneticEvolution.crossover"
CrossoverName = Literal["average", "uniform", "k_point"]


class Crossover(ABC):
    """Makes children of parents."""

    def check(self, gene_dim: int) -> None:  # noqa: B027  (most operators take any)
        """Refuse genes of `gene_dim` (Z) entries where this operator cannot cross them.

        Raises:
            Mistake: One line that names the YAML key of the operator's setting.
        """

    @abstractmethod
    def __call__(self, first: Tensor, second: Tensor, generator: torch.Generator) -> Tensor:
        """Children (M, Z).

        Args:
            first: (M, Z) genes of the elite parents.
            second: (M, Z) genes of the other parents.
            generator: The only source of randomness, so that one rank can decide for all.
        """


class Average(Crossover):
    """The mean of the parents."""

    def __call__(self, first: Tensor, second: Tensor, generator: torch.Generator) -> Tensor:
        """0.5 (first + second)."""
        return 0.5 * (first + second)


class Uniform(Crossover):
    """Each entry from a random parent."""

    def __call__(self, first: Tensor, second: Tensor, generator: torch.Generator) -> Tensor:
        """A fair coin for every entry."""
        mask = torch.rand(first.shape, generator=generator, device=first.device) < 0.5
        return torch.where(mask, first, second)


class KPoint(Crossover):
    """Alternates between the parents at random places, and begins with the elite.

    Args:
        points: How many places, fewer than Z.
    """

    key = f"{_KEY} KPoint.points"

    def __init__(self, points: int = 2) -> None:
        self.points = points

    def check(self, gene_dim: int) -> None:
        """At least one point, and more entries than points."""
        require_range(self.key, self.points, 1)
        if self.points >= gene_dim:
            raise Mistake(f"{self.key} must be less than model.network.gene_dim {gene_dim}, got {self.points}")

    def __call__(self, first: Tensor, second: Tensor, generator: torch.Generator) -> Tensor:
        """Distinct cuts among the Z - 1 places between two entries; their running count says whose turn it is."""
        rows, width = first.shape
        places = torch.rand(rows, width - 1, generator=generator, device=first.device).argsort(-1)
        cuts = (places < self.points).long().cumsum(-1)
        turn = torch.cat([cuts.new_zeros(rows, 1), cuts], dim=-1)
        return torch.where(turn % 2 == 0, first, second)


def by_name(name: CrossoverName, points: int) -> Crossover:
    """The operator that `GeneticEvolution.crossover` names; `points` is `GeneticEvolution.crossover_points`."""
    if name == "k_point":
        operator = KPoint(points)
        operator.key = f"{_KEY}_points"
        return operator
    return Average() if name == "average" else Uniform()
