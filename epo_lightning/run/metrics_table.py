"""`metrics.csv`: one row per iteration, nothing else to install and no account."""

import csv
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor

from epo_lightning.run.columns import FIRST, ITERATION, MOMENT, STEP, place, told
from epo_lightning.run.folder import part_of, writing
from epo_lightning.run.history import now


class MetricsTable(Logger):
    """A CSV file that grows with its metrics.

    A row is what the module tells at the end of an iteration (`charts/iteration` is in it), with everything that others
    have logged since the row before; so a run that resumes writes the same rows as one that was never killed. A row is
    complete on disk when `log_metrics` returns. Lightning's own CSV logger writes in the background of many steps and
    starts a file anew on resume.

    Args:
        path: The file.
        clock: Tells the moment, as a text.
    """

    def __init__(self, path: Path, clock: Callable[[], str] = now) -> None:
        super().__init__()
        self.path, self.clock = path, clock
        self.columns: list[str] | None = None
        self._waiting: dict[str, Any] = {}

    @property
    def name(self) -> str:
        """The name by which Lightning tells loggers apart."""
        return "metrics"

    @property
    def version(self) -> str:
        """None: a run folder has one table."""
        return ""

    @property
    def save_dir(self) -> str:
        """The run folder."""
        return str(self.path.parent)

    def log_hyperparams(self, params: object, *args: Any, **kwargs: Any) -> None:
        """They are in `run.json`."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, Any], step: int | None = None) -> None:
        """Append a row at the end of an iteration, keep everything else for it; new columns rewrite the file."""
        self._waiting |= metrics
        if ITERATION in metrics:
            row = {**self._waiting, STEP: step, MOMENT: self.clock()}
            self._waiting = {}
            self._append({name: _plain(value) for name, value in row.items()})

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """What came after the last row of a training that ended well becomes part of it."""
        late, self._waiting = {name: _plain(value) for name, value in self._waiting.items()}, {}
        columns, rows = self._read() if late and status == "success" else ([], [])
        if rows and _is_complete(rows[-1]):
            self._write({*columns, *late}, [*rows[:-1], {**rows[-1], **late}])

    @rank_zero_only
    def rewind(self, env_steps: int) -> None:
        """Drop the rows after `env_steps`: a run that resumes from a checkpoint writes them again."""
        self.columns, rows = self._read()
        kept = [row for row in rows if _is_complete(row) and int(row[STEP]) <= env_steps]
        if len(kept) < len(rows):
            self._write(set(self.columns), kept)

    def rows(self) -> list[dict[str, str]]:
        """Those that were written to their end."""
        return [row for row in self._read()[1] if _is_complete(row)]

    def _append(self, row: dict[str, str]) -> None:
        if self.columns is None:
            self.columns = self._read()[0]
        if not row.keys() <= {*self.columns}:
            _, rows = self._read()
            self._write({*FIRST, *self.columns, *row}, [*rows, row])
            return
        with writing(self.path):
            self.path.stat()  # a file that was deleted does not begin again in the middle
            with self.path.open("a", newline="") as file:
                csv.DictWriter(file, self.columns).writerow(row)

    def _read(self) -> tuple[list[str], list[dict[str, Any]]]:
        if not self.path.exists():
            return [], []
        with self.path.open(newline="") as file:
            reader = csv.DictReader(file)
            rows = list(reader)
            return list(reader.fieldnames or []), rows

    def _write(self, columns: set[str], rows: list[dict[str, Any]]) -> None:
        """Replace the file in one step, with the columns in their order."""
        self.columns = sorted(columns, key=place)
        temporary = part_of(self.path)
        with writing(self.path):
            with temporary.open("w", newline="") as file:
                writer = csv.DictWriter(file, self.columns)
                writer.writeheader()
                writer.writerows(rows)
            os.replace(temporary, self.path)


def _plain(value: object) -> str:
    """As the table has it; a tensor of one number is one."""
    return told(value.item() if isinstance(value, Tensor) and value.numel() == 1 else value)


def _is_complete(row: dict[str, Any]) -> bool:
    """Whether a row was written to its end."""
    return None not in row.values() and None not in row and row[STEP].isdecimal()
