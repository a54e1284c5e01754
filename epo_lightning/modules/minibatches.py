"""What an iteration's minibatches tell of themselves, kept on the device: none of it reaches the host before it ends.

Shape legend: D diagnostics of the loss, U minibatches so far.
"""

from collections.abc import Sequence

import torch
from torch import Tensor


class MinibatchLog:
    """Losses, their diagnostics and the norms of their gradients.

    Args:
        names: D names of the loss's diagnostics, in the order in which it has them.

    Attributes:
        totals: U losses, ().
        diagnostics: U times the diagnostics, (D,).
        grad_norms: Norms of the gradients before they were clipped, (): one of each optimizer step.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self.reset()

    def reset(self) -> None:
        """A new iteration."""
        self.totals: list[Tensor] = []
        self.diagnostics: list[Tensor] = []
        self.grad_norms: list[Tensor] = []

    def add(self, total: Tensor, diagnostics: Tensor, grad_norm: Tensor) -> None:
        """Keep one minibatch's loss (), its diagnostics (D,) and the norm of its gradient ()."""
        self.totals.append(total.detach())
        self.diagnostics.append(diagnostics)
        self.grad_norms.append(grad_norm)

    def last(self, name: str, minibatches: int) -> Tensor:
        """() the mean of one diagnostic over the last so many minibatches."""
        return torch.stack(self.diagnostics[-minibatches:])[:, self.names.index(name)].mean()

    def means(self) -> dict[str, Tensor]:
        """() the mean of everything over the minibatches, by name; nothing where there was none."""
        if not self.totals:
            return {}
        named = dict(zip(self.names, torch.stack(self.diagnostics).mean(0).unbind(), strict=True))
        return {**named, "total": torch.stack(self.totals).mean(), "grad_norm": torch.stack(self.grad_norms).mean()}
