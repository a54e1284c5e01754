"""Ranks that watch each other: when one dies or falls silent, all of them end, and one line names it.

Every rank has a line to the first one, a socket of its own beside what torch uses. A process that dies closes its end,
whatever killed it; one that is stopped sends no beats. One whose own thread hangs does not come to the collective call
in which the others wait. Such a call would wait for all three: for half an hour, or for ever.
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

from epo_lightning.run.rank_arrivals import Arrivals
from epo_lightning.run.rank_lines import Place

BEAT = 1.0
"""Seconds from one sign of life to the next."""
SILENCE = "EPO_RANK_SILENCE"
"""Environment variable: seconds without a sign of life after which a rank counts as stuck; 0 for never."""
LAG = "EPO_RANK_LAG"
"""Environment variable: seconds that others wait in a collective call for a rank that is alive; 0 for ever."""
_PATIENCE = 30.0
_WAIT = 300.0
_NOTICE = 60.0
"""Seconds of waiting after which the user is told for whom."""
_READ = 65536
_MISTAKE = 2
"""The exit code of a user's mistake."""
_SAME_MISTAKE = 1.0
"""Seconds within which the first rank meets it, too."""
_LONGEST = 2000
"""Characters of a line that a rank tells of its own fault."""


def patience(environment: Mapping[str, str] = os.environ) -> float:
    """Seconds of silence after which a rank counts as stuck; what is no number is as if nothing was said."""
    return _seconds(environment, SILENCE, _PATIENCE)


def longest_wait(environment: Mapping[str, str] = os.environ) -> float:
    """Seconds that others wait for a rank before it counts as stuck; what is no number is as if nothing was said."""
    return _seconds(environment, LAG, _WAIT)


def _seconds(environment: Mapping[str, str], name: str, default: float) -> float:
    try:
        seconds = float(environment.get(name, default))
    except ValueError:
        return default
    return seconds if seconds > 0 else float("inf")


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
        calls: How many collective calls this rank has entered.
        wait: Seconds that others may wait in one for a rank.
        on_late: Tells the user for whom others wait, before that; in this thread, on the first rank.
    """

    def __init__(
        self,
        own: Place,
        peers: Sequence[tuple[Place, socket.socket]],
        limit: float,
        on_loss: Callable[[Loss], None],
        autopsy: Callable[[Place], str | None] | None = None,
        calls: Callable[[], int] = lambda: 0,
        wait: float = float("inf"),
        on_late: Callable[[str], None] | None = None,
    ) -> None:
        super().__init__(name="rank-watch", daemon=True)
        self.own, self.limit, self._on_loss, self._autopsy = own, limit, on_loss, autopsy
        self._calls, self._wait, self._on_late, self._arrivals = calls, wait, on_late, Arrivals()
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
            if "calls" in message:
                self._arrivals.note(peer.place, int(message["calls"]))
            elif "end" in message:
                peer.has_ended = True
                self._arrivals.forget(peer.place)
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
        calls = self._calls()
        losses = self._late(calls)
        for peer in self._peers:
            peer.send(calls=calls)
            peer.silent += 0 if peer.has_ended else 1
            if peer.silent * BEAT > self.limit:
                line = f"{peer.place} is stuck: it has given no sign of life for {self.limit:.0f} s"
                losses.append(Loss(peer.place.rank, line, is_stuck=True))
        return losses

    def _late(self, calls: int) -> list[Loss]:
        """Who has been waited for too long, where all of them are known: on the first rank."""
        if self.own.rank:
            return []
        self._arrivals.note(self.own, calls)
        losses = []
        for place, waited in self._arrivals.wait(BEAT):
            line = f"{place} is stuck: the others have waited {waited:.0f} s for it in a collective call"
            if waited > self._wait:
                losses.append(Loss(place.rank, line, is_stuck=True))
            elif self._on_late is not None and waited - BEAT <= _NOTICE < waited:
                self._on_late(f"{line}; {LAG} ends all after {self._wait:g} s" if self._wait < float("inf") else line)
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
