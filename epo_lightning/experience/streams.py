"""Independent streams of random numbers from one seed."""

from enum import IntEnum

import numpy as np


class Stream(IntEnum):
    """What draws random numbers; every rank has streams of its own, but for those of evolution and diversity.

    `NOISE` is that of actions in an evaluation.
    """

    ENVIRONMENTS = 0
    EVALUATION = 1
    ROLLOUT = 2
    ESTIMATE = 3
    EVOLUTION = 4
    DIVERSITY = 5
    NOISE = 6


def derive_seed(*words: int) -> int:
    """A seed that differs for every sequence of `words`: the run's seed, and what tells the stream from others."""
    return int(np.random.SeedSequence([int(word) for word in words]).generate_state(1)[0])
