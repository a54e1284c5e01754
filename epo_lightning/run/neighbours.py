"""Callbacks that are not of this package: what they need to feel at home in a run."""

from pathlib import Path

import lightning as L
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint

from epo_lightning.documents.nearest import hint
from epo_lightning.modules.base import PopulationCallback


class Neighbours(PopulationCallback):
    """Lets those that follow a metric wait for its first value, and tells of one that nobody logs.

    Metrics of episodes begin when episodes have ended, so that the first iterations may have none. A number that a
    resumed run's configuration gives to `EarlyStopping` counts, not that of the checkpoint.
    """

    def __init__(self) -> None:
        self._patience: dict[EarlyStopping, int] = {}
        self._watches = True

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Before callbacks are restored."""
        super().setup(trainer, pl_module, stage)
        for callback in _of(trainer):
            if isinstance(callback, EarlyStopping):
                callback.strict = False
                self._patience[callback] = callback.patience

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Now they are restored."""
        for stopping, patience in self._patience.items():
            stopping.patience = patience
        if trainer.is_global_zero:
            for callback in _of(trainer):
                if isinstance(callback, ModelCheckpoint) and callback.dirpath:
                    Path(callback.dirpath).mkdir(parents=True, exist_ok=True)

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Once a whole iteration has been logged, every name is known."""
        if not self._watches or "charts/iteration" not in self.module.metrics:
            return
        self._watches = False
        known = self.module.metrics.keys() | trainer.callback_metrics.keys()
        for callback in _of(trainer):
            name = getattr(callback, "monitor", None)
            if isinstance(name, str) and name not in known and trainer.is_global_zero:
                near = hint(name, sorted(known)) or "; metrics.csv has the names"
                print(f"trainer.callbacks {type(callback).__name__} waits: nothing has logged {name} so far{near}")

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Why a run ended before its time."""
        for stopping in self._patience:
            if has_stopped(stopping, trainer.current_epoch) and trainer.is_global_zero:
                why = stopping.stopping_reason_message
                print(f"EarlyStopping ended the run after iteration {trainer.current_epoch}. {why}")


def has_stopped(callback: Callback, iterations: int) -> bool:
    """Whether it was this one that ended a run of so many iterations; a resumed run remembers earlier ends, too."""
    return (
        isinstance(callback, EarlyStopping)
        and callback.stopping_reason_message is not None
        and callback.stopped_epoch + 1 == iterations
    )


def _of(trainer: L.Trainer) -> list[Callback]:
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    return callbacks
