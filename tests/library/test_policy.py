"""Agents of a checkpoint act: on one observation or many, with their memory, and refuse what they cannot read."""

import copy
from typing import Any

import numpy as np
import pytest
import torch

from epo_lightning.learner.networks import LatentActorCritic, NetworkSettings
from epo_lightning.learner.q_networks import SACNetworkSettings, SquashedActor
from epo_lightning.library.policy import Policy
from epo_lightning.limits import Mistake
from epo_lightning.modules.identity import Identity

AGENTS, OBS, ACT = 3, 4, 2


def make(agent: Any = 0, *, lstm_units: int | None = None, discrete: bool = False) -> Policy:  # noqa: ANN401
    torch.manual_seed(0)
    settings = NetworkSettings(gene_dim=3, hidden=(8,), lstm_units=lstm_units, log_std_init=-1.0)
    network = LatentActorCritic(OBS, ACT, AGENTS, settings, discrete)
    network.obs_moments.update(torch.randn(50, OBS) * 3 + 1)
    return Policy(network, Identity("epo", "Task", OBS, ACT, discrete, {}), agent)


def test_one_observation_gives_one_action_and_several_give_several() -> None:
    policy, obs = make(), np.linspace(-1, 1, 5 * OBS).reshape(5, OBS)
    actions = policy(obs)
    assert (actions.shape, actions.dtype) == ((5, ACT), np.float32)
    one = policy(obs[2])
    assert one.shape == (ACT,)
    np.testing.assert_allclose(one, actions[2], rtol=1e-5)
    np.testing.assert_allclose(policy(obs[2].tolist()), one)


def test_actions_are_those_of_the_network_for_raw_observations() -> None:
    policy, obs = make(2), torch.randn(5, OBS)
    network = policy.network
    expected, _ = network.act(obs, torch.full((5,), 2), network.initial_state(5))
    actions = policy(obs.double())
    assert isinstance(actions, torch.Tensor)
    assert torch.equal(actions, expected)
    assert not torch.equal(actions, make(1)(obs))


def test_every_row_may_have_an_agent_of_its_own() -> None:
    obs = torch.randn(1, OBS).expand(AGENTS, OBS)
    actions = make(range(AGENTS))(obs)
    for agent in range(AGENTS):
        torch.testing.assert_close(actions[agent], make(agent)(obs[agent]))


def test_a_choice_is_a_number_that_an_environment_takes() -> None:
    policy = make(discrete=True)
    one, several = policy(np.zeros(OBS)), policy(np.zeros((3, OBS)))
    assert isinstance(one, np.integer)
    assert one in (0, 1)
    assert (several.shape, several.dtype) == ((3,), np.int64)


def test_drawn_actions_spread_as_the_log_std_says_and_repeat_by_seed() -> None:
    policy = make()
    obs = torch.zeros(20_000, OBS)
    mean, drawn = policy(obs)[0], policy(obs, sample=True)
    assert torch.equal(drawn, Policy(policy.network, Identity("epo", "Task", OBS, ACT, False, {}))(obs, sample=True))
    free = drawn[(drawn.abs() < 1).all(1)]
    assert len(free) > 10_000
    torch.testing.assert_close(drawn.median(0).values, mean, atol=0.02, rtol=0)
    # A Gaussian's quartiles are 0.6745 sigma from its middle; sigma = e^-1
    quartile = drawn.quantile(0.75, dim=0) - drawn.quantile(0.5, dim=0)
    torch.testing.assert_close(quartile, torch.full((ACT,), 0.6745 * 0.3679), atol=0.02, rtol=0)
    choices = make(discrete=True)
    assert isinstance(choices.network, LatentActorCritic)
    logits = choices.network(  # p = softmax(logits)
        choices.network.obs_moments.normalize(obs[:1]), choices.network.express(torch.zeros(1, dtype=torch.long)),
        choices.network.initial_state(1),
    ).actions.logits[0]  # fmt: skip
    assert choices(obs, sample=True).double().mean() == pytest.approx(logits.softmax(0)[1].item(), abs=0.02)


def test_memory_is_kept_from_call_to_call_and_begins_anew_where_an_episode_does() -> None:
    policy, obs = make(lstm_units=5), torch.randn(2, OBS)
    first, second = policy(obs), policy(obs)
    assert not torch.equal(first, second)
    policy.reset([True, False])
    third = policy(obs)
    torch.testing.assert_close(third[0], first[0])
    assert not torch.allclose(third[1], second[1])
    policy.reset()
    torch.testing.assert_close(policy(obs), first)
    policy.reset()
    torch.testing.assert_close(policy(obs[0]), first[0])


def test_memory_belongs_to_its_rows() -> None:
    policy = make(lstm_units=5)
    policy(torch.zeros(2, OBS))
    with pytest.raises(Mistake, match=r"observations had 2 rows, now 3: reset\(\)"):
        policy(torch.zeros(3, OBS))
    with pytest.raises(Mistake, match=r"done must have shape \(2,\)"):
        policy.reset([True])
    make()(torch.zeros(2, OBS))
    policy = make()
    policy(torch.zeros(2, OBS))
    assert policy(torch.zeros(3, OBS)).shape == (3, ACT)  # without a memory any number


def test_an_actor_of_sac_acts_and_draws() -> None:
    torch.manual_seed(0)
    network = SquashedActor(OBS, ACT, SACNetworkSettings(actor=(8,)))
    policy = Policy(network, Identity("sac", "Task", OBS, ACT, False, {}))
    assert not policy(np.ones(OBS)).any()  # a new actor's mode
    drawn = policy(torch.zeros(2000, OBS), sample=True)
    assert drawn.abs().max() < 1
    assert drawn.std() > 0.01


@pytest.mark.parametrize(
    ("obs", "fault"),
    [
        (np.zeros(5), r"shape \(4,\), several have \(N, 4\); got \(5,\)"),
        (np.zeros((2, 3, 4)), r"got \(2, 3, 4\)"),
        (np.zeros((0, 4)), r"got \(0, 4\)"),
        (3.0, r"got \(\)"),
        ({"state": 3}, "must be numbers, got dict"),
        (["a"] * 4, "must be numbers, got list"),
        (None, "must be numbers, got NoneType"),
        ([0, 0, float("nan"), 0], "is not finite"),
    ],
)
def test_what_is_no_observation_is_refused_in_one_line(obs: object, fault: str) -> None:
    with pytest.raises(Mistake, match=fault) as refusal:
        make()(obs)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("agent", [3, -1, 0.5, "master", [], [[0]], True])
def test_who_is_no_agent_is_refused(agent: Any) -> None:  # noqa: ANN401
    with pytest.raises(Mistake, match="agent"):
        make(agent)


def test_rows_are_as_many_as_their_agents() -> None:
    with pytest.raises(Mistake, match="3 agents act on as many observations, got 2"):
        make([0, 1, 2])(np.zeros((2, OBS)))


def test_acting_changes_nothing_of_the_network() -> None:
    policy = make()
    before = copy.deepcopy(policy.network.state_dict())
    policy(torch.randn(5, OBS), sample=True)
    assert all(torch.equal(value, before[name]) for name, value in policy.network.state_dict().items())


def test_any_gene_acts_and_an_agents_own_is_the_agent() -> None:
    policy, obs = make(lstm_units=5), torch.randn(AGENTS, OBS)
    assert isinstance(policy.network, LatentActorCritic)
    genes = policy.network.genes.detach()
    identity = Identity("epo", "Task", OBS, ACT, False, {})
    each, by_gene = Policy(policy.network, identity, range(AGENTS)), Policy(policy.network, identity, gene=genes)
    for done in ([False, True, False], [False, False, False]):
        torch.testing.assert_close(by_gene.act(obs), each.act(obs))
        by_gene.reset(done)
        each.reset(done)
    between = Policy(policy.network, identity, gene=(genes[0] + genes[1]).numpy() / 2)
    assert between(obs[0].numpy()).shape == (ACT,)
    between.reset()
    assert not torch.allclose(between(obs), policy(obs))


@pytest.mark.parametrize(
    ("gene", "fault"),
    [
        ([0.0, 0.0], r"a gene has shape \(3,\), several have \(N, 3\); got \(2,\)"),
        (["a", "b", "c"], "the gene must be numbers"),
        ([0.0, 0.0, float("inf")], "the gene is not finite"),
    ],
)
def test_what_is_no_gene_is_refused_in_one_line(gene: object, fault: str) -> None:
    network, identity = make().network, Identity("epo", "Task", OBS, ACT, False, {})
    with pytest.raises(Mistake, match=fault):
        Policy(network, identity, gene=gene)
    with pytest.raises(Mistake, match="an agent or a gene, not both"):
        Policy(network, identity, 1, gene=[0.0] * 3)


def test_a_gene_stands_for_itself_alone() -> None:
    network, identity = make().network, Identity("epo", "Task", OBS, ACT, False, {})
    with pytest.raises(Mistake, match="2 genes act on as many observations, got 3"):
        Policy(network, identity, gene=np.zeros((2, 3)))(np.zeros((3, OBS)))
    with pytest.raises(Mistake, match="a gene has no noise of its own"):
        Policy(network, identity, gene=[0.0] * 3)(np.zeros(OBS), sample=True)
    actor = SquashedActor(OBS, ACT, SACNetworkSettings(actor=(8,)))
    with pytest.raises(Mistake, match="agents of Task have none: choose one by agent"):
        Policy(actor, Identity("sac", "Task", OBS, ACT, False, {}), gene=[0.0] * 3)
