"""The loss of K policies that share nothing, each with coefficients of its own (PPO, arXiv 1707.06347); pure functions.

Shape legend: A policies that learn, B samples of each (T, B for sequences).
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from epo_lightning.algorithm.distributions import ActionDistribution
from epo_lightning.algorithm.losses import LOG_RATIO_MAX, approximate_kl, clipped_surrogate, value_loss
from epo_lightning.limits import require_range


@dataclass(frozen=True)
class IndependentLossSettings:
    """What every policy's loss begins with.

    Args:
        clip_eps: Epsilon of the clipped surrogate.
        value_coefficient: c_v; the critic's loss enters with 0.5 c_v.
        value_clip_eps: Clip of the value around its old value, in normalised units; null for none.
        entropy_coefficient: Weight of the entropy.
        bound_coefficient: Weight of the squared excess of action means over +-1.1.
    """

    clip_eps: float = 0.2
    value_coefficient: float = 2.0
    value_clip_eps: float | None = 0.2
    entropy_coefficient: float = 0.0
    bound_coefficient: float = 1e-4

    def __post_init__(self) -> None:
        require_range("model.loss.clip_eps", self.clip_eps, 0, 1, open_low=True)
        if self.value_clip_eps is not None:
            require_range("model.loss.value_clip_eps", self.value_clip_eps, 0, open_low=True)
        for name in ("value_coefficient", "entropy_coefficient", "bound_coefficient"):
            require_range(f"model.loss.{name}", getattr(self, name), 0)


class IndependentBatch(NamedTuple):
    """A minibatch of each policy's own samples; (A, B, ...), (A, T, B, ...) where samples are sequences.

    Attributes:
        obs: Normalised observations.
        actions: The policy's unclipped samples, or numbers of the choices of a discrete task.
        log_probs: log pi_old(a|s).
        values: Normalised V_old(s).
        targets: Normalised critic targets.
        advantages: Normalised over all samples of the policy.
        states: (S, A, B, H) recurrent state before the first step; S = 0 without an LSTM.
        resets: (A, T, B) bool, an episode starts at this step; None without an LSTM.
    """

    obs: Tensor
    actions: Tensor
    log_probs: Tensor
    values: Tensor
    targets: Tensor
    advantages: Tensor
    states: Tensor
    resets: Tensor | None


class Coefficients(NamedTuple):
    """(A,) float32 each: epsilon of the clip, and weights of entropy, critic and bounds."""

    clip: Tensor
    entropy: Tensor
    critic: Tensor
    bounds: Tensor


DIAGNOSTICS = ("policy_loss", "value_loss", "bound_loss", "entropy", "approx_kl", "clip_fraction")
"""What `IndependentLosses.diagnostics` holds, in this order."""


class IndependentLosses(NamedTuple):
    """The loss of each policy, (A,) with a gradient, and the means of `DIAGNOSTICS`, (6, A) without."""

    total: Tensor
    diagnostics: Tensor


def independent_losses(
    policy: ActionDistribution,
    values: Tensor,
    batch: IndependentBatch,
    coefficients: Coefficients,
    value_clip_eps: float | None,
) -> IndependentLosses:
    """Actor + 0.5 c_v critic - c_ent H + c_b bound of each policy, means over its own samples.

    Args:
        policy: What the networks say of the batch's actions.
        values: (A, B) or (A, T, B) their normalised values.
        batch: The minibatch.
        coefficients: Of each policy.
        value_clip_eps: See `IndependentLossSettings`.
    """
    log_ratio = policy.log_prob(batch.actions) - batch.log_probs
    clip, entropy_weight, critic_weight, bound_weight = (
        each.view(-1, *[1] * (log_ratio.dim() - 1)) for each in coefficients
    )
    surrogate = clipped_surrogate(log_ratio.clamp(max=LOG_RATIO_MAX).exp(), batch.advantages, clip)
    critic = value_loss(values, batch.targets, batch.values, value_clip_eps)
    bound, entropy = policy.bound_loss(), policy.entropy()
    samples = surrogate.addcmul(0.5 * critic_weight, critic).addcmul(bound_weight, bound)
    total = samples.addcmul(entropy_weight, entropy, value=-1).flatten(1).mean(1)
    with torch.no_grad():
        kl, clipped = approximate_kl(log_ratio), (log_ratio.expm1().abs() > clip).to(values.dtype)
        terms = torch.stack([surrogate, critic, bound, entropy.expand_as(bound), kl, clipped])
        return IndependentLosses(total, terms.flatten(2).mean(2))
