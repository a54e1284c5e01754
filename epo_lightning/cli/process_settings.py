"""Settings of the whole process that libraries read once, made before anything heavy is imported."""

import ctypes
import os
import sys
from pathlib import Path

_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_GIB = 2**30


def keep_freed_memory() -> bool:
    """Let glibc keep freed activations in its heap instead of returning them to the kernel after every minibatch.

    Fresh pages from the kernel are zeroed and mapped at first touch, which slows a learner on the CPU. Must run before
    the large allocations. Does nothing where the C library is not glibc.

    Returns:
        Whether the allocator took the settings.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, _GIB) and mallopt(_M_TRIM_THRESHOLD, 2 * _GIB - 1))


def yield_idle_threads() -> None:
    """Let torch's idle threads sleep instead of spinning; must run before torch is imported.

    Spinning threads hold the cores that the physics' threads need, and on a machine with other work every parallel
    section then waits for a thread that is not scheduled. A value that the user has set stays.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def keep_compiled_code() -> None:
    """Keep what torch compiles in the user's own cache, for other runs; must run before Lightning is imported.

    Otherwise it goes to the folder for temporary files. A place that the user has set stays.
    """
    try:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError:  # a user without a home
        return
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache / "epo_lightning" / "compiled"))
