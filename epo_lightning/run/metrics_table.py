"""`metrics.csv`: one row per iteration, nothing else to install and no account."""

import csv
import os
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities import rank_zero_only

from epo_lightning.run.folder import part_of, writing

STEP_COLUMN = "charts/env_steps"


class MetricsTable(Logger):
    """A CSV file that grows with its metrics.

    Every row is complete on disk when `log_metrics` returns, so a killed run keeps all of them. Lightning's own CSV
    logger writes in the background of many steps and starts a file anew on resume.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.columns: list[str] | None = None

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
        """They are in `config.yaml`."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Append a row; the file is rewritten when it has new columns."""
        row: dict[str, Any] = {STEP_COLUMN: step, **metrics}
        if self.columns is None:
            self.columns = list(self._read()[0])
        new = [name for name in row if name not in self.columns]
        if new:
            _, rows = self._read()
            self.columns += new
            self._write([*rows, row])
            return
        with writing(self.path):
            self.path.stat()  # a file that was deleted does not begin again in the middle
            with self.path.open("a", newline="") as file:
                csv.DictWriter(file, self.columns).writerow(row)

    @rank_zero_only
    def rewind(self, env_steps: int) -> None:
        """Drop the rows after `env_steps`: a run that resumes from a checkpoint writes them again."""
        self.columns, rows = self._read()
        kept = [row for row in rows if _is_complete(row) and int(row[STEP_COLUMN]) <= env_steps]
        if len(kept) < len(rows):
            self._write(kept)

    def _read(self) -> tuple[list[str], list[dict[str, Any]]]:
        if not self.path.exists():
            return [], []
        with self.path.open(newline="") as file:
            reader = csv.DictReader(file)
            rows = list(reader)
            return list(reader.fieldnames or []), rows

    def _write(self, rows: list[dict[str, Any]]) -> None:
        """Replace the file in one step."""
        assert self.columns is not None
        temporary = part_of(self.path)
        with writing(self.path):
            with temporary.open("w", newline="") as file:
                writer = csv.DictWriter(file, self.columns)
                writer.writeheader()
                writer.writerows(rows)
            os.replace(temporary, self.path)


def _is_complete(row: dict[str, Any]) -> bool:
    """Whether a row was written to its end."""
    return None not in row.values() and None not in row and row[STEP_COLUMN].isdecimal()
