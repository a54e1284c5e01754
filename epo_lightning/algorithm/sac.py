"""The losses of soft actor-critic (arXiv 1812.05905); pure functions on one minibatch.

Shape legend: C critics, B samples, A action entries, M atoms.

Returns are soft: every state is worth alpha times the policy's entropy on top of its rewards.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from epo_lightning.algorithm.q_values import QValues
from epo_lightning.algorithm.squashed import LOG_2
from epo_lightning.limits import require_range


@dataclass(frozen=True)
class SACLossSettings:
    """Targets and entropy of soft actor-critic.

    Args:
        gamma: Discount.
        tau: Share of the critics' weights that moves into their target nets after each update.
        bootstrap: Which of the two critics are believed: `own` each its own target net, and the actor their mean;
            `min` always the smaller, as in classic SAC.
        temperature: Initial alpha, the worth of a nat of entropy; it then follows `target_entropy`.
        target_entropy: Entropy that the policy is held at, in nats per action entry.
    """

    gamma: float = 0.97
    tau: float = 0.125
    bootstrap: Literal["own", "min"] = "own"
    temperature: float = 1e-3
    target_entropy: float = 0.0

    def __post_init__(self) -> None:
        require_range("model.loss.gamma", self.gamma, 0, 1)
        require_range("model.loss.tau", self.tau, 0, 1, open_low=True)
        require_range("model.loss.temperature", self.temperature, 0, open_low=True)
        require_range("model.loss.target_entropy (actions in [-1, 1] have no more)", self.target_entropy, high=LOG_2)


def critic_targets(
    next_values: QValues,
    next_log_probs: Tensor,
    rewards: Tensor,
    terminated: Tensor,
    temperature: Tensor,
    settings: SACLossSettings,
) -> Tensor:
    """R + gamma (1 - terminated) (Q'(s', a') - alpha log pi(a'|s')), for actions a' that the policy draws in s'.

    Args:
        next_values: (C, B) Q'(s', a') of the target nets.
        next_log_probs: (B,) log pi(a'|s').
        rewards: (B,).
        terminated: (B,) bool; what was truncated goes on in s'.
        temperature: () alpha.
        settings: See `SACLossSettings`.

    Returns:
        What `next_values.loss` compares with: (C, B) numbers, (C, B, M) probabilities; one row for all critics instead
        of C where the smaller one is believed.
    """
    believed = next_values.smallest() if settings.bootstrap == "min" else next_values
    discount = settings.gamma * (~terminated).to(rewards.dtype)
    return believed.targets(rewards, discount, -temperature * next_log_probs)


def actor_loss(values: QValues, log_probs: Tensor, temperature: Tensor, settings: SACLossSettings) -> Tensor:
    """() mean of alpha log pi(a|s) - Q(s, a), for actions a that the policy draws in s, with a gradient.

    Args:
        values: (C, B) Q(s, a).
        log_probs: (B,) log pi(a|s).
        temperature: () alpha, a constant here.
        settings: See `SACLossSettings`.
    """
    believed = values.mean().amin(0) if settings.bootstrap == "min" else values.mean().mean(0)
    return (temperature.detach() * log_probs - believed).mean()


def temperature_loss(log_temperature: Tensor, log_probs: Tensor, settings: SACLossSettings, act_dim: int) -> Tensor:
    """() alpha times what the policy's entropy exceeds its target by: alpha falls where there is too much of it.

    Args:
        log_temperature: () log alpha, what is learnt.
        log_probs: (B,) log pi(a|s); their negative mean is the entropy. Constant here.
        settings: See `SACLossSettings`.
        act_dim: A.
    """
    excess = -log_probs.detach().mean() - settings.target_entropy * act_dim
    return log_temperature.exp() * excess


@torch.no_grad()
def polyak_average(targets: Sequence[Tensor], sources: Sequence[Tensor], tau: float) -> None:
    """Target <- (1 - tau) target + tau source, in place, for all of them at once."""
    torch._foreach_lerp_(list(targets), list(sources), tau)
