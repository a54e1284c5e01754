"""What a policy says of the next action, and how a rollout draws from it.

Shape legend: N environments, T horizon, B samples (T, B for sequences, written ...), A action entries or choices.

Both kinds answer the same questions, so that losses and targets need not know which one they have. A stored action is
a float tensor (..., E): E = A entries of a continuous action, E = 1, the number of the choice, of a discrete one.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from epo_lightning.algorithm.ties import first_best

HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)
ALL = slice(None)


class Gaussian(NamedTuple):
    """Independent Gaussians over the entries of an action: `mean` (..., A), `log_std` (B, A)."""

    mean: Tensor
    log_std: Tensor

    def log_prob(self, actions: Tensor) -> Tensor:
        """(...,) log density of `actions` (..., A)."""
        noise = (actions - self.mean) * torch.exp(-self.log_std)
        # -1/2 z^2 - log sigma - 1/2 log 2 pi, each summed over the action's entries
        return -0.5 * noise.square().sum(-1) - (self.log_std.sum(-1) + HALF_LOG_2PI * self.log_std.shape[-1])

    def entropy(self) -> Tensor:
        """(B,) entropy in nats: sum of log sigma + 1/2 + 1/2 log 2 pi."""
        return self.log_std.sum(-1) + (0.5 + HALF_LOG_2PI) * self.log_std.shape[-1]

    def bound_loss(self, soft_bound: float = 1.1) -> Tensor:
        """(...,) squared excess of the means over +-`soft_bound`: actions are clipped to [-1, 1] by the rollout."""
        return functional.softshrink(self.mean, soft_bound).square().sum(-1)

    def mode(self) -> Tensor:
        """(..., A) the likeliest actions as the environment takes them."""
        return self.mean.clamp(-1, 1)

    def draw(self, generator: torch.Generator) -> Tensor:
        """(..., A) one draw, as the environment takes it."""
        noise = torch.empty_like(self.mean).normal_(generator=generator)
        return (self.mean + self.log_std.exp() * noise).clamp(-1, 1)

    def steps(self, count: int) -> "Gaussian":
        """Of the first `count` steps of a sequence."""
        return Gaussian(self.mean[:count], self.log_std)

    def halves(self) -> tuple["Gaussian", "Gaussian"]:
        """Of the first and of the second half of 2 B samples."""
        (mean, other), (log_std, other_log_std) = self.mean.chunk(2), self.log_std.chunk(2)
        return Gaussian(mean, log_std), Gaussian(other, other_log_std)

    def kl(self, other: "Gaussian") -> Tensor:
        """(...,) KL(self || other) in nats, of the unclipped actions."""
        # log s_q - log s_p + (s_p^2 + (m_p - m_q)^2) / (2 s_q^2) - 1/2, summed over the action's entries
        log_ratio = self.log_std - other.log_std
        distance = (self.mean - other.mean) * torch.exp(-other.log_std)
        return (0.5 * ((2 * log_ratio).exp() + distance.square() - 1) - log_ratio).sum(-1)


class Categorical(NamedTuple):
    """One of A choices: `logits` (..., A)."""

    logits: Tensor

    def log_prob(self, actions: Tensor) -> Tensor:
        """(...,) log probability of the choices `actions` (..., 1)."""
        return self.logits.log_softmax(-1).gather(-1, actions.long()).squeeze(-1)

    def entropy(self) -> Tensor:
        """(...,) entropy in nats: - sum p log p."""
        log_probs = self.logits.log_softmax(-1)
        return -(log_probs.exp() * log_probs).sum(-1)

    def bound_loss(self) -> Tensor:
        """(...,) zeros: choices have no bounds."""
        return torch.zeros_like(self.logits[..., 0])

    def mode(self) -> Tensor:
        """(...,) int64, the likeliest choices; of equally likely ones the first."""
        return first_best(self.logits)

    def draw(self, generator: torch.Generator) -> Tensor:
        """(...,) int64, one draw: argmax of logits + Gumbel noise, where Gumbel = -log(Exponential)."""
        gumbel = torch.empty_like(self.logits).exponential_(generator=generator).log_().neg_()
        return (self.logits + gumbel).argmax(-1)

    def steps(self, count: int) -> "Categorical":
        """Of the first `count` steps of a sequence."""
        return Categorical(self.logits[:count])

    def halves(self) -> tuple["Categorical", "Categorical"]:
        """Of the first and of the second half of 2 B samples."""
        logits, other = self.logits.chunk(2)
        return Categorical(logits), Categorical(other)

    def kl(self, other: "Categorical") -> Tensor:
        """(...,) KL(self || other) in nats: sum of p (log p - log q)."""
        log_probs = self.logits.log_softmax(-1)
        return (log_probs.exp() * (log_probs - other.logits.log_softmax(-1))).sum(-1)


ActionDistribution = Gaussian | Categorical


class GaussianSampler:
    """Draws the noise of a whole rollout at once, into the buffer of its actions.

    Args:
        actions: (T, N, A) where the actions go, unclipped.
        log_probs: (T, N) where their log densities go.
        log_std: (N, A) of the agents that act.
        generator: Source of randomness.
    """

    def __init__(self, actions: Tensor, log_probs: Tensor, log_std: Tensor, generator: torch.Generator) -> None:
        noise = actions.normal_(generator=generator)
        # log N(mean + std z; mean, std) = -z^2 / 2 - log std - log 2 pi / 2
        log_probs.copy_(-0.5 * noise.square().sum(-1) - (log_std + HALF_LOG_2PI).sum(-1))
        self.actions, self.std = actions, log_std.exp()

    def sample(self, t: int, policy: Gaussian, columns: slice = ALL) -> Tensor:
        """(N, A) actions of step t, as the environment takes them; of some environments alone, in `columns`."""
        return self.actions[t, columns].mul_(self.std[columns]).add_(policy.mean).clamp(-1, 1)


class CorrelatedSampler(GaussianSampler):
    """Noise that goes on from step to step: z_t = beta z_t-1 + sqrt(1 - beta^2) eps_t, and N(0, 1) in every step.

    It starts anew with every rollout and every episode. Log densities are the marginal ones, of one step by itself: so
    are then the ratios of the losses.

    Args:
        actions: (T, N, A) where the actions go, unclipped.
        log_probs: (T, N) where their log densities go.
        log_std: (N, A) of the agents that act.
        generator: Source of randomness; it draws as many numbers as without correlation.
        correlation: (N,) beta of each.
        resets: (T + 1, N) bool, an episode starts with this step: written while the rollout is made.
    """

    def __init__(
        self,
        actions: Tensor,
        log_probs: Tensor,
        log_std: Tensor,
        generator: torch.Generator,
        correlation: Tensor,
        resets: Tensor,
    ) -> None:
        super().__init__(actions, log_probs, log_std, generator)
        self.log_probs, self.correlation, self.resets = log_probs, correlation, resets
        self._noise = torch.zeros_like(actions[0])
        self._log_scale = (log_std + HALF_LOG_2PI).sum(-1)

    def sample(self, t: int, policy: Gaussian, columns: slice = ALL) -> Tensor:
        """(N, A) actions of step t, as the environment takes them; of some environments alone, in `columns`."""
        noise = self.actions[t, columns]
        if t:
            beta = torch.where(self.resets[t, columns], 0.0, self.correlation[columns])[:, None]
            noise.mul_((1 - beta.square()).sqrt()).add_(beta * self._noise[columns])
            self.log_probs[t, columns] = -0.5 * noise.square().sum(-1) - self._log_scale[columns]
        self._noise[columns] = noise
        return super().sample(t, policy, columns)


class CategoricalSampler:
    """Draws choices step by step; the same arguments as `GaussianSampler`, of which `log_std` is not used."""

    def __init__(self, actions: Tensor, log_probs: Tensor, log_std: Tensor, generator: torch.Generator) -> None:
        self.actions, self.log_probs, self.generator = actions, log_probs, generator

    def sample(self, t: int, policy: Categorical, columns: slice = ALL) -> Tensor:
        """(N,) int64 choices of step t; of some environments alone, in `columns`."""
        choices = policy.draw(self.generator)
        self.actions[t, columns] = choices[:, None]
        self.log_probs[t, columns] = policy.log_prob(self.actions[t, columns])
        return choices


Sampler = GaussianSampler | CategoricalSampler
