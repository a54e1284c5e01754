"""A process with another interpreter that runs the folder `remote`: started, talked to, and never left behind.

What the process prints is kept to its last 16 KiB, for messages; `EPO_DEBUG=1` also shows it. When this process ends in
any way, even killed, the other one ends by itself: its end of the socket closes.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import weakref
from typing import Any

from epo_lightning.envs.interpreter import environment_of, find_python
from epo_lightning.envs.worker import remote
from epo_lightning.envs.worker.remote import channel
from epo_lightning.envs.worker.remote.channel import DONE, STEP, Channel
from epo_lightning.limits import Mistake

_REMOTE = remote.__path__[0]
_KEPT_BYTES = 16384
_SHOWN_LINES = 5
_SHOWN_LENGTH = 300
_CLOSE_SECONDS = 10.0


class WorkerError(Mistake):
    """The simulator's process made a mistake, died or hangs; one line says which and what to do."""


class WorkerProcess:
    """One worker.

    Args:
        python: The interpreter, as the user wrote it.
        start_timeout: Seconds in which it must answer anything but a step.
        step_timeout: Seconds in which it must answer a step.

    Attributes:
        file: Descriptor of the shared memory's file. It has no name, so nothing of it can be left behind.

    Raises:
        Mistake: When there is no such interpreter, or on Windows.
        WorkerError: When it does not run, or speaks another protocol.
    """

    def __init__(self, python: str, start_timeout: float, step_timeout: float) -> None:
        if not hasattr(os, "killpg"):
            raise Mistake(
                "data.env.class_path: WorkerEnv needs Linux (macOS may do), this system hands no socket to another"
                " process; use a task of this package or of Gymnasium, or WSL"
            )
        self.python = find_python(python)
        self.start_timeout, self.step_timeout = start_timeout, step_timeout
        self.file = _nameless_file()
        ours, theirs = socket.socketpair()
        self.channel = Channel(ours)
        by_signal = threading.current_thread() is threading.main_thread()
        arguments = (theirs.fileno(), self.file, int(by_signal))
        self._process = subprocess.Popen(
            [self.python, "-u", _REMOTE, *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=(theirs.fileno(), self.file),
            start_new_session=True,  # Ctrl-C is for the learner, and the simulator's own children end with it
            env=environment_of(self.python),
        )
        theirs.close()
        self.output = _Output(self._process)
        self._end = weakref.finalize(self, _end, self._process, ours, self.file)
        hello, _ = self._answer(start_timeout, "start")
        if hello.get("protocol") != channel.PROTOCOL:
            raise self._error(
                f"{_REMOTE} speaks protocol {hello.get('protocol')}, this package {channel.PROTOCOL}:"
                " its files are of two versions, install it anew"
            )

    @property
    def pid(self) -> int:
        """Process id of the worker."""
        return self._process.pid

    def request(self, request: str, blob: bytes = b"", **fields: Any) -> tuple[dict[str, Any], bytes]:
        """Send a message and wait for the answer to it, JSON and bytes.

        Raises:
            WorkerError: When there is none.
        """
        self._refuse_closed()
        with contextlib.suppress(OSError):  # it has died: what it said last will tell
            self.channel.send({"request": request, **fields}, blob)
        return self._answer(self.start_timeout, request)

    def step(self, patient: bool) -> dict[str, Any]:
        """Let it make one env step; returns what it has to say beyond the arrays.

        Args:
            patient: Wait as long as for the start: simulators compile in their first step.

        Raises:
            WorkerError: When it failed.
        """
        self._refuse_closed()
        with contextlib.suppress(OSError):
            self.channel.signal(STEP)
        answer, _ = self._answer(self.start_timeout if patient else self.step_timeout, "step")
        return answer

    def close(self) -> None:
        """Let it end, or kill it when it does not within ten seconds."""
        if not self._end.alive:
            return
        with contextlib.suppress(OSError, EOFError, subprocess.TimeoutExpired):
            self.channel.sock.settimeout(_CLOSE_SECONDS)
            self.channel.send({"request": "close"})
            self.channel.receive()
            self._process.wait(_CLOSE_SECONDS)
        self._end()

    def _refuse_closed(self) -> None:
        if not self._end.alive:
            raise WorkerError("data.env: the worker has ended; make the environment anew")

    def _answer(self, timeout: float, request: str) -> tuple[dict[str, Any], bytes]:
        try:
            self.channel.sock.settimeout(timeout)
            kind, message, blob = self.channel.receive()
        except TimeoutError:
            key = f"data.env.init_args.{'step' if request == 'step' else 'start'}_timeout"
            raise self._error(f"has not answered to {request} for {timeout:g} s: killed ({key})") from None
        except (EOFError, OSError):
            needs = " (it must be Python 3.8 or newer, with numpy)" if request == "start" else ""
            raise self._error(f"{self._death()} during {request}{needs}") from None
        except BaseException:  # Ctrl-C: no caller would read the answer
            self._end()
            raise
        if kind == DONE:
            return {}, b""
        if "mistake" in message:
            self._end()
            raise WorkerError(message["mistake"])
        if "raised" in message:
            raise self._error(f"raised {message['raised']} ({message['where']}) during {request}")
        return message, blob

    def _death(self) -> str:
        try:
            code = self._process.wait(5.0)
        except subprocess.TimeoutExpired:
            return "closed its socket"
        return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"

    def _error(self, what: str) -> WorkerError:
        """End the worker; the message with its last words."""
        self._end()
        words = self.output.last_lines()
        said = f"; it said last: {' | '.join(words)}" if words else ""
        return WorkerError(f"data.env: the worker ({self.python}) {what}{said}")


class _Output:
    """The end of everything that a process prints, read in the background so that it never waits for us."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        self._pipe, self._kept = process.stdout, b""
        self._show = bool(os.environ.get("EPO_DEBUG"))
        self._thread = threading.Thread(target=self._read, name="worker output", daemon=True)
        self._thread.start()

    def last_lines(self) -> list[str]:
        """The last few lines, each cut to `_SHOWN_LENGTH` characters."""
        self._thread.join(1.0)
        lines = [line.strip() for line in self._kept.decode(errors="replace").splitlines()]
        return [line[-_SHOWN_LENGTH:] for line in lines if line.strip("^~")][-_SHOWN_LINES:]

    def _read(self) -> None:
        with self._pipe as pipe:
            while chunk := os.read(pipe.fileno(), 65536):
                self._kept = (self._kept + chunk)[-_KEPT_BYTES:]
                if self._show:
                    sys.stderr.write(chunk.decode(errors="replace"))


def _nameless_file() -> int:
    """A file in memory where the system has such, else one that is already deleted."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("epo_lightning worker")
    file, path = tempfile.mkstemp()
    os.unlink(path)
    return file


def _end(process: "subprocess.Popen[bytes]", sock: socket.socket, file: int) -> None:
    """Whatever state it is in: no process, socket or descriptor is left."""
    sock.close()
    os.close(file)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
