"""The mirror image of a task: how observations and actions look when left and right are exchanged.

Shape legend: F entries of a vector, O observation entries, A action entries.

Of a mirror image every entry is an entry of the original, with its sign kept or turned. What is mirrored twice is the
original.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class SignedPermutation:
    """Entry i of the image is sign i times entry order i of the original.

    Args:
        order: (F,) int64, each of 0 .. F - 1 once.
        signs: (F,) float32, 1 or -1.
    """

    order: Tensor
    signs: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """The image of x (..., F)."""
        return x.index_select(-1, self.order) * self.signs

    def to(self, device: torch.device) -> "SignedPermutation":
        """The same on `device`."""
        return SignedPermutation(self.order.to(device), self.signs.to(device))


@dataclass(frozen=True, eq=False)
class Symmetry:
    """The mirror image of a task whose dynamics, reward and starts do not change when it is mirrored.

    Args:
        obs: Of observations, O entries.
        actions: Of actions, A entries; of a discrete task, entry i of the order is the choice that takes the place of
            choice i, and all signs are 1.
    """

    obs: SignedPermutation
    actions: SignedPermutation

    def to(self, device: torch.device) -> "Symmetry":
        """The same on `device`."""
        return Symmetry(self.obs.to(device), self.actions.to(device))


def joined(parts: Sequence[SignedPermutation]) -> SignedPermutation:
    """That of vectors put one behind the other."""
    begins = [0]
    for part in parts:
        begins.append(begins[-1] + len(part.order))
    orders = [part.order + begin for part, begin in zip(parts, begins, strict=False)]
    return SignedPermutation(torch.cat(orders), torch.cat([part.signs for part in parts]))


def signs(values: Sequence[float]) -> SignedPermutation:
    """Entries that stay where they are, with `values` for signs."""
    return SignedPermutation(torch.arange(len(values)), torch.tensor(values, dtype=torch.float32))
