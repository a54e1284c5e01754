"""Whether a file does what the policy did in its task.

Shape legend: T steps, M agents that played side by side, N rows, O observation entries.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from epo_lightning.export.formats import Runner
from epo_lightning.export.recording import Recording
from epo_lightning.limits import Mistake

LARGEST = 1e-5
"""What actions may differ by: float32 in another order of additions; anything more is another policy."""
OWN = 5e-6
"""What a policy's own actions may move by when its input changes in the last digit; who moves more may differ more."""
MOST = 10.0
"""How many times as much, at most."""
STEPS = 1000
"""T of every agent that plays."""


class Parity(NamedTuple):
    """How far a file and a recording are apart.

    Attributes:
        steps: Compared, of all agents together.
        single: Largest difference of any action, one row at a time with the memory of the file.
        batch: The same of all rows at once, for the agent whom the file was made for, in the first step of an episode.
    """

    steps: int
    single: float
    batch: float

    @property
    def largest(self) -> float:
        """Of both."""
        return max(self.single, self.batch)


def difference(said: dict[str, Any], done: np.ndarray) -> float:
    """How far the actions that a file says are from those that were done: (N, A) numbers, or (N,) choices.

    Choices differ by as much as the file thinks its own to be better, which rounding makes next to nothing; by 1 where
    it does not tell.
    """
    action = said["action"]
    if action.shape != done.shape:
        return math.inf
    if not np.issubdtype(done.dtype, np.integer):
        far = np.abs(action.astype(np.float64) - done)
        return math.inf if np.isnan(far).any() else float(far.max())
    rows = np.flatnonzero(action != done)
    if not len(rows):
        return 0.0
    if "logits" not in said:
        return 1.0
    logits = said["logits"].astype(np.float64)
    return float((logits[rows, action[rows]] - logits[rows, done[rows]]).max())


def compare(recording: Recording, runners: Sequence[Runner], first: Callable[[np.ndarray], np.ndarray]) -> Parity:
    """Feed a file with what was seen.

    Args:
        recording: What was seen and done.
        runners: The file as each of the M agents; the first is the one whom it was made for.
        first: What that one does with observations (N, O) in the first step of an episode.

    Raises:
        Mistake: When they are further apart than `LARGEST`, in proportion more for a policy that moves more than `OWN`.
    """
    obs, actions, ended = recording.obs.numpy(), recording.actions.numpy(), recording.done.numpy()
    single = 0.0
    for row, runner in enumerate(runners):
        for t in range(len(obs)):
            single = max(single, difference(runner.outputs(obs[t, row : row + 1]), actions[t, row : row + 1]))
            if ended[t, row]:
                runner.reset()
    everything = obs.reshape(-1, obs.shape[-1])
    runners[0].reset()
    parity = Parity(ended.size, single, difference(runners[0].outputs(everything), first(everything)))
    allowed = LARGEST
    if parity.largest > LARGEST and not np.issubdtype(actions.dtype, np.integer):
        moved = np.abs(first(everything * np.float32(1 + 2**-23)) - first(everything)).max()
        allowed *= min(max(1.0, float(moved) / OWN), MOST)
    if not parity.largest <= allowed:
        raise Mistake(
            f"export: the file acts unlike the run: actions differ by {parity.largest:.3g} in {parity.steps} steps of"
            f" play, more than {allowed:.3g}; nothing was written. Please report this with the run's config.yaml"
        )
    return parity
