"""Version 2 starts the app before anything else is imported, version 3 once the task is known."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from isaaclab import ISAACSIM, VERSION

RUNNING: list[dict[str, Any]] = []
"""What the simulator was started with."""


def _start(arguments: dict[str, Any]) -> None:
    assert len(sys.argv) == 1, f"the app would read the worker's arguments {sys.argv[1:]}"
    RUNNING.append(arguments)
    signal.signal(signal.SIGINT, signal.default_int_handler)


if VERSION == 2:

    class AppLauncher:
        def __init__(self, launcher_args: dict[str, Any]) -> None:
            _start(launcher_args)

    sys.modules["isaaclab.app.AppLauncher"] = AppLauncher  # type: ignore[assignment]  # all that 2.3's wheel has of it
    del AppLauncher

else:

    @contextmanager
    def launch_simulation(cfg: Any, launcher_args: dict[str, Any]) -> Iterator[None]:
        if cfg.sim.physics == "isaacsim_physx" and not ISAACSIM:
            raise SystemExit(1)
        _start(launcher_args)
        try:
            yield
        finally:
            RUNNING.clear()
