"""A population of actors. Shape legend: K agents, B rows of each, N rows, O observation, A action."""

import pytest
import torch
from torch import nn

from epo_lightning.learner.stacked_actor import CEMNetworkSettings, StackedActor
from epo_lightning.limits import Mistake

AGENTS, OBS, ACT = 4, 5, 2


@pytest.fixture
def actor() -> StackedActor:
    torch.manual_seed(0)
    policy = StackedActor(AGENTS, OBS, ACT, CEMNetworkSettings(actor=(8, 6)))
    policy.obs_moments.update(torch.randn(64, OBS) * 7 + 3)
    return policy


def alone(actor: StackedActor, agent: int) -> nn.Sequential:
    """A plain network with the weights of one agent."""
    plain = nn.Sequential(nn.Linear(OBS, 8), nn.Tanh(), nn.Linear(8, 6), nn.Tanh(), nn.Linear(6, ACT), nn.Tanh())
    nn.utils.vector_to_parameters(actor.flat()[agent], plain.parameters())
    return plain


def test_every_agent_acts_as_it_would_alone(actor: StackedActor) -> None:
    obs = torch.randn(AGENTS, 3, OBS)
    said = actor(obs)
    for agent in range(AGENTS):
        torch.testing.assert_close(said[agent], alone(actor, agent)(obs[agent]))
    some = actor(obs[:2], actor.weights(torch.tensor([3, 1])))
    torch.testing.assert_close(some[0], alone(actor, 3)(obs[0]))
    torch.testing.assert_close(some[1], alone(actor, 1)(obs[1]))


@pytest.mark.parametrize("agents", [[2] * 6, [3, 0, 3, 1, 0, 3], [0, 1, 2, 3, 0, 1]])
def test_rows_may_be_of_any_agents_in_any_order(actor: StackedActor, agents: list[int]) -> None:
    obs, state = torch.randn(6, OBS) * 7 + 3, actor.initial_state(6)
    actions, after = actor.act(obs, torch.tensor(agents), state)
    assert after is state
    seen = actor.obs_moments.normalize(obs)
    for row, agent in enumerate(agents):
        torch.testing.assert_close(actions[row], alone(actor, agent)(seen[row]))


def test_flat_parameters_come_back_as_they_were(actor: StackedActor) -> None:
    flat, others = actor.flat(), actor.weights(slice(0, 1))
    assert flat.shape == (AGENTS, OBS * 8 + 8 + 8 * 6 + 6 + 6 * ACT + ACT)
    actor.put_flat(slice(1, 3), flat[2:4] + 1)
    torch.testing.assert_close(actor.flat(), torch.stack([flat[0], flat[2] + 1, flat[3] + 1, flat[3]]))
    actor.put(slice(3, 4), others)
    assert torch.equal(actor.flat()[3], flat[0])
    flat.zero_()  # a copy
    assert actor.flat().abs().sum() > 0


def test_sizes_that_make_no_network() -> None:
    assert CEMNetworkSettings().of_critics.activation == "leaky_relu"
    for changes, key in (({"actor": (0,)}, "actor"), ({"critic": (8, -1)}, "critic"), ({"obs_clip": 0.0}, "obs_clip")):
        with pytest.raises(Mistake, match=f"model.network.{key}"):
            CEMNetworkSettings(**changes)
