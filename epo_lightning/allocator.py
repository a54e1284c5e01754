"""The C allocator, told to keep what it is given."""

import ctypes
import sys

_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_GIB = 2**30


def keep_freed_memory() -> bool:
    """Let glibc keep freed activations in its heap instead of returning them to the kernel after every minibatch.

    Fresh pages from the kernel are zeroed and mapped at first touch, which costs a learner on the CPU 14 to 27 % of its
    throughput. Must run before the large allocations. Does nothing where the C library is not glibc.

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
