"""Child processes: how they start, how they end, and that none of them outlives this process."""

import contextlib
import ctypes
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from epo_lightning.run.folder import writing

_HANGUP: int | None = getattr(signal, "SIGHUP", None)
_SIGNALS = [signal.SIGINT, signal.SIGTERM, *filter(None, [_HANGUP, getattr(signal, "SIGUSR1", None)])]
_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of prctl(2)
_LIBC = ctypes.CDLL(None) if sys.platform.startswith("linux") else None


class Child:
    """A command in a process group of its own, which Ctrl-C in the terminal does not reach.

    Where this process dies, also by `kill -9`, the kernel sends it SIGTERM (on Linux): a training then saves and ends.

    Args:
        command: What is started.
        log: Where its output goes, after what is there.
        environment: Variables besides those of this process.
    """

    def __init__(self, command: Sequence[str], log: Path, environment: Mapping[str, str]) -> None:
        with writing(log), log.open("a", encoding="utf-8") as file:
            file.write(f"$ {shlex.join(command)}\n")
            file.flush()
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                env={**os.environ, **environment},
                process_group=0,
                preexec_fn=end_with_parent(),
            )

    def poll(self) -> int | None:
        """How it ended: its exit code, or minus the signal's number; None while it runs."""
        return self._process.poll()

    def stop(self) -> None:
        """Ask it to finish its iteration, to save and to end."""
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()

    def kill(self) -> None:
        """End it at once, with every process that it has started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)


def end_with_parent() -> Any:  # noqa: ANN401  (what Popen calls between fork and exec)
    """What makes the process that calls it get SIGTERM when the one that is calling now has died."""
    if _LIBC is None:
        return None
    parent = os.getpid()

    def ask() -> None:
        _LIBC.prctl(_PARENT_DEATH_SIGNAL, signal.SIGTERM)
        if os.getppid() != parent:  # it was faster
            os._exit(128 + signal.SIGTERM)

    return ask


class Stop:
    """Notes the signals that end a study, while it is entered.

    Attributes:
        signal: The first one; 0 before.
        at_once: There was a second one.
    """

    def __init__(self) -> None:
        self.signal = 0
        self.at_once = False
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> "Stop":
        for number in _SIGNALS:
            if number != _HANGUP or signal.getsignal(number) != signal.SIG_IGN:
                self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002  (what a handler gets)
        self.at_once = self.signal != 0
        self.signal = self.signal or number
