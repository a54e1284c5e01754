"""Returns over windows of n env steps, cut where an episode ends.

Shape legend: n steps of a window, the oldest first; N environments.
"""

from typing import NamedTuple

import torch
from torch import Tensor


class Windows(NamedTuple):
    """What windows come to.

    Attributes:
        returns: (N,) discounted sum of the rewards of the first episode in the window.
        discount: (N,) what the return behind the window counts: gamma^m after m steps, 0 where nothing follows.
        last: (N,) int64, the number m - 1 of the last step that counts.
    """

    returns: Tensor
    discount: Tensor
    last: Tensor


def n_step_windows(rewards: Tensor, terminated: Tensor, ended: Tensor, gamma: float) -> Windows:
    """Sum r_0 + gamma r_1 + ... up to the first step that ends an episode, and at most over the whole window.

    Where a time limit ended it, the return goes on behind that very step, with its own power of gamma.

    Args:
        rewards: (n, N).
        terminated: (n, N) bool, nothing follows.
        ended: (n, N) bool, the next step belongs to another episode.
        gamma: Discount of a step.
    """
    counts = torch.ones_like(ended)
    counts[1:] = ~ended[:-1].cummax(0).values if len(ended) > 1 else counts[1:]
    powers = gamma ** torch.arange(len(rewards) + 1, device=rewards.device, dtype=rewards.dtype)
    returns = torch.where(counts, rewards * powers[:-1, None], 0.0).sum(0)
    last = counts.sum(0) - 1
    dead = terminated.gather(0, last[None])[0]
    return Windows(returns, torch.where(dead, 0.0, powers[last + 1]), last)
