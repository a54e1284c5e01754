"""`view`: a running playback in the browser.

`loop` is the simulation in real time with its pauses and pushes, `scene` turns MuJoCo's geoms into nodes of a web page,
`page` is that page with its controls.
"""

import contextlib
import importlib.util
import socket

from epo_lightning.limits import Mistake
from epo_lightning.show.playback import Playback
from epo_lightning.show.viewer.loop import Loop

__all__ = ["HOST", "Loop", "require_viewer", "view"]

HOST = "127.0.0.1"
"""Only this machine can open the page, because every visitor can push."""


def require_viewer(port: int) -> None:
    """Refuse to begin when the page could not be served.

    Raises:
        Mistake: When viser is not installed, or the port cannot be had.
    """
    if importlib.util.find_spec("viser") is None:
        raise Mistake("view needs viser: pip install 'epo-lightning[viewer]'")
    with socket.socket() as probe:
        # as the web server does: a page that was closed a moment ago does not block its port
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or error
            raise Mistake(f"--port {port} cannot be used ({reason}): choose another one, or 0 for any") from error


def view(playback: Playback, port: int) -> None:
    """Show `playback` in the browser until Ctrl-C.

    Args:
        playback: The environments and their actors.
        port: Where the page is served; 0: any free port.

    Raises:
        Mistake: When viser is missing, the port cannot be had, or the task cannot be shown.
    """
    require_viewer(port)
    loop = Loop(playback)
    from epo_lightning.show.viewer.page import Page

    page = Page(loop, HOST, port)
    print(f"Open {page.address} in a browser; Ctrl-C ends", flush=True)
    with contextlib.closing(page), contextlib.suppress(KeyboardInterrupt):
        page.run()
