"""How much of a gradient comes from other agents' samples, and whether it points where the own ones do.

Shape legend: B samples.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from epo_lightning.algorithm.batch import RolloutBatch
from epo_lightning.algorithm.losses import LossSettings, hybrid_loss
from epo_lightning.experience.ranks import of_all_ranks
from epo_lightning.learner.networks import LatentActorCritic


class GradientShare(NamedTuple):
    """Of the off-policy samples in the gradient of the hybrid loss; () float64 each.

    Attributes:
        share: |g_off| / (|g_on| + |g_off|).
        cosine: Of the angle between g_on and g_off.
    """

    share: Tensor
    cosine: Tensor


def gradient_share(
    policy: LatentActorCritic, batch: RolloutBatch, settings: LossSettings, entropy_coefficient: Tensor
) -> GradientShare:
    """Both parts of the gradient of one minibatch, from one forward pass; with several ranks a collective call.

    The loss is a sum over samples, so g_off is what is missing from the gradient where off-policy samples have the
    weight 0. What couples followers to the master is in neither part.

    Args:
        policy: The network; its gradients are left alone.
        batch: B samples.
        settings: Of the loss.
        entropy_coefficient: (B,).
    """
    parameters = [each for each in policy.parameters() if each.requires_grad]
    output = policy(batch.obs, policy.express(batch.agent_ids), batch.states, batch.resets)
    totals = [
        hybrid_loss(output.actions, output.value, batch, weighted, entropy_coefficient).total
        for weighted in (settings, replace(settings, off_policy_weight=0.0))
    ]
    whole, own = (_flat(torch.autograd.grad(total, parameters, retain_graph=True, allow_unused=True), parameters)
                  for total in totals)  # fmt: skip
    off = whole - own
    products = torch.stack([own @ own, off @ off, own @ off])
    own_square, off_square, product = of_all_ranks(products).mean(0)
    own_norm, off_norm = own_square.sqrt(), off_square.sqrt()
    return GradientShare(off_norm / (own_norm + off_norm), product / (own_norm * off_norm))


def _flat(gradients: Sequence[Tensor | None], parameters: Sequence[nn.Parameter]) -> Tensor:
    """(P,) float64 on end; 0 for what the loss does not depend on."""
    pairs = zip(gradients, parameters, strict=True)
    return torch.cat([torch.zeros_like(p).flatten() if g is None else g.flatten() for g, p in pairs]).double()
