"""Named groups: an actor never sees what is privileged, a critic does. Shape legend: K agents, n rows of each."""

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from epo_lightning.learner.actor_critic import ActorCriticSettings
from epo_lightning.learner.deterministic import DeterministicActor, PQLNetworkSettings
from epo_lightning.learner.networks import LatentActorCritic, NetworkSettings
from epo_lightning.learner.observations import Group, Groups, join, require_groups, split
from epo_lightning.learner.policy import NormalizingPolicy
from epo_lightning.learner.q_networks import SACNetworkSettings, SquashedActor, TwinCritic
from epo_lightning.learner.stacked_actor import CEMNetworkSettings, StackedActor
from epo_lightning.learner.stacked_networks import StackedActorCritic
from epo_lightning.limits import Mistake

K, n, A = 2, 3, 2
GROUPS = (Group("seen", 3), Group("also", 1), Group("hidden", 2, privileged=True))
O, P = 6, 4

SHARED: dict[str, Callable[..., Any]] = {
    "epo": lambda **settings: LatentActorCritic(O, A, K, NetworkSettings((8,), gene_dim=2, **settings), groups=GROUPS),
    "pbt": lambda **settings: StackedActorCritic(O, A, K, ActorCriticSettings((8,), **settings), groups=GROUPS),
}
KINDS: dict[str, dict[str, Any]] = {
    "mlp": {"separate_critic": True},
    "no layer": {"separate_critic": True, "hidden": ()},
    "lstm": {"separate_critic": True, "lstm_units": 5},
}
OTHERS: dict[str, Callable[[], NormalizingPolicy]] = {
    "sac": lambda: SquashedActor(O, A, SACNetworkSettings((8,), (8,)), GROUPS),
    "pql": lambda: DeterministicActor(O, A, PQLNetworkSettings((8,)), GROUPS),
    "cem_rl": lambda: StackedActor(K, O, A, CEMNetworkSettings((8,)), GROUPS),
}


def actor_critic(algorithm: str, kind: str, discrete: bool = False) -> LatentActorCritic | StackedActorCritic:
    torch.manual_seed(0)
    settings: dict[str, Any] = {"hidden": (8,), **KINDS[kind]}
    if algorithm == "epo":
        return LatentActorCritic(O, A, K, NetworkSettings(gene_dim=2, **settings), discrete, GROUPS)
    return StackedActorCritic(O, A, K, ActorCriticSettings(**settings), discrete, GROUPS)


def gradient_of(value: Tensor, obs: Tensor) -> list[bool]:
    """(O,) whether each column has a part in `value`."""
    gradient = torch.autograd.grad(value.sum(), obs, retain_graph=True, allow_unused=True)[0]
    columns: list[bool] = (gradient.flatten(0, -2) != 0).any(0).tolist()
    return columns


@pytest.mark.parametrize("discrete", [False, True])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("algorithm", ["epo", "pbt"])
def test_the_critic_alone_sees_what_is_privileged(algorithm: str, kind: str, discrete: bool) -> None:
    policy = actor_critic(algorithm, kind, discrete)
    rows = policy.express(torch.arange(K).repeat_interleave(n))
    state = torch.randn(policy.state_shape[0], K * n, policy.state_shape[1])
    for shape in [(K * n, O), (4, K * n, O)]:
        obs = torch.randn(shape, requires_grad=True)
        output = policy(obs, rows, state)
        assert gradient_of(output.actions[0], obs) == [True] * P + [False] * (O - P)
        assert gradient_of(output.value, obs) == [True] * O
        other = obs.detach().clone()
        other[..., P:] += 1.0
        again = policy(other, rows, state)
        assert torch.equal(again.actions[0], output.actions[0])
        assert not torch.isclose(again.value, output.value).any()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("algorithm", ["epo", "pbt"])
def test_to_act_needs_no_more_than_an_actor_sees(algorithm: str, kind: str) -> None:
    policy = actor_critic(algorithm, kind)
    policy.obs_moments.update(3.0 + 2.0 * torch.randn(20, K * n, O))
    obs, agents = 3.0 + torch.randn(5, O), torch.tensor([1, 0, 1, 1, 0])
    state = torch.randn(policy.state_shape[0], 5, policy.state_shape[1])
    whole, part = policy.act(obs, agents, state), policy.act(obs[:, :P], agents, state)
    for one, other in zip(whole, part, strict=True):
        assert torch.equal(one, other)
    blocks = torch.arange(K).repeat_interleave(n)
    obs, state = 3.0 + torch.randn(K * n, O), state[:, :1].repeat(1, K * n, 1)
    output = policy(policy.obs_moments.normalize(obs), policy.express(blocks), state)
    actions, after = policy.act(obs, blocks, state)
    torch.testing.assert_close(actions, output.actions.mode())
    torch.testing.assert_close(after[:2], output.state[:2])  # the actor's LSTM
    assert torch.equal(after[2:], state[2:])  # the critic's was not asked


@pytest.mark.parametrize("algorithm", OTHERS)
def test_actors_beside_critics_of_actions_see_no_more_either(algorithm: str) -> None:
    torch.manual_seed(0)
    policy = OTHERS[algorithm]()
    with torch.no_grad():
        for parameter in policy.parameters():  # one of them begins with 0
            parameter.add_(0.1 * torch.randn_like(parameter))
    policy.obs_moments.update(3.0 + 2.0 * torch.randn(20, O))
    obs, agents = 3.0 + torch.randn(4, O), torch.tensor([0, 1, 1, 0]) % policy.num_agents
    whole, _ = policy.act(obs, agents, policy.initial_state(4))
    changed = torch.cat([obs[:, :P], obs[:, P:] + 1.0], dim=1)
    for other in (obs[:, :P], changed):
        assert torch.equal(policy.act(other, agents, policy.initial_state(4))[0], whole)
    assert not torch.equal(policy.act(obs + 1.0, agents, policy.initial_state(4))[0], whole)
    seen = torch.randn(K, n, O, requires_grad=True)
    said = policy(seen) if algorithm == "cem_rl" else policy(seen.flatten(0, 1))
    assert gradient_of(said if isinstance(said, Tensor) else said.mean, seen) == [True] * P + [False] * (O - P)
    critic = TwinCritic(O, A, PQLNetworkSettings((8,), (8,)))
    assert gradient_of(critic(seen.flatten(0, 1), torch.zeros(K * n, A)).mean(), seen) == [True] * O


@pytest.mark.parametrize("algorithm", SHARED)
def test_a_critic_that_shares_the_actors_network_is_refused(algorithm: str) -> None:
    wanted = "model.network.separate_critic must be true: the task's observation has hidden 2 (privileged), which"
    with pytest.raises(Mistake, match=re.escape(wanted)):
        SHARED[algorithm]()
    SHARED[algorithm](separate_critic=True)


def test_without_a_privileged_group_names_change_nothing() -> None:
    groups = (Group("a", 2), Group("b", O - 2))
    torch.manual_seed(0)
    flat = LatentActorCritic(O, A, K, NetworkSettings(gene_dim=2, hidden=(8,)))
    torch.manual_seed(0)
    named = LatentActorCritic(O, A, K, NetworkSettings(gene_dim=2, hidden=(8,)), groups=groups)
    obs, agents, state = torch.randn(4, O), torch.tensor([0, 1, 0, 1]), flat.initial_state(4)
    assert torch.equal(flat.act(obs, agents, state)[0], named.act(obs, agents, state)[0])


def test_parts_become_columns_and_columns_parts() -> None:
    groups = (Group("pose", 2), Group("camera", (1, 2, 3)), Group("mass", 1, privileged=True))
    camera = torch.arange(6, dtype=torch.uint8).view(1, 1, 2, 3)
    row = join(groups, {"mass": torch.tensor([7.5]), "camera": camera, "pose": torch.tensor([[-1.0, -2.0]])})
    assert row.tolist() == [[-1.0, -2.0, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 7.5]]
    assert row.dtype == torch.float32
    parts = split(groups, row)
    assert parts["pose"].tolist() == [[-1.0, -2.0]]
    assert torch.equal(parts["camera"], camera.float())
    assert parts["mass"].tolist() == [[7.5]]


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"seen": torch.zeros(2, 3), "also": torch.zeros(2)}, "the group 'hidden' is missing; the groups are seen 3,"),
        (
            {"seen": torch.zeros(2, 3), "other": torch.zeros(2)},
            "there is no group 'other'; the groups are seen 3, also",
        ),
        ({"seen": torch.zeros(2, 4)}, "the group seen 3 got (2, 4), rows of 4 entries"),
        (
            {"seen": torch.zeros(2, 3), "also": torch.zeros(3), "hidden": torch.zeros(2, 2)},
            "its groups have different numbers of rows: [2, 3, 2]",
        ),
    ],
)
def test_parts_that_do_not_fit_are_named(parts: dict[str, Tensor], words: str) -> None:
    with pytest.raises(Mistake, match=f"^observation: {re.escape(words)}"):
        join(GROUPS, parts)


@pytest.mark.parametrize(
    ("groups", "words"),
    [
        ([Group("a", 6)], "must be a tuple of Group"),
        (("a",), "must be a tuple of Group"),
        ((Group("", 6),), "a name must be a short text"),
        ((Group("a", 0), Group("b", 6)), "a must have a positive number of entries"),
        ((Group("a", 2.0),), "a must have a positive number of entries"),  # type: ignore[arg-type]
        ((Group("a", (2, 3)),), r"a must have .* or (height, width, channels); got (2, 3)"),  # type: ignore[arg-type]
        ((Group("a", 3), Group("a", 3)), "there are several groups a"),
        ((Group("a", 3), Group("b", 2)), "a 3, b 2 make 5 entries, and spec.obs_dim is 6"),
        ((Group("a", 3, True), Group("b", 3)), "privileged groups come last"),
        ((Group("a", 6, True),), "actors would see nothing"),
    ],
)
def test_groups_that_make_no_observation_are_refused(groups: Groups, words: str) -> None:
    with pytest.raises(Mistake, match=re.escape(words).replace(r"\.\*", ".*")):
        require_groups(groups, O)
