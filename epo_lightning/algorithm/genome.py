"""The genome: what distinguishes the agents of a population, behind one way in.

Shape legend: K agents, M agents that are written.

Today it is the latent genes and the log-stds of one shared network; the parameters of K networks side by side, or a
table of their hyper-parameters, are one in the same way: tensors by name, with one row per agent.
"""

from collections.abc import Collection, Mapping

import torch
from torch import Tensor


class Genome:
    """Named tensors (K, ...), of which row k makes agent k what it is.

    Args:
        parts: The tensors themselves, of any shape behind K, on one device. They are written in place, so that
            parameters stay the ones that are trained.
        optimizer: What trains them, if something does: it keeps something of every row.
        averaged: Names of parts that a child takes as the mean of its parents', without mutation.
    """

    def __init__(
        self,
        parts: Mapping[str, Tensor],
        optimizer: torch.optim.Optimizer | None = None,
        averaged: Collection[str] = (),
    ) -> None:
        self.parts, self.optimizer, self.averaged = dict(parts), optimizer, frozenset(averaged)

    def read(self) -> dict[str, Tensor]:
        """(K, ...) of each name: copies on the CPU, which do not change when training goes on."""
        return {name: part.detach().to("cpu", copy=True) for name, part in self.parts.items()}

    @torch.no_grad()
    def write(self, agents: Tensor, values: Mapping[str, Tensor]) -> None:
        """Make `agents` (M,) what `values`, (M, ...) of each name, say; from whatever device."""
        for name, part in self.parts.items():
            part[agents.to(part.device)] = values[name].to(part.device)

    @torch.no_grad()
    def forget(self, agents: Tensor) -> None:
        """Zero what the optimizer keeps of the rows of `agents` (M,), such as Adam's two moments."""
        if self.optimizer is None:
            return
        for part in self.parts.values():
            for kept in self.optimizer.state.get(part, {}).values():
                if isinstance(kept, Tensor) and kept.shape == part.shape:
                    kept[agents.to(part.device)] = 0.0
