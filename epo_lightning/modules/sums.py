"""What an iteration's minibatches add up to, on the device: nothing of it reaches the host before the iteration ends.

Shape legend: D diagnostics of the loss.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class MinibatchSums(nn.Module):
    """Running sums over the minibatches of one iteration.

    Args:
        names: D names of the loss's diagnostics, in the order in which it has them.

    Attributes:
        diagnostics: (D,) sums of the diagnostics.
        total: () sum of the losses.
        grad_norm: () sum of the norms of the gradients, before they were clipped.
    """

    diagnostics: Tensor
    total: Tensor
    grad_norm: Tensor

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__()
        self.names = tuple(names)
        self.register_buffer("diagnostics", torch.zeros(len(names)), persistent=False)
        self.register_buffer("total", torch.zeros(()), persistent=False)
        self.register_buffer("grad_norm", torch.zeros(()), persistent=False)

    def __getitem__(self, name: str) -> Tensor:
        """() the sum of one diagnostic so far."""
        return self.diagnostics[self.names.index(name)]

    def reset(self) -> None:
        """A new iteration."""
        for buffer in self.buffers():
            buffer.zero_()

    def means(self, minibatches: float) -> dict[str, Tensor]:
        """The mean of everything over so many minibatches, by name."""
        named = dict(zip(self.names, self.diagnostics.unbind(), strict=True))
        return {name: value / minibatches for name, value in named.items()} | {
            "total": self.total / minibatches,
            "grad_norm": self.grad_norm / minibatches,
        }
