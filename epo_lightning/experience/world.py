"""The environments of one rank, as the datamodule hands them to whichever algorithm learns from them."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch

from epo_lightning.envs.base import VectorEnv
from epo_lightning.experience.streams import Stream, derive_seed


@dataclass(frozen=True)
class World:
    """Where a training takes place, and what a rank knows of the others.

    Attributes:
        env: The environments of this rank.
        device: Where they and the network live.
        seed: Of the run; every rank draws its own streams from it.
        rank: Number of this rank.
        world_size: Number of ranks that collect at the same time.
        autocast: Context in which networks run (mixed precision).
        build: Makes other environments of the same task, from their number and their seed.
    """

    env: VectorEnv
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    seed: int = 0
    rank: int = 0
    world_size: int = 1
    autocast: Callable[[], AbstractContextManager[Any]] = nullcontext
    build: Callable[[int, int], VectorEnv] | None = None

    def stream_seed(self, stream: Stream, *words: int) -> int:
        """The seed of this rank's `stream`; of one of several such, distinguished by `words`."""
        return derive_seed(self.seed, self.rank, stream, *words)

    def generator(self, stream: Stream) -> torch.Generator:
        """A generator on the device that draws this rank's `stream`."""
        return torch.Generator(self.device).manual_seed(self.stream_seed(stream))
