"""What a large allocation would take, printed before it is tried."""

import os
import sys
from pathlib import Path
from typing import NamedTuple

import torch

from epo_lightning.limits import Mistake

_USABLE = 0.9
"""Share of the free memory that one allocation may take: networks, gradients and minibatches need some, too."""


class Need(NamedTuple):
    """Bytes that will be allocated, the YAML key of a number that they are proportional to, and that number."""

    nbytes: int
    key: str
    value: int


def require_memory(nbytes: int, device: torch.device, key: str, value: int, purpose: str = "") -> str:
    """Refuse what does not fit into the free memory of `device`.

    Args:
        nbytes: What it takes.
        device: Where.
        key: YAML key of the number that decides about it.
        value: That number; `nbytes` is proportional to it.
        purpose: What for, in words; empty where the key says it.

    Returns:
        What is needed and what is free, for the log.

    Raises:
        Mistake: Naming the key, both amounts, and the largest number that fits.
    """
    free = free_memory(device)
    where = f"{nbytes / 2**20:,.0f} MiB on {device}, where {free / 2**20:,.0f} MiB are free"
    if nbytes <= _USABLE * free:
        return where
    largest = int(_USABLE * free * value) // nbytes
    remedy = f"lower it to at most {largest}" if largest else "not even 1 fits"
    raise Mistake(f"{key} {value} needs {where}{f' ({purpose})' if purpose else ''}: {remedy}")


def free_memory(device: torch.device) -> int:
    """Bytes that can still be allocated on `device`; more than there are where the system does not tell (Windows)."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:  # no Linux: what the machine has at all
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else sys.maxsize
    kib = next(line.split()[1] for line in lines if line.startswith("MemAvailable:"))
    return 1024 * int(kib)
