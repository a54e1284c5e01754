"""Checkpoints: when they are written, how they get to disk, and how they are read."""

import contextlib
import math
import os
import shutil
import time
import warnings
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch.callbacks import Checkpoint

from epo_lightning.limits import require_range
from epo_lightning.run_folder import RunFolder
from epo_lightning.ties import exceeds

MONITOR = "charts/episodic_return"
CONFIG_KEY = "epo_config"
"""Where a checkpoint keeps the configuration of its run, as YAML."""


class AtomicCheckpointIO(TorchCheckpointIO):
    """A checkpoint is either the old file or the whole new one, whatever happens in between; tensors only."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Write beside `path`, force to disk, then rename."""
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name}.part")
        try:
            with temporary.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)

    def load_checkpoint(self, path: Any, map_location: Any = "cpu", weights_only: bool | None = None) -> dict[str, Any]:
        """Read `path`; never runs code from it."""
        return read_checkpoint(Path(path))


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The contents of a checkpoint of this project, on the CPU.

    Raises:
        ValueError: When the file is not one, or not a whole one.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickle protocols; the error says enough
            checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises half a dozen types for broken files
        raise ValueError(
            f"ckpt_path: {path} cannot be read: it is truncated or not a checkpoint ({type(error).__name__})"
        ) from error
    if not (isinstance(checkpoint, dict) and CONFIG_KEY in checkpoint):
        raise ValueError(f"ckpt_path: {path} is not a checkpoint of epo_lightning's command line")
    return checkpoint


class RunCheckpoints(Checkpoint):
    """Keeps `last.ckpt` and `best.ckpt` in the run folder, at ends of iterations only.

    `best` is the checkpoint with the highest `charts/episodic_return`, the master's mean return while it explores.

    Args:
        every_n_iterations: Save after every so many iterations; null saves as often as `max_share` allows.
        max_share: Share of the training time that saving may take when `every_n_iterations` is null.
    """

    def __init__(self, every_n_iterations: int | None = None, max_share: float = 0.02) -> None:
        require_range("checkpoint.max_share", max_share, 0, 1)
        if every_n_iterations is not None:
            require_range("checkpoint.every_n_iterations", every_n_iterations, 1)
        self.every_n_iterations = every_n_iterations
        self.max_share = max_share
        self.best_score = -math.inf
        self.saved_iteration: int | None = None
        self._started = 0.0
        self._seconds = self._longest = 0.0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """A run that goes on in another folder has no best checkpoint there yet."""
        self._started = time.monotonic()
        if not RunFolder(Path(trainer.default_root_dir)).best.exists():
            self.best_score = -math.inf

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Runs after every other callback and the module: the iteration is complete."""
        iteration = trainer.current_epoch + 1
        is_final = trainer.should_stop or iteration == trainer.max_epochs
        if is_final or trainer.strategy.broadcast(self._is_due(iteration)):
            self._save(trainer, iteration)

    def _is_due(self, iteration: int) -> bool:
        if self.every_n_iterations is not None:
            return iteration % self.every_n_iterations == 0
        return self._seconds + self._longest <= self.max_share * (time.monotonic() - self._started)

    def _save(self, trainer: L.Trainer, iteration: int) -> None:
        start = time.monotonic()
        folder = RunFolder(Path(trainer.default_root_dir))
        score = float(trainer.callback_metrics.get(MONITOR, -math.inf))
        is_best = exceeds(score, self.best_score)
        if is_best:
            self.best_score = score
        trainer.save_checkpoint(folder.last, weights_only=False)
        if is_best and trainer.is_global_zero:
            _link(folder.last, folder.best)
        self.saved_iteration = iteration
        took = time.monotonic() - start
        self._seconds, self._longest = self._seconds + took, max(self._longest, took)

    def state_dict(self) -> dict[str, Any]:
        """The score to beat."""
        return {"best_score": self.best_score}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue."""
        self.best_score = state_dict["best_score"]


def _link(source: Path, target: Path) -> None:
    """Give `source` a second name in one step; a copy where the file system has no links."""
    temporary = target.with_name(f".{target.name}.part")
    with contextlib.suppress(FileNotFoundError):
        temporary.unlink()
    try:
        os.link(source, temporary)
    except OSError:
        shutil.copyfile(source, temporary)
    os.replace(temporary, target)
