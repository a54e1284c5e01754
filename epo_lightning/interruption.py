"""Ctrl-C, SIGTERM and the time limit: finish the iteration, save, and leave."""

import os
import signal
import threading
from types import FrameType
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Timer
from lightning.pytorch.utilities import rank_zero_only


class GracefulStop(L.Callback):
    """Turns the first SIGINT or SIGTERM into the wish to stop at the end of the iteration.

    Checkpoints are complete at ends of iterations only. A second signal ends the process at once and leaves the last
    checkpoint that was saved. All ranks stop together, whichever of them got the signal.

    Attributes:
        signal: The signal number that stopped the training on this rank, or 0.
    """

    def __init__(self) -> None:
        self.signal = 0
        self._previous: dict[int, Any] = {}

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Take the signals over from Lightning, whose handler stops in the middle of an iteration."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._note)
            # Lightning's handler would have all ranks wait for each other in every minibatch
            trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = _nothing  # type: ignore[method-assign]

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.signal = number
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        if rank_zero_only.rank == 0:  # type: ignore[attr-defined]
            name = signal.Signals(number).name
            os.write(2, f"\n{name}: finishing this iteration, then saving; again to stop at once\n".encode())

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Agree between ranks."""
        if trainer.strategy.reduce_boolean_decision(bool(self.signal), all=False):
            trainer.should_stop = True

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Give the signals back."""
        self._restore()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Give the signals back."""
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous.clear()


class TimeLimit(Timer):
    """Ends the training after `trainer.max_time` of this invocation: a run that is resumed has all of it again."""

    def state_dict(self) -> dict[str, Any]:
        """Nothing: the time of earlier invocations does not count."""
        return {}


def _nothing() -> None:
    """Instead of a collective call per minibatch."""
