"""Where callbacks write: the run folder, which is the trainer's `default_root_dir`."""

from pathlib import Path

import lightning as L

from epo_lightning.run.folder import writing


def run_file(trainer: L.Trainer, *parts: str) -> Path:
    """Path of a file in the run folder, whose folder exists."""
    path = Path(trainer.default_root_dir, *parts)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    return path
