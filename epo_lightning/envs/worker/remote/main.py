"""The life of the process: it serves one learner, ends with it, and says what went wrong."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sys
import traceback
from typing import Any

from .channel import DONE, PROTOCOL, STEP, Channel
from .factories import make
from .mistakes import Mistake, one_line
from .server import Server


def live_with_the_learner(by_signal: bool) -> None:
    """End when the learner ends, and not before it: signals to the whole job are the learner's to answer.

    The end of its socket is noticed when there is something to read; a simulator that hangs needs the kernel's help.

    Args:
        by_signal: Let the kernel kill this process when the thread that started it ends (Linux).
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if by_signal and sys.platform == "linux":
        import ctypes

        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)


def main() -> None:
    """What `__main__` runs with SOCKET FILE BY_SIGNAL: descriptors of the socket and of the shared memory."""
    sock, file, by_signal = (int(arg) for arg in sys.argv[1:])
    live_with_the_learner(bool(by_signal))
    for descriptor in (sock, file):
        os.set_inheritable(descriptor, False)
    channel = Channel(socket.socket(fileno=sock))
    code = 0
    try:
        serve(channel, file)
    except (EOFError, ConnectionError):
        code = 1
    except BaseException as error:
        code = 1
        report(channel, error)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # simulators tend to crash while an interpreter takes itself apart


def serve(channel: Channel, file: int) -> None:
    """Make the environment that the learner asks for and answer until it says `close`."""
    channel.send({"protocol": PROTOCOL, "python": sys.version.split()[0]})
    _, message, _ = channel.receive()
    adapter = make(message)
    server = Server(adapter, message["factory"], message["num_envs"], file)
    versions = {key: str(value) for key, value in getattr(adapter, "versions", {}).items()}
    abilities = {"begins_late": hasattr(adapter, "reset_late"), "signals": plain(adapter, message["factory"])}
    channel.send({"spec": server.spec, "layout": server.layout, "versions": versions, **abilities})
    while True:
        kind, message, blob = channel.receive()
        if kind == STEP:
            if server.step():
                channel.send({"log": server.names})
            else:
                channel.signal(DONE)
        elif message["request"] == "close":
            if hasattr(adapter, "close"):
                adapter.close()
            channel.send({})
            return
        else:
            channel.send(*server.answer(message, blob))


def plain(adapter: Any, label: str) -> Any:
    """What the adapter says of its entries, where it says something.

    Raises:
        Mistake: When it is not made of what JSON has.
    """
    signals = getattr(adapter, "signals", None)
    try:
        json.dumps(signals)
    except (TypeError, ValueError) as error:
        raise Mistake(
            f"data.env.init_args.factory: the signals of what {label} returns must be dicts, lists, texts and numbers,"
            f" see docs/worker.md: {one_line(error)}"
        ) from None
    return signals


def report(channel: Channel, error: BaseException) -> None:
    """Tell the learner what went wrong; the traceback goes to stderr."""
    if isinstance(error, Mistake):
        message = {"mistake": one_line(error)}
    else:
        traceback.print_exc()
        frames = traceback.extract_tb(error.__traceback__)
        own = [frame for frame in frames if os.path.dirname(frame.filename) != os.path.dirname(__file__)]
        at = (own or frames)[-1]
        where = f"{at.filename}:{at.lineno} in {at.name}"
        message = {"raised": f"{type(error).__name__}: {one_line(error)}", "where": where}
    with contextlib.suppress(OSError):
        channel.send(message)
