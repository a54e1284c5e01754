"""A callback that logs in every way that Lightning knows, as those of others do."""

from typing import Any

import lightning as L

from epo_lightning.modules.base import PopulationModule


class Talkative(L.Callback):
    """Logs the iteration, counted from 1, under a name for each way."""

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any) -> None:
        """By `self.log` in a step, at its end and at the end of the epoch."""
        value = float(trainer.current_epoch + 1)
        pl_module.log("talk/step", value)
        pl_module.log("talk/both", value, on_step=True, on_epoch=True)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """By `self.log` and `self.log_dict`, by every logger at a step of its own, and by the module's metrics."""
        value = float(trainer.current_epoch + 1)
        pl_module.log("talk/epoch", value)
        pl_module.log_dict({"talk/dict": value})
        for logger in trainer.loggers:
            logger.log_metrics({"talk/logger": value}, step=trainer.global_step)
        assert isinstance(pl_module, PopulationModule)
        pl_module.metrics["talk/metrics"] = value
