"""A page in headless Chromium, served from a folder of this machine alone."""

import contextlib
import functools
import http.server
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
WEBGL = ("--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader")
"""Flags for pictures by WebGL without a graphics processor."""


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextlib.contextmanager
def served(folder: Path) -> Iterator[str]:
    """The address of `folder`, as `python -m http.server` serves it."""
    handler = functools.partial(_Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def document(address: str, profile: Path, milliseconds: int, flags: tuple[str, ...] = ("--disable-gpu",)) -> str:
    """The text of a page after so much of its own time, in a browser that reaches nothing else."""
    assert BROWSER is not None
    words = [BROWSER, "--headless", "--no-sandbox", "--disable-background-networking", "--dump-dom", *flags]
    words += ["--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", f"--user-data-dir={profile}"]
    words += [f"--virtual-time-budget={milliseconds}", address]
    return subprocess.run(words, capture_output=True, text=True, timeout=240).stdout
