"""The actor of Parallel Q-Learning. Shape legend: N rows, O observation, A action."""

from typing import Any

import pytest
import torch
from torch import nn

from epo_lightning.learner.deterministic import DeterministicActor, PQLNetworkSettings
from epo_lightning.limits import Mistake

OBS, ACT = 5, 2


def actor() -> DeterministicActor:
    torch.manual_seed(0)
    return DeterministicActor(OBS, ACT, PQLNetworkSettings(actor=(8, 6)))


def test_layers() -> None:
    assert [type(layer) for layer in actor().mlp] == [nn.Linear, nn.ELU, nn.Linear, nn.ELU, nn.Linear]


def test_it_acts_by_tanh_on_normalised_observations_and_draws_nothing() -> None:
    policy = actor()
    policy.obs_moments.update(torch.randn(64, OBS) * 7 + 3)
    obs, agents, state = torch.randn(6, OBS) * 7 + 3, torch.zeros(6, dtype=torch.long), policy.initial_state(6)
    actions, after = policy.act(obs, agents, state)
    seen = (obs - policy.obs_moments.mean.float()) / (policy.obs_moments.var + 1e-4).sqrt().float()
    torch.testing.assert_close(actions, policy.mlp(seen.clamp(-5, 5)).tanh())
    assert actions.shape == (6, ACT)
    assert not actions.requires_grad
    assert after is state
    assert torch.equal(policy.act(obs, agents, state, torch.Generator().manual_seed(0))[0], actions)


def test_gradients_reach_every_parameter() -> None:
    policy = actor()
    policy(torch.randn(16, OBS)).sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in policy.parameters())


@pytest.mark.parametrize(
    "changes",
    [{"actor": (0,)}, {"critic": (8, 0)}, {"atoms": 1}, {"atoms": 3, "value_max": -10.0}, {"obs_clip": 0.0}],
    ids=str,
)
def test_out_of_range(changes: dict[str, Any]) -> None:
    with pytest.raises(Mistake, match=rf"model\.network\.{[*changes][-1]} must be"):
        PQLNetworkSettings(**changes)
