"""What a user sees of a running training: once per iteration, never per minibatch."""

import math
import sys
import time

import lightning as L
from lightning.pytorch.callbacks import ProgressBar
from tqdm import tqdm

from epo_lightning.modules.base import PopulationCallback

_SECONDS_BETWEEN_LINES = 10.0


class IterationProgress(PopulationCallback, ProgressBar):
    """A bar on a terminal, otherwise a line every ten seconds and for the first and the last iteration."""

    def __init__(self) -> None:
        super().__init__()
        self._bar: tqdm | None = None
        self._enabled = True
        self._last_line = -math.inf

    def disable(self) -> None:
        """Lightning calls this on all ranks but the first."""
        self._enabled = False

    def enable(self) -> None:
        """Show again what `disable` has hidden."""
        self._enabled = True

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Open the bar where a person reads it."""
        if self._enabled and sys.stderr.isatty():
            total = None if trainer.max_epochs in (None, -1) else trainer.max_epochs
            self._bar = tqdm(total=total, initial=trainer.current_epoch, unit="it", dynamic_ncols=True)

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """The module knows its metrics after the hooks of the iteration's end: show them at the next start."""
        self._show(trainer)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """The last iteration is always shown."""
        self._last_line = -math.inf
        self._show(trainer)
        self._close()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Leave the terminal in order."""
        self._close()

    def _show(self, trainer: L.Trainer) -> None:
        metrics = self.module.metrics
        if not self._enabled or "charts/iteration" not in metrics:
            return
        if self._bar is not None:
            self._bar.set_postfix_str(describe(metrics), refresh=False)
            self._bar.update(int(metrics["charts/iteration"]) - self._bar.n)
        elif time.monotonic() - self._last_line >= _SECONDS_BETWEEN_LINES:
            self._last_line = time.monotonic()
            of = f"/{trainer.max_epochs}" if trainer.max_epochs not in (None, -1) else ""
            print(f"iteration {metrics['charts/iteration']:.0f}{of}, {describe(metrics)}", flush=True)

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def describe(metrics: dict[str, float]) -> str:
    """The numbers to watch, in one line; a dash for what no finished episode has shown yet."""
    parts = [
        f"{metrics['charts/env_steps']:,.0f} env steps",
        f"{metrics['charts/sps']:,.0f}/s",
        f"return {_number(metrics['charts/episodic_return'])}",
        f"successes {_number(metrics['charts/episodic_successes'])}",
    ]
    if "charts/generation" in metrics:
        parts.append(f"generation {metrics['charts/generation']:.0f}")
    return ", ".join(parts)


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.4g}"
