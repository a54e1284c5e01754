"""The losses of Parallel Q-Learning (arXiv 2307.12983), DDPG for many environments; pure functions on one minibatch.

Shape legend: C critics, B samples, N environments, A action entries, M atoms.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from epo_lightning.algorithm.q_values import CategoricalValues, QValues
from epo_lightning.limits import require_range

_LEAST = 1e-6
"""Probability below which "not this atom" counts as no less likely: its logarithm has no end."""


@dataclass(frozen=True)
class PQLLossSettings:
    """Targets of Parallel Q-Learning, and of CEM-RL.

    Args:
        gamma: Discount of an env step.
        n_step: Env steps whose rewards are summed before a value takes over.
        tau: Share of the critics' weights that moves into their target nets after each update.
        smoothing_sigma: Standard deviation of the noise on the actions that targets are told of.
        smoothing_clip: That noise is clipped to +-smoothing_clip; 0 for none.
        reward_scale: Rewards are multiplied by it before they are learnt from; what is logged is not.
    """

    gamma: float = 0.99
    n_step: int = 3
    tau: float = 0.05
    smoothing_sigma: float = 0.8
    smoothing_clip: float = 0.2
    reward_scale: float = 1.0

    def __post_init__(self) -> None:
        require_range("model.loss.gamma", self.gamma, 0, 1)
        require_range("model.loss.n_step", self.n_step, 1)
        require_range("model.loss.tau", self.tau, 0, 1, open_low=True)
        require_range("model.loss.smoothing_sigma", self.smoothing_sigma, 0)
        require_range("model.loss.smoothing_clip", self.smoothing_clip, 0)
        require_range("model.loss.reward_scale", self.reward_scale, 0, open_low=True)


def smooth(actions: Tensor, noise: Tensor, settings: PQLLossSettings) -> Tensor:
    """(B, A) `actions` plus clipped noise, in [-1, 1]: a peak of the critics that is narrow is not believed.

    Args:
        actions: (B, A) in [-1, 1].
        noise: (B, A) standard normal.
        settings: See `PQLLossSettings`.
    """
    clip = settings.smoothing_clip
    return (actions + (settings.smoothing_sigma * noise).clamp(-clip, clip)).clamp(-1.0, 1.0)


def critic_targets(next_values: QValues, rewards: Tensor, discount: Tensor, settings: PQLLossSettings) -> Tensor:
    """The least of what the target nets make of R + discount Q'(s', a'), for both critics.

    Of distributions it is the least probability of each atom, after projection: they do not sum up to 1.

    Args:
        next_values: (C, B) Q'(s', a') of the target nets.
        rewards: (B,) R, of n steps.
        discount: (B,) gamma^m; 0 where nothing follows.
        settings: See `PQLLossSettings`.

    Returns:
        (1, B) numbers, or (1, B, M) probabilities.
    """
    targets = next_values.targets(settings.reward_scale * rewards, discount, torch.zeros_like(rewards))
    return targets.amin(0, keepdim=True)


def critic_loss(values: QValues, targets: Tensor) -> Tensor:
    """() squared error of numbers, or binary cross-entropy of every atom; a mean each, summed over the critics.

    Args:
        values: (C, B) Q(s, a).
        targets: Of `critic_targets`.
    """
    if not isinstance(values, CategoricalValues):
        return values.loss(targets)
    log_probs = values.logits.log_softmax(-1)
    log_others = (-torch.expm1(log_probs)).clamp(min=_LEAST).log()
    return -(targets * log_probs + (1.0 - targets) * log_others).mean((1, 2)).sum()


def actor_loss(values: QValues) -> Tensor:
    """() mean of -min Q(s, a), for the actor's actions a, with a gradient.

    Args:
        values: (C, B) Q(s, a).
    """
    return -values.mean().amin(0).mean()


def mixed_sigmas(low: float, high: float, first: int, count: int, total: int) -> Tensor:
    """(N,) standard deviations of the exploration: evenly spaced from `low` to `high` over all environments.

    Args:
        low: That of the first environment of all.
        high: That of the last one.
        first: The number, among all, of the first environment of this rank.
        count: N, environments of this rank.
        total: All environments.
    """
    return torch.linspace(low, high, total)[first : first + count]
