"""A device that is full in the middle of a run: one line with its numbers, instead of a traceback."""

import contextlib
import re
from collections.abc import Iterator

import torch

from epo_lightning.limits import Mistake

_WANTED = re.compile(
    r"[Tt]ried to allocate (\S+ \w+?)\.? |you tried to allocate (\d+ bytes)|Failed to allocate (\d+ bytes)"
)
_CAPACITY = re.compile(r"GPU \d+ has a total capacity of (\S+ \w+) of which (\S+ \w+) is free")


@contextlib.contextmanager
def naming_full_memory() -> Iterator[None]:
    """Turn what torch and Warp say when there is no memory left into one line with what to lower.

    Raises:
        Mistake: Instead of their errors.
    """
    try:
        yield
    except RuntimeError as error:  # torch.OutOfMemoryError is one, too
        text = " ".join(str(error).split())
        is_full = isinstance(error, torch.OutOfMemoryError) or re.search(r"allocate memory|Failed to allocate", text)
        if not is_full:
            raise
        wanted, capacity = _WANTED.search(text), _CAPACITY.search(text)
        amount = next(filter(None, wanted.groups())) if wanted else "more"
        there = f", of {capacity[1]} {capacity[2]} were free" if capacity else ""
        raise Mistake(
            f"out of memory: {amount} were wanted{there}; lower data.num_envs, raise model.rollout.num_minibatches, or"
            " lower the network; the last checkpoint stays"
        ) from error
