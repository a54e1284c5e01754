"""The cross-entropy method on the parameters of a network, as CEM-RL has it (arXiv 1810.01222); pure functions.

Shape legend: D parameters, P members, M parents.

Members are drawn from a Gaussian with a diagonal covariance; the best of them move it, by weights of their ranks alone.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from epo_lightning.algorithm.genetics import rank
from epo_lightning.limits import Mistake, require_range


@dataclass(frozen=True)
class CEMSettings:
    """How members are drawn, and how the best of them move the distribution.

    Args:
        gradient_members: So many members of each generation learn by gradient before they are measured; the others are
            measured as they were drawn.
        parents: M, best members that make the next distribution.
        variance_init: Variance of every parameter at first. A variance, not a standard deviation.
        damping_init: Added to every variance in each generation, so that it does not collapse: at first.
        damping_limit: In the end.
        damping_decay: Share of it that stays from generation to generation; the rest is the limit's.
        antithetic: Draw in pairs, one as far to one side of the mean as the other to the other side.
        divide_by_parents: Divide the parents' covariance by their number, though its weights sum up to 1, as the
            released code does; false is the paper's formula, whose members spread sqrt(M) as wide.
    """

    gradient_members: int = 5
    parents: int = 5
    variance_init: float = 1e-3
    damping_init: float = 1e-3
    damping_limit: float = 1e-5
    damping_decay: float = 0.95
    antithetic: bool = True
    divide_by_parents: bool = True

    def __post_init__(self) -> None:
        key = "model.evolution"
        require_range(f"{key}.gradient_members", self.gradient_members, 0)
        require_range(f"{key}.parents", self.parents, 1)
        require_range(f"{key}.variance_init", self.variance_init, 0, open_low=True)
        require_range(f"{key}.damping_init", self.damping_init, 0)
        require_range(f"{key}.damping_limit", self.damping_limit, 0)
        require_range(f"{key}.damping_decay", self.damping_decay, 0, 1)

    def require_members(self, members: int) -> None:
        """Refuse so many members, if they cannot be drawn or chosen from.

        Raises:
            Mistake: Naming the key and the remedy.
        """
        told = f"of {members} members: model.num_agents less the mean"
        require_range(f"model.evolution.parents ({told})", self.parents, high=members)
        require_range(f"model.evolution.gradient_members ({told})", self.gradient_members, high=members)
        if self.antithetic and members % 2:
            raise Mistake(
                f"model.num_agents {members + 1}: the mean has {members} members beside it, which cannot be drawn in"
                f" pairs (model.evolution.antithetic): use {members} or {members + 2}, or antithetic false"
            )


class Distribution(NamedTuple):
    """A Gaussian over the parameters, and what is added to its variance next.

    Attributes:
        mean: (D,) mu.
        variance: (D,) the diagonal of the covariance.
        damping: () eps.
    """

    mean: Tensor
    variance: Tensor
    damping: Tensor


def parent_weights(parents: int) -> Tensor:
    """(M,) float64 weights of the parents, the best first: ln((M + 1) / i) for i = 1 .. M, with the sum 1."""
    weights = torch.log((parents + 1) / torch.arange(1, parents + 1, dtype=torch.float64))
    return weights / weights.sum()


def draw(mean: Tensor, variance: Tensor, members: int, antithetic: bool, generator: torch.Generator) -> Tensor:
    """(P, D) members mu + sqrt(variance) z, with standard normal z.

    Args:
        mean: (D,) mu.
        variance: (D,).
        members: P; even if they are `antithetic`.
        antithetic: The second half of them has the z of the first half, negated.
        generator: Of the CPU, so that every rank and every device draws the same.
    """
    noise = torch.randn(members // 2 if antithetic else members, len(mean), generator=generator).to(mean.device)
    noise = torch.cat([noise, -noise]) if antithetic else noise
    return torch.addcmul(mean, variance.sqrt(), noise)


def update(
    before: Distribution, members: Tensor, fitness: Tensor, settings: CEMSettings
) -> tuple[Distribution, Tensor]:
    """The distribution that the best members make.

    mu <- sum_i w_i x_(i);  variance <- 1/M sum_i w_i (x_(i) - mu_old)^2 + eps, the 1/M only with `divide_by_parents`;
    eps <- decay eps + (1 - decay) eps_limit, before it is added.

    Args:
        before: From which the members were drawn.
        members: (P, D), after those that learn by gradient have learnt.
        fitness: (P,) the larger the better.
        settings: See `CEMSettings`.

    Returns:
        The new distribution, and the (M,) places of the parents, the best first.
    """
    parents = rank(fitness)[: settings.parents]
    weights = parent_weights(settings.parents).to(members)
    chosen = members[parents.to(members.device)]
    damping = settings.damping_decay * before.damping + (1 - settings.damping_decay) * settings.damping_limit
    spread = weights @ (chosen - before.mean).square()
    if settings.divide_by_parents:
        spread = spread / settings.parents
    return Distribution(weights @ chosen, spread + damping.to(spread), damping), parents
