"""Messages between the two processes."""

from __future__ import annotations

import json
import socket
import struct
from typing import Any

PROTOCOL = 1
"""Version of everything that goes between the two processes."""
STEP, DONE, MESSAGE = b"s", b"d", b"m"


class Channel:
    """Messages over a stream socket: a single byte for the steps, else JSON followed by bytes.

    Args:
        sock: One end of a socket pair.
    """

    _lengths = struct.Struct("!II")

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock

    def signal(self, kind: bytes) -> None:
        """Send one byte."""
        self.sock.sendall(kind)

    def send(self, message: dict[str, Any], blob: bytes = b"") -> None:
        """Send a message."""
        text = json.dumps(message).encode()
        self.sock.sendall(MESSAGE + self._lengths.pack(len(text), len(blob)) + text + blob)

    def receive(self) -> tuple[bytes, dict[str, Any], bytes]:
        """The next byte, with its JSON and bytes when it announces a message.

        Raises:
            EOFError: When the other side is gone.
        """
        kind = self._read(1)
        if kind != MESSAGE:
            return kind, {}, b""
        text, blob = self._lengths.unpack(self._read(self._lengths.size))
        return kind, json.loads(self._read(text)), self._read(blob)

    def _read(self, length: int) -> bytes:
        parts = []
        while length:
            part = self.sock.recv(min(length, 1 << 20))
            if not part:
                raise EOFError
            parts.append(part)
            length -= len(part)
        return b"".join(parts)
