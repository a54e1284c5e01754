"""`lineage.jsonl`: one line per generation, whoever makes them."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L

from epo_lightning.modules.base import PopulationCallback
from epo_lightning.run.folder import RunFolder, writing


def write_generations(path: Path, records: Sequence[dict[str, Any]]) -> None:
    """Make `records` the whole file."""
    with writing(path):
        path.write_text("".join(json.dumps(record) + "\n" for record in records))


def add_generation(path: Path, record: dict[str, Any]) -> None:
    """One line more."""
    with writing(path), path.open("a") as file:
        file.write(json.dumps(record) + "\n")


class OwnLineage(PopulationCallback):
    """Writes the generations of an algorithm that makes them by itself; of others it does nothing.

    Attributes:
        records: Of all generations.
    """

    def __init__(self) -> None:
        self.records: list[dict[str, Any]] = []

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """A resumed run writes them up to its checkpoint anew, so that no generation is there twice."""
        path = self._path(trainer)
        if trainer.is_global_zero and self.module.makes_generations and (self.records or path.exists()):
            write_generations(path, self.records)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """The generation of this iteration."""
        record = self.module.generation
        if record is not None and record not in self.records[-1:]:
            self.records.append(record)
            if trainer.is_global_zero:
                add_generation(self._path(trainer), record)

    def _path(self, trainer: L.Trainer) -> Path:
        return RunFolder(Path(trainer.default_root_dir)).lineage

    def state_dict(self) -> dict[str, Any]:
        """The generations, if there are any."""
        return {"records": self.records} if self.records else {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from `state_dict`."""
        self.records = list(state_dict["records"])
