"""One process at a time in a folder, by what the system has for that."""

import contextlib
import importlib
import os
from pathlib import Path

_NAME = ".lock"


class FolderLock:
    """The lock of a folder, which the system gives back when the process ends in any way.

    Linux and macOS lock the folder itself. Windows cannot open a folder: there a file `.lock` in it is locked. Where
    the system or the file system has no locks, nothing is held, and two processes are not kept apart.

    Args:
        folder: It must exist.

    Raises:
        BlockingIOError: When another process holds it.
    """

    def __init__(self, folder: Path) -> None:
        self._file: Path | None = None
        self._descriptor: int | None = None
        try:
            import fcntl
        except ImportError:
            self._lock_file(folder / _NAME)
            return
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise
        except OSError:
            pass  # a file system without locks
        self._descriptor = descriptor

    def _lock_file(self, file: Path) -> None:
        try:
            windows = importlib.import_module("msvcrt")
        except ImportError:
            return
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT)
        try:
            windows.locking(descriptor, windows.LK_NBLCK, 1)
        except OSError as error:
            os.close(descriptor)
            raise BlockingIOError(error.errno, error.strerror) from error
        self._descriptor, self._file = descriptor, file

    def release(self) -> None:
        """Let others in."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
        if self._file is not None:
            with contextlib.suppress(OSError):  # another process has it by now
                self._file.unlink()
