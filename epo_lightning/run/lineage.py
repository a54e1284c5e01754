"""The generations of a run, whoever makes them: `lineage.jsonl` has a line for each, a checkpoint their number."""

import contextlib
import json
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.utilities import rank_zero_info

from epo_lightning.modules.base import PopulationCallback
from epo_lightning.run.folder import RunFolder, part_of, writing


def run_folders(trainer: L.Trainer) -> list[RunFolder]:
    """The run's own folder, and that of the checkpoint from which it goes on, where that is another one."""
    own = RunFolder(Path(trainer.default_root_dir))
    before = RunFolder.of_checkpoint(Path(trainer.ckpt_path)) if trainer.ckpt_path else None
    return [own] if before is None or own.same_as(before) else [own, before]


class Lineage:
    """The lines of `lineage.jsonl`, which belong to the run's folder and not to its checkpoints.

    A run that goes on keeps the lines up to its checkpoint; in a new folder it copies them from the checkpoint's.

    Attributes:
        count: Generations so far, on every rank.
        records: What is known of them here: on the first rank what the file holds, on others those since the run began.
    """

    def __init__(self) -> None:
        self.count = 0
        self.records: list[dict[str, Any]] = []

    def begin(self, trainer: L.Trainer) -> None:
        """The run begins or goes on: the file holds the generations until now, and no others."""
        folders = run_folders(trainer)
        path = folders[0].lineage
        if not trainer.is_global_zero or not (self.count or path.exists()):
            return
        self.records = max([*(_up_to(folder.lineage, self.count) for folder in folders), self.records], key=len)
        if missing := self.count - len(self.records):
            line = (
                f"{missing} of the {self.count} generations of this run are not there: they were in the folder of its"
            )
            rank_zero_info(f"{path}: {line} checkpoint")
        temporary = part_of(path)
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_text("".join(map(_line, self.records)))
            temporary.replace(path)

    def add(self, trainer: L.Trainer, record: dict[str, Any]) -> None:
        """One generation more; its number is `count + 1`."""
        self.count += 1
        self.records.append(record)
        if trainer.is_global_zero:
            path = RunFolder(Path(trainer.default_root_dir)).lineage
            with writing(path):
                path.parent.mkdir(parents=True, exist_ok=True)
                with path.open("a") as file:
                    file.write(_line(record))

    def state_dict(self) -> dict[str, Any]:
        """Their number alone, so that a checkpoint does not grow with them."""
        return {"generations": self.count}

    def load_state_dict(self, state: dict[str, Any], before: str = "lineage") -> None:
        """Continue from `state`, or from that of a checkpoint of old, which held all of them under the key `before`."""
        self.records = list(state.get(before, []))
        self.count = int(state.get("generations", len(self.records)))


def _line(record: dict[str, Any]) -> str:
    return json.dumps(record) + "\n"


def _up_to(path: Path, count: int) -> list[dict[str, Any]]:
    """The first `count` generations, as far as the file tells of them; of what is no such line, nothing."""
    if not path.exists():
        return []
    with writing(path):
        text = path.read_text(errors="replace")
    records: list[dict[str, Any]] = []
    last = 0
    for line in text.splitlines():
        with contextlib.suppress(ValueError, TypeError, KeyError):
            record = json.loads(line)
            number = record["generation"]
            if isinstance(number, int) and last < number <= count:
                records.append(record)
                last = number
    return records


class OwnLineage(PopulationCallback):
    """Writes the generations of an algorithm that makes them by itself; of others it does nothing."""

    def __init__(self) -> None:
        self.lineage = Lineage()

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """A resumed run goes on from the generations of its checkpoint."""
        if self.module.makes_generations:
            self.lineage.begin(trainer)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """The generation of this iteration."""
        record = self.module.generation
        if record is not None and record["generation"] > self.lineage.count:
            self.lineage.add(trainer, record)

    def state_dict(self) -> dict[str, Any]:
        """How many there are, if there are any."""
        return self.lineage.state_dict() if self.lineage.count else {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from `state_dict`."""
        self.lineage.load_state_dict(state_dict, before="records")
