"""The hybrid losses of EPO; pure functions on one minibatch.

Shape legend: B samples (or T, B for sequences), A action entries, K agents.

A sample is on-policy (its own agent acted) or off-policy (a follower acted, the master learns from it). Both kinds
share every formula: the off-policy surrogate (EPO eq. 4) is PPO's (EPO eq. 2) of r / mu and mu A, and on-policy mu = 1.
Where followers are coupled to the master, a third kind (the master acted, a follower learns from it) has another loss.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from epo_lightning.algorithm.batch import RolloutBatch
from epo_lightning.algorithm.coupling import coupling_loss
from epo_lightning.algorithm.distributions import ActionDistribution
from epo_lightning.limits import require_range

LOG_RATIO_MAX = 40.0
"""exp() of more than 88 overflows float32; no surrogate is meant to depend on a ratio of e^40."""


@dataclass(frozen=True)
class LossSettings:
    """Weights and bounds of the hybrid loss.

    Args:
        clip_eps: Epsilon of the clipped surrogate.
        off_policy_clip: Centre of the clip of off-policy samples: `centered` around mu (EPO eq. 4) or `unit` around 1
            (the released code), with which a sample moves the master towards its follower or not at all.
        dual_clip: Bound c of r / mu where the advantage is negative, greater than 1, whatever the centre of the clip;
            null for none.
        off_policy_weight: Lambda, weight of off-policy samples in the actor's and the critic's loss.
        value_coefficient: c_v; the critic's loss enters with 0.5 c_v.
        value_clip_eps: Clip of the value around its old value, in normalised units; null for none.
        entropy_scale: The first follower's entropy coefficient is half of this, falling to 0 for the master.
        entropy_floor: Added to every agent's entropy coefficient, the master's too.
        bound_coefficient: Weight of the squared excess of action means over +-1.1.
        coupling_coefficient: Beta, weight with which every follower imitates the master's good actions (CPO); 0: not.
        coupling_temperature: Lambda, in standard deviations of the advantage: the smaller, the more only the best of
            the master's actions count.
    """

    clip_eps: float = 0.2
    off_policy_clip: Literal["centered", "unit"] = "centered"
    dual_clip: float | None = None
    off_policy_weight: float = 1.0
    value_coefficient: float = 2.0
    value_clip_eps: float | None = 0.2
    entropy_scale: float = 0.0
    entropy_floor: float = 0.0
    bound_coefficient: float = 1e-4
    coupling_coefficient: float = 0.0
    coupling_temperature: float = 0.2

    def __post_init__(self) -> None:
        require_range("model.loss.clip_eps", self.clip_eps, 0, 1, open_low=True)
        if self.dual_clip is not None:
            require_range("model.loss.dual_clip", self.dual_clip, 1, open_low=True)
        if self.value_clip_eps is not None:
            require_range("model.loss.value_clip_eps", self.value_clip_eps, 0, open_low=True)
        require_range("model.loss.coupling_temperature", self.coupling_temperature, 0, open_low=True)
        for name in (
            "off_policy_weight",
            "value_coefficient",
            "entropy_scale",
            "entropy_floor",
            "bound_coefficient",
            "coupling_coefficient",
        ):
            require_range(f"model.loss.{name}", getattr(self, name), 0)


DIAGNOSTICS = ("policy_loss", "value_loss", "bound_loss", "entropy", "approx_kl", "clip_fraction")
"""What `HybridLoss.diagnostics` holds, in this order."""
COUPLING_DIAGNOSTICS = (*DIAGNOSTICS, "coupling_loss")
"""The same where followers are coupled to the master."""


class HybridLoss(NamedTuple):
    """The loss of one minibatch, () with a gradient, and the on-policy means of `DIAGNOSTICS`, (6,) without.

    Where followers are coupled to the master, the mean of the coupling loss stands behind them.
    """

    total: Tensor
    diagnostics: Tensor


def hybrid_loss(
    policy: ActionDistribution,
    values: Tensor,
    batch: RolloutBatch,
    settings: LossSettings,
    entropy_coefficient: Tensor,
    coupling: float = 0.0,
) -> HybridLoss:
    """Actor + 0.5 c_v critic - c_ent H + c_b bound, over on- and off-policy samples (EPO eq. 4, eq. 5 and eq. 10).

    Args:
        policy: What the network says of the batch's actions.
        values: (...,) its normalised values.
        batch: The minibatch.
        settings: Weights and bounds.
        entropy_coefficient: (B,) of each sample's agent.
        coupling: Weight of the mean coupling loss; 0 where no sample is the master's under a follower.
    """
    log_probs = policy.log_prob(batch.actions)
    if settings.off_policy_clip == "centered":
        # EPO eq. 4: min(r A, clip(r, mu (1 - eps), mu (1 + eps)) A) = min(r/mu mu A, clip(r/mu, 1 - eps, 1 + eps) mu A)
        new_over_old = log_probs - (batch.log_probs + batch.log_mu)
        mu: Tensor | float = 1.0
        log_ratio, advantages = new_over_old, batch.advantages * batch.log_mu.exp()
    else:
        log_ratio, advantages, mu = log_probs - batch.log_probs, batch.advantages, batch.log_mu.exp()
        new_over_old = log_ratio - batch.log_mu
    ratio = log_ratio.clamp(max=LOG_RATIO_MAX).exp()
    largest_ratio = None if settings.dual_clip is None else settings.dual_clip * mu
    surrogate = clipped_surrogate(ratio, advantages, settings.clip_eps, largest_ratio)
    critic = value_loss(values, batch.targets, batch.values, settings.value_clip_eps)
    bound, entropy = policy.bound_loss(), policy.entropy()
    samples = surrogate.add(critic, alpha=0.5 * settings.value_coefficient).add(bound, alpha=settings.bound_coefficient)
    samples = samples.addcmul(entropy_coefficient, entropy, value=-1)
    if coupling:
        coupled = batch.coupled()
        imitation = masked_mean(coupling_loss(log_probs, batch.advantages, settings.coupling_temperature), coupled)
        samples = torch.where(batch.off_policy, settings.off_policy_weight * samples, samples)
        total = masked_mean(samples, ~coupled) + coupling * imitation
    else:
        total = hybrid_mean(samples, batch.off_policy, settings.off_policy_weight)
    with torch.no_grad():
        approx_kl = approximate_kl(new_over_old)
        clipped = (new_over_old.expm1().abs() > settings.clip_eps).to(values.dtype)
        terms = torch.stack([surrogate, critic, bound, entropy.expand_as(bound), approx_kl, clipped])
        diagnostics = on_policy_means(terms, batch.off_policy)
        return HybridLoss(total, torch.cat([diagnostics, imitation[None]]) if coupling else diagnostics)


def clipped_surrogate(
    ratio: Tensor, advantages: Tensor, clip_eps: float | Tensor, bound: Tensor | float | None = None
) -> Tensor:
    """Negative clipped objective per sample (EPO eq. 2): -min(r A, clip(r, 1 - eps, 1 + eps) A).

    With `bound` b it is at most -b A where A < 0. The dual clip of factor c (arXiv 1912.09729) is b = c times the ratio
    before the first update: a bad action pulls until it is c times as likely as it was when the rollout was made.
    Without a bound its loss grows with the ratio for ever.

    Args:
        ratio: (...,) r = pi(a|s, phi_agent) / pi_old(a|s, phi_j), or r / mu with advantages mu A.
        advantages: (...,).
        clip_eps: epsilon; a tensor of (...,) where it is not the same for all.
        bound: (...,) or a number: b, the largest ratio that counts where A < 0; None for none.
    """
    clipped = ratio.clamp(1 - clip_eps, 1 + clip_eps)  # type: ignore[arg-type]
    loss = -torch.minimum(ratio * advantages, clipped * advantages)
    if bound is None:
        return loss
    return torch.where(advantages < 0, torch.minimum(loss, -bound * advantages), loss)


def value_loss(values: Tensor, targets: Tensor, old_values: Tensor, clip_eps: float | None) -> Tensor:
    """Squared error per sample: (V - target)^2 of on-policy (EPO eq. 7) and of off-policy samples (EPO eq. 9) alike.

    With `clip_eps` the worse of it and the error of V clipped around the old value.
    """
    error = (values - targets).square()
    if clip_eps is None:
        return error
    clipped = old_values + (values - old_values).clamp(-clip_eps, clip_eps)
    return torch.maximum(error, (clipped - targets).square())


def entropy_coefficients(num_agents: int, scale: float, floor: float = 0.0) -> Tensor:
    """(K,) c_ent: the first follower has floor + 0.5 `scale`, falling linearly to the master's `floor` (SAPG)."""
    coefficients = torch.full((num_agents,), floor)
    # from the first follower down to the master, who would be the last of them: he is agent 0 here
    coefficients[1:] += torch.linspace(0.5 * scale, 0.0, num_agents)[:-1]
    return coefficients


def hybrid_mean(samples: Tensor, off_policy: Tensor, off_policy_weight: float) -> Tensor:
    """(sum over on-policy + lambda * sum over off-policy) / (n_on + n_off) (EPO eq. 5 and eq. 10)."""
    if off_policy_weight == 1.0:
        return samples.mean()
    return torch.where(off_policy, off_policy_weight * samples, samples).mean()


def masked_mean(samples: Tensor, kept: Tensor) -> Tensor:
    """() mean of the samples (..., B) that are `kept` (B,); 0 when there are none."""
    mask = kept.expand_as(samples)
    return torch.where(mask, samples, 0.0).sum() / mask.sum().clamp(min=1)


def on_policy_means(terms: Tensor, off_policy: Tensor) -> Tensor:
    """(M,) means of terms (M, ..., B) over the on-policy samples only; 0 when there are none."""
    kept = (~off_policy).expand_as(terms[0])
    return torch.where(kept, terms, 0.0).flatten(1).sum(1) / kept.sum().clamp(min=1)


def approximate_kl(log_ratio: Tensor) -> Tensor:
    """(...,) r - 1 - log r: an estimate of KL(pi_old || pi) that is never negative (Schulman's k3)."""
    return torch.expm1(log_ratio) - log_ratio
