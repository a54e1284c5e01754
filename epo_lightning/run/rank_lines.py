"""Which process a rank is, and the sockets between the first rank and the others."""

import contextlib
import json
import os
import socket
from collections.abc import Sequence
from typing import NamedTuple

_CONNECT = 30.0
_LONGEST = 2000
"""Characters with which a rank may introduce itself."""


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
