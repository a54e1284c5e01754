"""Ranks that watch each other: when one dies or falls silent, all of them end, and one line names it.

Every rank has a line to the first one, a socket of its own beside what torch uses. A process that dies closes its end,
whatever killed it; one that is stopped sends no beats. A collective operation would wait for both: for half an hour, or
for ever.
"""

import contextlib
import json
import os
import selectors
import signal
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

BEAT = 1.0
"""Seconds from one sign of life to the next."""
SILENCE = "EPO_RANK_SILENCE"
"""Environment variable: seconds without a sign of life after which a rank counts as stuck; 0 for never."""
_PATIENCE = 30.0
_CONNECT = 30.0
_READ = 65536
_MISTAKE = 2
"""The exit code of a user's mistake."""
_SAME_MISTAKE = 1.0
"""Seconds within which the first rank meets it, too."""
_LONGEST = 2000
"""Characters of a line that a rank tells of its own fault."""


def patience(environment: Mapping[str, str] = os.environ) -> float:
    """Seconds of silence after which a rank counts as stuck; what is no number is as if nothing was said."""
    try:
        seconds = float(environment.get(SILENCE, _PATIENCE))
    except ValueError:
        return _PATIENCE
    return seconds if seconds > 0 else float("inf")


class Place(NamedTuple):
    """Which process a rank is."""

    rank: int
    host: str
    pid: int

    def __str__(self) -> str:
        return f"rank {self.rank} (process {self.pid} on {self.host})"

    @classmethod
    def here(cls, rank: int) -> "Place":
        """This one."""
        return cls(rank, socket.gethostname(), os.getpid())


class Loss(NamedTuple):
    """Why a training ends before its time.

    Attributes:
        rank: Who was lost.
        line: What became of it, as `rank 3 (process 71 on node4) died: ...`.
        code: With which the others end.
        is_told: Whether another rank tells the user.
        is_stuck: Whether its process is still there.
    """

    rank: int
    line: str
    code: int = 1
    is_told: bool = False
    is_stuck: bool = False


@dataclass
class _Peer:
    """The other end of a line."""

    place: Place
    line: socket.socket
    heard: bytes = b""
    silent: int = 0
    has_ended: bool = False
    news: list[dict[str, Any]] = field(default_factory=list)

    def send(self, **message: object) -> None:
        """A beat, or a message; who does not read is noticed by its silence, who has gone by its closed line."""
        with contextlib.suppress(OSError):
            self.line.send(json.dumps(message).encode() + b"\n")

    def listen(self) -> bool:
        """Take in what has come; returns whether the line is open."""
        try:
            heard = self.line.recv(_READ)
        except BlockingIOError:
            return True
        except OSError:
            return False
        self.silent = 0
        *lines, self.heard = (self.heard + heard).split(b"\n")
        self.news += [json.loads(line) for line in lines if line]
        return bool(heard)


class RankWatch(threading.Thread):
    """Watches the other ends of this rank's lines; as a daemon, so that it keeps no process alive.

    Time is counted in its own beats: a machine that slept, or ranks that were stopped together (Ctrl-Z), miss none.

    Args:
        own: Which process this is.
        peers: The first rank's are all others, the others' is the first one.
        limit: Seconds of silence after which a peer counts as stuck.
        on_loss: What ends this process; called in this thread, once.
        autopsy: What the system knows of the end of a rank's process that died here; None where it knows nothing.
    """

    def __init__(
        self,
        own: Place,
        peers: Sequence[tuple[Place, socket.socket]],
        limit: float,
        on_loss: Callable[[Loss], None],
        autopsy: Callable[[Place], str | None] | None = None,
    ) -> None:
        super().__init__(name="rank-watch", daemon=True)
        self.own, self.limit, self._on_loss, self._autopsy = own, limit, on_loss, autopsy
        self._peers = [_Peer(place, line) for place, line in peers]
        self._over, self._fails = threading.Event(), threading.Event()

    def run(self) -> None:
        """Until a rank is lost, or `leave`."""
        with selectors.DefaultSelector() as selector:
            for peer in self._peers:
                peer.line.setblocking(False)
                selector.register(peer.line, selectors.EVENT_READ, peer)
            due = time.monotonic()
            while not self._over.is_set():
                ready = selector.select(max(0.0, due - time.monotonic()))
                losses = [loss for key, _ in ready if (loss := self._hear(selector, key.data)) is not None]
                if time.monotonic() >= due:
                    due = time.monotonic() + BEAT
                    losses += self._beat()
                if losses:
                    self._lose(losses[0])
                    return

    def _hear(self, selector: selectors.BaseSelector, peer: _Peer) -> Loss | None:
        is_open = peer.listen()
        if not is_open:
            selector.unregister(peer.line)
        news, peer.news = peer.news, []
        for message in news:
            if "end" in message:
                peer.has_ended = True
            elif "fault" in message:
                is_told = peer.place.rank == 0  # tells it by itself
                return Loss(peer.place.rank, f"{peer.place} {message['fault']}", int(message["code"]), is_told)
            elif "lost" in message:
                return Loss(int(message["lost"]), str(message["line"]), int(message["code"]), is_told=True)
        if is_open or peer.has_ended:
            return None
        known = None if self._autopsy is None else self._autopsy(peer.place)
        return Loss(peer.place.rank, f"{peer.place} died: {known or 'killed, or out of memory'}")

    def _beat(self) -> list[Loss]:
        losses = []
        for peer in self._peers:
            peer.send()
            peer.silent += 0 if peer.has_ended else 1
            if peer.silent * BEAT > self.limit:
                line = f"{peer.place} is stuck: it has given no sign of life for {self.limit:.0f} s"
                losses.append(Loss(peer.place.rank, line, is_stuck=True))
        return losses

    def _lose(self, loss: Loss) -> None:
        """The first rank passes it on; who is stuck on this machine is ended."""
        # the first rank ends by itself where it fails, and tells why; a user's mistake is mostly that of all
        if self.own.rank == 0 and self._fails.wait(_SAME_MISTAKE if loss.code == _MISTAKE else 0):
            return
        for peer in self._peers:
            peer.send(lost=loss.rank, line=loss.line, code=loss.code)
        self._end_stuck(loss)
        self._on_loss(loss)

    def _end_stuck(self, loss: Loss) -> None:
        for peer in self._peers if loss.is_stuck else ():
            place = peer.place
            if place.rank == loss.rank and place.host == self.own.host:
                with contextlib.suppress(OSError):
                    os.kill(place.pid, getattr(signal, "SIGKILL", signal.SIGTERM))

    def fail(self, fault: str, code: int, seconds: float = 10.0) -> None:
        """This rank has failed: tell the others.

        The first rank tells the user by itself afterwards. Any other one waits here until the first rank has told it,
        upon which `on_loss` ends it.

        Args:
            fault: What became of it, as `failed: MemoryError`.
            code: With which all end.
            seconds: How long it waits.
        """
        self._fails.set()
        for peer in self._peers:
            peer.send(fault=fault[:_LONGEST], code=code)
        if self.own.rank:
            self.join(seconds)
        else:
            self._await_ends(2.0)
            self._over.set()

    def leave(self, seconds: float = 30.0) -> None:
        """This rank has finished; the first one is the last to leave, so that nobody takes its end for a death."""
        for peer in self._peers:
            peer.send(end=True)
        if not self.own.rank:
            self._await_ends(seconds)
        self._over.set()

    def _await_ends(self, seconds: float) -> None:
        """Until all others have ended, or are lost."""
        until = time.monotonic() + seconds
        while self.is_alive() and time.monotonic() < until and not all(peer.has_ended for peer in self._peers):
            time.sleep(0.02)


# Lines between the ranks ----------------------------------------------------------------------------------------------


def open_door(hosts: Sequence[str]) -> socket.socket:
    """Where the first rank waits for the others; open to this machine only where all of them are on it."""
    return socket.create_server(("" if len({*hosts}) > 1 else "127.0.0.1", 0), backlog=len(hosts))


def answer(door: socket.socket, token: str, places: Sequence[Place]) -> list[tuple[Place, socket.socket]]:
    """The lines to all of `places`; who does not know the `token` is sent away.

    Raises:
        TimeoutError: When one of them does not come.
    """
    found: dict[int, socket.socket] = {}
    with door:
        door.settimeout(_CONNECT)
        while len(found) < len(places):
            line, _ = door.accept()
            line.settimeout(_CONNECT)
            with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
                said = json.loads(line.makefile("rb").readline(_LONGEST))
                if said["token"] == token:
                    found[int(said["rank"])] = line
                    continue
            line.close()
    return [(place, found[place.rank]) for place in places]


def call(host: str, port: int, token: str, rank: int) -> socket.socket:
    """The line to the first rank."""
    line = socket.create_connection((host, port), timeout=_CONNECT)
    line.sendall(json.dumps({"token": token, "rank": rank}).encode() + b"\n")
    return line
