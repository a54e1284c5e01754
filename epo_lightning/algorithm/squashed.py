"""A Gaussian squeezed into the range of the actions by tanh.

Shape legend: B samples (any leading dimensions, written ...), A action entries.

Unlike the distributions of `distributions`, whose actions are clipped on their way to the environment, this one has its
whole mass inside of (-1, 1), and draws with a gradient: a loss of the drawn action pulls at mean and log-std.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from epo_lightning.algorithm.distributions import HALF_LOG_2PI

LOG_2 = math.log(2.0)
"""Entropy of the uniform distribution over [-1, 1], per entry: no action distribution has more."""


class Draw(NamedTuple):
    """Actions (..., A) in (-1, 1), and their log densities (...,)."""

    actions: Tensor
    log_probs: Tensor


class SquashedGaussian(NamedTuple):
    """tanh(x) of independent Gaussians x: `mean` and `log_std` (..., A)."""

    mean: Tensor
    log_std: Tensor

    def sample(self, generator: torch.Generator) -> Draw:
        """Draw once; the gradient reaches mean and log-std through actions and densities."""
        noise = torch.empty_like(self.mean).normal_(generator=generator)
        return self.place(noise)

    def place(self, noise: Tensor) -> Draw:
        """The draw that standard normal `noise` (..., A) becomes."""
        x = self.mean + self.log_std.exp() * noise
        # log N(x) = -1/2 z^2 - log sigma - 1/2 log 2 pi; log pi(tanh x) = log N(x) - log (1 - tanh(x)^2)
        gaussian = -0.5 * noise.square() - self.log_std - HALF_LOG_2PI
        return Draw(x.tanh(), (gaussian - log_slope(x)).sum(-1))

    def mode(self) -> Tensor:
        """(..., A) tanh of the means: the action without noise."""
        return self.mean.tanh()


def log_slope(x: Tensor) -> Tensor:
    """Log (1 - tanh(x)^2) = 2 (log 2 - x - log (1 + e^-2x)): finite and exact where tanh has long rounded to 1."""
    return 2.0 * (LOG_2 - x - functional.softplus(-2.0 * x))
