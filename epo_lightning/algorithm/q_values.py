"""What critics say of an action's return: a number, or a distribution over fixed atoms (C51, arXiv 1707.06887).

Shape legend: C critics, B samples, M atoms.

Both kinds answer the same questions, so that losses need not know which one they have.
"""

from typing import NamedTuple

import torch
from torch import Tensor


class ScalarValues(NamedTuple):
    """Expected returns: `values` (C, B)."""

    values: Tensor

    def mean(self) -> Tensor:
        """(C, B) expected returns."""
        return self.values

    def smallest(self) -> "ScalarValues":
        """Of each sample the smallest, in the place of all critics: (1, B)."""
        return ScalarValues(self.values.amin(0, keepdim=True))

    def targets(self, rewards: Tensor, discount: Tensor, bonus: Tensor) -> Tensor:
        """(C, B) r + discount (Q' + bonus), of these values Q' of the following state.

        Args:
            rewards: (B,) r.
            discount: (B,) gamma, and 0 where nothing follows.
            bonus: (B,) what the following state is worth on top of its return.
        """
        return rewards + discount * (self.values + bonus)

    def loss(self, targets: Tensor) -> Tensor:
        """() mean squared error to `targets` (C or 1, B), summed over the critics."""
        return (self.values - targets).square().mean(-1).sum()


class CategoricalValues(NamedTuple):
    """Distributions of the return: `logits` (C, B, M) over the evenly spaced `atoms` (M,)."""

    logits: Tensor
    atoms: Tensor

    def mean(self) -> Tensor:
        """(C, B) expected returns."""
        return self.logits.softmax(-1) @ self.atoms

    def smallest(self) -> "CategoricalValues":
        """Of each sample the distribution with the smallest mean, in the place of all critics: (1, B, M)."""
        critic = self.mean().argmin(0, keepdim=True)[..., None].expand(1, -1, self.logits.shape[-1])
        return CategoricalValues(self.logits.gather(0, critic), self.atoms)

    def targets(self, rewards: Tensor, discount: Tensor, bonus: Tensor) -> Tensor:
        """(C, B, M) probabilities of r + discount (Z' + bonus), of these distributions of Z' in the following state.

        The arguments are those of `ScalarValues.targets`.
        """
        moved = rewards[:, None] + discount[:, None] * (self.atoms + bonus[:, None])
        return project(self.logits.softmax(-1), moved, self.atoms)

    def loss(self, targets: Tensor) -> Tensor:
        """() mean cross-entropy to the probabilities `targets` (C or 1, B, M), summed over the critics."""
        return -(targets * self.logits.log_softmax(-1)).sum(-1).mean(-1).sum()


QValues = ScalarValues | CategoricalValues


def project(probabilities: Tensor, moved: Tensor, atoms: Tensor) -> Tensor:
    """Divide probability that has moved between the atoms among its two neighbours; the mean stays.

    What has moved beyond the ends stays on the last atom.

    Args:
        probabilities: (C, B, M).
        moved: (B, M) where they lie now, the same for all critics.
        atoms: (M,) evenly spaced.

    Returns:
        (C, B, M) probabilities of the atoms.
    """
    last = len(atoms) - 1
    place = (moved.clamp(atoms[0], atoms[-1]) - atoms[0]) / (atoms[-1] - atoms[0]) * last
    # NaN must stay NaN, but is no index: on a GPU that would end the process instead of the training
    lower = place.nan_to_num(0.0).long().clamp(max=last)
    upper = (lower + 1).clamp(max=last)
    to_upper = probabilities * (place - lower)
    projected = torch.zeros_like(probabilities)
    projected.scatter_add_(-1, lower.expand_as(probabilities), probabilities - to_upper)
    return projected.scatter_add_(-1, upper.expand_as(probabilities), to_upper)
