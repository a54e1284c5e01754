"""The genes of every generation, for a map of them.

Shape legend: G generations and the population before the first, K agents, Z gene entries.
"""

import os
from collections.abc import Sequence
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
        rows: (G + 1, K, Z) of a checkpoint of old, which held them.
    """

    def __init__(self, rows: Tensor | None = None) -> None:
        self._rows: list[Tensor] = [] if rows is None else list(rows.unbind())

    def resume(self, paths: Sequence[Path], generations: int) -> None:
        """A run begins, or goes on after so many: its file, the first of `paths`, holds them and no others.

        Args:
            paths: Where they may be: in the run's own folder first.
            generations: How many there were.
        """
        most = [_read(path)[: generations + 1] if generations else [] for path in paths]
        self._rows = max([self._rows, *most], key=len)
        if self._rows or paths[0].exists():
            self.write(paths[0])

    def begin(self, genome: Genome, generation: int) -> None:
        """Row 0: the population before any generation. NaN for so many that the run did not keep."""
        genes = _genes(genome)
        if genes is None:
            return
        if any(row.shape != genes.shape for row in self._rows):  # of another population
            self._rows = []
        if not self._rows and not generation:
            self._rows = [genes]
        self._rows += [torch.full_like(genes, torch.nan)] * (generation + 1 - len(self._rows))

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


def _read(path: Path) -> list[Tensor]:
    """(K, Z) each; nothing where the file holds something else."""
    try:
        rows = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return []
    return list(torch.from_numpy(rows).unbind()) if rows.dtype == np.float16 and rows.ndim == 3 else []


def _genes(genome: Genome) -> Tensor | None:
    """(K, Z) of what children mix; without what they take the mean of, such as log-stds."""
    parts = [part for name, part in genome.read().items() if name not in genome.averaged]
    genes = torch.cat([part.flatten(1) for part in parts], dim=1)
    return genes.half() if genes.shape[1] <= _MOST else None
