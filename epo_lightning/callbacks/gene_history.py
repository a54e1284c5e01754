"""The genes of every generation, for a map of them.

Shape legend: G generations and the population before the first, K agents, Z gene entries.
"""

import os
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from epo_lightning.algorithm.genome import Genome
from epo_lightning.run.folder import part_of, writing

_MOST = 512
"""Of a genome of more entries, such as whole networks, no history is kept."""


class GeneHistory:
    """What the followers and the master were at the beginning of each generation, in half precision.

    Args:
        state: What `state()` gave, to go on from.
    """

    def __init__(self, state: Tensor | None = None) -> None:
        self._rows: list[Tensor] = [] if state is None else list(state.unbind())

    def begin(self, genome: Genome, generation: int) -> None:
        """Row 0: the population before any generation. NaN for so many that the run did not keep."""
        genes = _genes(genome)
        if not self._rows and genes is not None:
            self._rows = [torch.full_like(genes, torch.nan)] * (generation + 1) if generation else [genes]

    def add(self, genome: Genome) -> None:
        """A generation that begins: elites as they are, children as they were born."""
        genes = _genes(genome)
        if genes is not None:
            self._rows.append(genes)

    def write(self, path: Path) -> None:
        """The file with (G + 1, K, Z) float16, as a whole; none where there is no history."""
        if not self._rows:
            with writing(path):
                path.unlink(missing_ok=True)
            return
        temporary = part_of(path)
        with writing(path):
            with temporary.open("wb") as file:
                np.save(file, torch.stack(self._rows).numpy(), allow_pickle=False)
            os.replace(temporary, path)

    def state(self) -> Tensor | None:
        """(G + 1, K, Z); None where there is no history."""
        return torch.stack(self._rows) if self._rows else None


def _genes(genome: Genome) -> Tensor | None:
    """(K, Z) of what children mix; without what they take the mean of, such as log-stds."""
    parts = [part for name, part in genome.read().items() if name not in genome.averaged]
    genes = torch.cat([part.flatten(1) for part in parts], dim=1)
    return genes.half() if genes.shape[1] <= _MOST else None
