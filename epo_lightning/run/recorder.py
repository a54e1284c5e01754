"""What makes a run folder and a checkpoint tell where they come from."""

import os
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning as L
import yaml

from epo_lightning.learner.observations import described
from epo_lightning.modules import contents
from epo_lightning.modules.base import PopulationCallback
from epo_lightning.run.beginning import BeginsWith
from epo_lightning.run.columns import SECONDS
from epo_lightning.run.facts import facts
from epo_lightning.run.folder import RunFolder, part_of, writing
from epo_lightning.run.history import History, now
from epo_lightning.run.known_run import ids, introduce, settings_of
from epo_lightning.run.logger_ids import loggers_of
from epo_lightning.run.method import method
from epo_lightning.run.metrics_table import MetricsTable
from epo_lightning.run.overrides import CALLBACKS, Change
from epo_lightning.run.record import read_record, write_record
from epo_lightning.run.secrets import without_secrets


class RunRecorder(PopulationCallback):
    """Writes `config.yaml` and `run.json`, puts the same into every checkpoint, and tells what a resumed run changes.

    It tells every logger what the run is, and rewinds `metrics.csv` to where that run goes on.

    Nothing is written before everything is built and restored, so that a mistake leaves no trace.

    Args:
        config: The resolved configuration, as YAML.
        signature: The mark of it by which its user's own checkpoints are known again, or None (see `signature`).
        changes: In what it differs from that of the checkpoint from which the run goes on.
        history: Of the run until now.
        command: The command line as the user gave it.
    """

    def __init__(
        self,
        config: str,
        signature: str | None = None,
        changes: Sequence[Change] = (),
        history: History = History(),  # noqa: B008  (frozen)
        command: Sequence[str] = (),
    ) -> None:
        self.config, self.signature, self.changes = config, signature, changes
        self.history, self.command = history, command
        self._started: float | None = None
        self._ended: float | None = None

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """All ranks learn the folder of the first."""
        super().setup(trainer, pl_module, stage)
        folder = trainer.strategy.broadcast(trainer.default_root_dir)
        trainer._default_root_dir = folder  # type: ignore[attr-defined]

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Take possession of the folder and say what runs."""
        module, data = self.module, self.module.data
        self._started, self._ended = time.monotonic(), None
        # what Lightning and its callbacks log every so many batches, they log once an iteration
        trainer.log_every_n_steps = trainer.num_training_batches  # type: ignore[attr-defined]
        if any(change.key == CALLBACKS for change in self.changes):
            module.dataset.open_window()  # a callback that is new measures from here on
        if not trainer.is_global_zero:
            return
        folder = RunFolder(Path(trainer.default_root_dir))
        self._tell_what_runs(trainer, folder)
        if trainer.ckpt_path is None:
            folder.forget_unsaved()
        folder.forget_summary()
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
        callbacks = trainer.callbacks  # type: ignore[attr-defined]
        print(method(type(module), module.num_agents, callbacks, module.coupled))
        observes = f"; observes {described(data.spec.groups)}" if data.spec.groups else ""
        print(
            f"{data.spec.name}: {ranks} rank(s) x {data.num_envs} envs = {ranks * data.num_envs} envs,"
            f" {module.num_agents} agent(s), device {trainer.strategy.root_device.type}, run folder {folder.path}"
            f"{observes}",
            flush=True,
        )

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """The wall clock of the run."""
        self.module.metrics[SECONDS] = self.seconds

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """What follows, such as a logger's last words, is no training."""
        self._ended = time.monotonic()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """As at the end."""
        self._ended = time.monotonic()

    @property
    def has_begun(self) -> bool:
        """Whether there was anything to train."""
        return self._started is not None

    @property
    def seconds(self) -> float:
        """How long the run has trained, over all continuations."""
        if self._started is None:
            return self.history.seconds
        return self.history.seconds + (self._ended or time.monotonic()) - self._started

    def _tell_what_runs(self, trainer: L.Trainer, folder: RunFolder) -> None:
        """To every logger, and in `run.json`."""
        config = yaml.safe_load(self.config)
        known = facts(trainer.strategy.root_device, trainer.world_size, self.command, config)
        lineage = self.history.as_dict()["lineage"]
        shown = without_secrets(config)
        loggers = [logger for logger in trainer.loggers if not isinstance(logger, MetricsTable)]
        introduce(loggers, {**settings_of(shown), **known, "run_dir": str(folder.path), "lineage": lineage})
        self.history = replace(self.history, loggers={**loggers_of(read_record(folder.record)), **ids(loggers)})
        changes = [{"key": change.key, "old": change.old, "new": change.new} for change in self.changes]
        callbacks = trainer.callbacks  # type: ignore[attr-defined]
        if trainer.ckpt_path is None and (begun := [each for each in callbacks if isinstance(each, BeginsWith)]):
            known["begins_with"] = begun[0].origin
        if chosen := self.module.dataset.env.chosen():
            known["physics"] = chosen
        known = {"started": now(), **known, "changes": without_secrets(changes)}
        write_record(folder.record, known, config=shown, lineage=lineage, loggers=self.history.loggers)

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """A checkpoint alone is enough to go on."""
        checkpoint[contents.CONFIG] = self.config
        checkpoint[contents.HISTORY] = replace(self.history, seconds=self.seconds).as_dict()
        if self.signature is not None:
            checkpoint[contents.SIGNATURE] = self.signature
