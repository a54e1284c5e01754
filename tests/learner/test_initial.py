"""What a new network begins with. Shape legend: K agents, O observation, A action, Z gene, H units."""

from typing import Any

import pytest
import torch
from torch import nn

from epo_lightning.learner.actor_critic import ActorCriticSettings
from epo_lightning.learner.initial import GeneInitialSettings, InitialSettings, begin_with, scale_first_actions
from epo_lightning.learner.networks import LatentActorCritic, NetworkSettings
from epo_lightning.learner.stacked_networks import StackedActorCritic
from epo_lightning.learner.trunks import MLPTrunk
from epo_lightning.limits import Mistake

K, O, A, Z, H = 3, 4, 2, 12, 64


def network(initial: GeneInitialSettings, **settings: Any) -> LatentActorCritic:
    torch.manual_seed(0)
    policy = LatentActorCritic(O, A, K, NetworkSettings(**{"gene_dim": Z, "hidden": (H, 8), **settings}))
    begin_with(policy, initial)
    return policy


def first(policy: LatentActorCritic) -> nn.Linear:
    assert isinstance(policy.actor, MLPTrunk)
    return policy.actor.first()


def test_by_default_nothing_changes() -> None:
    new, plain = network(GeneInitialSettings()), LatentActorCritic
    torch.manual_seed(0)
    for name, value in plain(O, A, K, NetworkSettings(gene_dim=Z, hidden=(H, 8))).state_dict().items():
        assert torch.equal(new.state_dict()[name], value), name


@pytest.mark.parametrize("separate_critic", [False, True])
def test_own_fan_in_by_hand(separate_critic: bool) -> None:
    joint = network(GeneInitialSettings(), separate_critic=separate_critic)
    own = network(GeneInitialSettings(fan_in="own"), separate_critic=separate_critic)
    trunks = zip([joint.actor, joint.critic], [own.actor, own.critic], strict=True)
    for old, new in trunks:
        if old is None:
            continue
        assert isinstance(old, MLPTrunk)
        assert isinstance(new, MLPTrunk)
        # 1 / sqrt(16) becomes 1 / sqrt(4) for the observation and the bias, 1 / sqrt(12) for the gene
        torch.testing.assert_close(new.first().weight[:, :O], 2.0 * old.first().weight[:, :O])
        torch.testing.assert_close(new.first().bias, 2.0 * old.first().bias)
        torch.testing.assert_close(new.first().weight[:, O:], (4 / 12**0.5) * old.first().weight[:, O:])
        bound = float(new.first().weight[:, :O].detach().abs().max())
        assert 0.49 < bound <= 0.5
        assert torch.equal(new.mlp[2].weight, old.mlp[2].weight)  # type: ignore[arg-type]


def test_one_agent_without_a_gene_has_only_one_fan_in() -> None:
    torch.manual_seed(0)
    plain = LatentActorCritic(O, A, 1, NetworkSettings(gene_dim=0, hidden=(H,)))
    weight = first(plain).weight.detach().clone()
    begin_with(plain, GeneInitialSettings(fan_in="own", gene_gain=3.0))
    assert torch.equal(first(plain).weight, weight)


def test_gains() -> None:
    plain, new = network(GeneInitialSettings()), network(GeneInitialSettings(gene_gain=0.5, action_gain=4.0))
    torch.testing.assert_close(first(new).weight[:, O:], 0.5 * first(plain).weight[:, O:])
    assert torch.equal(first(new).weight[:, :O], first(plain).weight[:, :O])
    torch.testing.assert_close(new.action_head.weight, 4.0 * plain.action_head.weight)
    assert torch.equal(new.action_head.bias, plain.action_head.bias)
    assert torch.equal(new.value_head.weight, plain.value_head.weight)


def test_the_gain_of_networks_that_share_nothing() -> None:
    torch.manual_seed(0)
    policy = StackedActorCritic(O, A, 3, ActorCriticSettings(hidden=(H,)))
    before = {name: value.clone() for name, value in policy.state_dict().items()}
    scale_first_actions(policy, InitialSettings(action_gain=4.0))
    for name, value in policy.state_dict().items():
        wanted = 4.0 * before[name] if name == "action_head.weight" else before[name]
        torch.testing.assert_close(value, wanted, msg=name)


@pytest.mark.parametrize("variant", [{"lstm_units": 5}, {"hidden": ()}])
def test_only_a_linear_first_layer_has_a_fan_in(variant: dict[str, Any]) -> None:
    plain = network(GeneInitialSettings(), **variant)
    new = network(GeneInitialSettings(fan_in="own", gene_gain=0.5), **variant)
    for name, value in plain.state_dict().items():
        assert torch.equal(new.state_dict()[name], value), name


@pytest.mark.parametrize("name", ["gene_gain", "action_gain"])
def test_a_gain_is_not_negative(name: str) -> None:
    with pytest.raises(Mistake, match=rf"model\.initial\.{name} must be at least 0, got -1"):
        GeneInitialSettings(**{name: -1.0})  # type: ignore[arg-type]
