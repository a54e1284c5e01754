"""What makes a run folder and a checkpoint tell where they come from."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L

from epo_lightning.modules import contents
from epo_lightning.modules.base import PopulationCallback
from epo_lightning.run.folder import RunFolder, part_of, writing
from epo_lightning.run.method import method
from epo_lightning.run.metrics_table import MetricsTable
from epo_lightning.run.overrides import CALLBACKS, Change


class RunRecorder(PopulationCallback):
    """Writes `config.yaml`, puts the same into every checkpoint, and tells what a resumed run changes.

    It rewinds `metrics.csv` to where that run goes on.

    Nothing is written before everything is built and restored, so that a mistake leaves no trace.

    Args:
        config: The resolved configuration, as YAML.
        signature: The mark of it by which its user's own checkpoints are known again, or None (see `signature`).
        changes: In what it differs from that of the checkpoint from which the run goes on.
    """

    def __init__(self, config: str, signature: str | None = None, changes: Sequence[Change] = ()) -> None:
        self.config, self.signature, self.changes = config, signature, changes

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """All ranks learn the folder of the first."""
        super().setup(trainer, pl_module, stage)
        folder = trainer.strategy.broadcast(trainer.default_root_dir)
        trainer._default_root_dir = folder  # type: ignore[attr-defined]

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Take possession of the folder and say what runs."""
        module, data = self.module, self.module.data
        if any(change.key == CALLBACKS for change in self.changes):
            module.dataset.open_window()  # a callback that is new measures from here on
        if not trainer.is_global_zero:
            return
        folder = RunFolder(Path(trainer.default_root_dir))
        if trainer.ckpt_path is None:
            folder.forget_unsaved()
        temporary = part_of(folder.config)
        with writing(folder.config):
            temporary.write_text(self.config)
            os.replace(temporary, folder.config)
        for logger in trainer.loggers:
            if isinstance(logger, MetricsTable):
                logger.rewind(module.env_steps)
        for change in self.changes:
            print(f"Changed on resume: {change}")
        ranks = trainer.world_size
        print(method(type(module), module.num_agents, trainer.callbacks))  # type: ignore[attr-defined]
        print(
            f"{data.spec.name}: {ranks} rank(s) x {data.num_envs} envs = {ranks * data.num_envs} envs,"
            f" {module.num_agents} agent(s), device {trainer.strategy.root_device.type}, run folder {folder.path}",
            flush=True,
        )

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """A checkpoint alone is enough to go on."""
        checkpoint[contents.CONFIG] = self.config
        if self.signature is not None:
            checkpoint[contents.SIGNATURE] = self.signature
