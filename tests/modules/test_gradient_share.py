"""Both parts of a gradient, against two batches that are learnt from one after the other. B samples."""

from typing import Any

import pytest
import torch
from torch import Tensor

from epo_lightning.algorithm.batch import RolloutBatch
from epo_lightning.algorithm.losses import LossSettings, hybrid_loss
from epo_lightning.learner.networks import LatentActorCritic, NetworkSettings
from epo_lightning.modules.gradient_share import gradient_share

B, O, A, K = 24, 3, 2, 3


def batch(off_policy: Tensor) -> RolloutBatch:
    torch.manual_seed(1)
    values = torch.randn(6, B)
    return RolloutBatch(
        obs=torch.randn(B, O),
        actions=torch.randn(B, A),
        agent_ids=torch.where(off_policy, 0, torch.arange(B) % K),
        log_probs=-2.0 + 0.1 * values[0],
        log_mu=torch.where(off_policy, 0.1 * values[1], 0.0),
        values=values[2],
        targets=values[3],
        advantages=values[4],
        off_policy=off_policy,
        states=torch.zeros(0, B, 0),
        resets=off_policy,
    )


def rows(whole: RolloutBatch, kept: Tensor) -> RolloutBatch:
    """Only the samples `kept` (B,)."""
    fields = {name: value[:, kept] if name == "states" else value[kept] for name, value in whole._asdict().items()}
    return RolloutBatch(**fields)


def network() -> LatentActorCritic:
    torch.manual_seed(0)
    return LatentActorCritic(O, A, K, NetworkSettings(gene_dim=4, hidden=(8,)))


@pytest.mark.parametrize("settings", [{}, {"off_policy_weight": 0.3, "entropy_scale": 0.1}])
def test_by_hand(settings: dict[str, Any]) -> None:
    policy, loss = network(), LossSettings(**settings)
    off_policy = torch.arange(B) % 3 == 0
    whole = batch(off_policy)

    def part(kept: Tensor) -> Tensor:
        """The samples' share of the gradient of the mean over all of them."""
        some = rows(whole, kept)
        output = policy(some.obs, policy.express(some.agent_ids), some.states, some.resets)
        total = hybrid_loss(output.actions, output.value, some, loss, torch.full((len(some.obs),), 0.05)).total
        return torch.cat([g.flatten() for g in torch.autograd.grad(total, list(policy.parameters()))]) * len(
            some.obs
        ) / B  # fmt: skip

    on, off = part(~off_policy), part(off_policy)
    told = gradient_share(policy, whole, loss, torch.full((B,), 0.05))
    assert told.share.item() == pytest.approx((off.norm() / (on.norm() + off.norm())).item(), rel=1e-4)
    assert told.cosine.item() == pytest.approx((on @ off / (on.norm() * off.norm())).item(), abs=1e-4)
    assert 0.05 < told.share.item() < 0.95


def test_no_gradient_stays_behind() -> None:
    policy = network()
    gradient_share(policy, batch(torch.arange(B) % 3 == 0), LossSettings(), torch.zeros(B))
    assert all(parameter.grad is None for parameter in policy.parameters())


def test_without_others_samples_there_is_no_share() -> None:
    told = gradient_share(network(), batch(torch.zeros(B, dtype=torch.bool)), LossSettings(), torch.zeros(B))
    assert told.share.item() == 0
    assert told.cosine.isnan()
