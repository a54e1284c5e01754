"""Ctrl-C, the signals of a scheduler, and the time limit: finish the iteration, save, and leave."""

import contextlib
import os
import signal
import stat
import threading
from types import FrameType
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Timer
from lightning.pytorch.utilities import rank_zero_only

_AT_ONCE = (signal.SIGINT, signal.SIGTERM)
"""The second of these ends the process."""
_HANGUP: int | None = getattr(signal, "SIGHUP", None)
"""The terminal is gone; Windows has no such signal."""
_TIME_IS_OVER: int | None = getattr(signal, "SIGUSR1", None)
"""Slurm's `--signal=USR1@120`, for example; neither does it have this one."""
_SIGNALS = [*_AT_ONCE, *(number for number in (_HANGUP, _TIME_IS_OVER) if number is not None)]


class GracefulStop(L.Callback):
    """Turns SIGINT, SIGTERM, SIGHUP or SIGUSR1 into the wish to stop at the end of the iteration.

    Checkpoints are complete at ends of iterations only. A second SIGINT or SIGTERM ends the process at once and leaves
    the last checkpoint that was saved. All ranks stop together, whichever of them got the signal. An ignored SIGHUP
    (`nohup`) stays ignored.

    Attributes:
        signal: The signal number that stopped the training on any rank, or 0.
    """

    def __init__(self) -> None:
        self.signal = 0
        self._previous: dict[int, Any] = {}

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Take the signals over from Lightning, whose handler stops in the middle of an iteration."""
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                if number != _HANGUP or signal.getsignal(number) != signal.SIG_IGN:
                    self._previous[number] = signal.signal(number, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.signal = self.signal or number
        if number in _AT_ONCE:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
        if number == _HANGUP:
            _leave_terminal()
        if rank_zero_only.rank == 0:  # type: ignore[attr-defined]
            name = signal.Signals(number).name
            with contextlib.suppress(OSError):
                os.write(2, f"\n{name}: finishing this iteration, then saving; Ctrl-C to stop at once\n".encode())

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Stop all ranks when any of them got a signal."""
        number = torch.tensor(self.signal, device=trainer.strategy.root_device)
        agreed = int(trainer.strategy.reduce(number, reduce_op="max"))
        if agreed:  # one that has come meanwhile is for the next iteration
            self.signal, trainer.should_stop = agreed, True

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


def _leave_terminal() -> None:
    """Send nowhere what would go to a terminal that is gone: writing to it fails, and the run is not saved yet."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for descriptor in (1, 2):
        with contextlib.suppress(OSError):
            if stat.S_ISCHR(os.fstat(descriptor).st_mode) and not os.isatty(descriptor):
                os.dup2(nowhere, descriptor)
    os.close(nowhere)


class TimeLimit(Timer):
    """Ends the training after `trainer.max_time` of this invocation: a run that is resumed has all of it again."""

    def state_dict(self) -> dict[str, Any]:
        """Nothing: the time of earlier invocations does not count."""
        return {}
