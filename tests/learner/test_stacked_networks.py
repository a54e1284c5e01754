"""K actors with critics. Shape legend: K agents, n rows of each, T steps, O observation, A action."""

from typing import Any

import pytest
import torch

from epo_lightning.algorithm.distributions import Categorical, Gaussian
from epo_lightning.learner.actor_critic import ActorCriticSettings
from epo_lightning.learner.stacked import StackedLayerNorm
from epo_lightning.learner.stacked_networks import StackedActorCritic
from tests.support.plain_ppo import PlainNetwork

K, n, T, O, A = 3, 4, 5, 2, 3
KINDS: dict[str, dict[str, Any]] = {
    "mlp": {},
    "separate critic": {"separate_critic": True},
    "no layer": {"hidden": ()},
    "lstm": {"lstm_units": 5},
    "two lstms": {"lstm_units": 5, "separate_critic": True},
}


def network(discrete: bool = False, **settings: Any) -> StackedActorCritic:
    torch.manual_seed(0)
    policy = StackedActorCritic(O, A, K, ActorCriticSettings(**{"hidden": (6, 4), **settings}), discrete)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    policy.obs_moments.update(torch.randn(20, K * n, O) * torch.arange(1.0, K + 1).repeat_interleave(n)[:, None])
    return policy


@pytest.mark.parametrize("discrete", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_every_row_is_answered_by_its_own_network(kind: str, discrete: bool) -> None:
    policy = network(discrete, **KINDS[kind])
    agents = torch.tensor([2, 0, 2, 2, 0])
    obs, state = torch.randn(5, O), torch.randn(policy.state_shape[0], 5, policy.state_shape[1])
    actions, after = policy.act(obs, agents, state)
    for row, k in enumerate(agents.tolist()):
        alone = PlainNetwork(policy.state_dict(), k, discrete)
        own = (obs[row] - policy.obs_moments.mean[k]) / (policy.obs_moments.var[k] + 1e-5).sqrt()
        seen = own.float().clamp(-5, 5)[None]
        states = [state[2 * i : 2 * i + 2, [row]] if policy.recurrent else None for i in range(len(alone.trunks))]
        head, _, then = alone(seen, states)
        mode = head.argmax(-1) if discrete else head.clamp(-1, 1)
        torch.testing.assert_close(actions[[row]], mode, rtol=1e-4, atol=1e-5)
        if policy.recurrent:
            torch.testing.assert_close(after[:, [row]], torch.cat(then), rtol=1e-4, atol=1e-5)
    drawn, _ = policy.act(obs, agents, state, torch.Generator().manual_seed(0))
    assert not torch.equal(drawn, actions)


@pytest.mark.parametrize("kind", KINDS)
def test_blocks_of_some_agents_and_rows_of_all_say_the_same(kind: str) -> None:
    policy = network(**KINDS[kind])
    obs, state = torch.randn(T, K * n, O), torch.randn(policy.state_shape[0], K * n, policy.state_shape[1])
    resets = torch.rand(T, K * n) < 0.3
    rows = policy.express(torch.arange(K).repeat_interleave(n))
    whole = policy(obs, rows, state, resets)
    assert isinstance(whole.actions, Gaussian)
    steps, now = [], state
    for t in range(T):
        now = now.masked_fill(resets[t, :, None], 0.0)
        output = policy(obs[t], rows, now)
        now = output.state
        steps.append(output)
    torch.testing.assert_close(whole.value, torch.stack([each.value for each in steps]))
    torch.testing.assert_close(whole.actions.mean, torch.stack([each.actions[0] for each in steps]))
    torch.testing.assert_close(whole.state, now)
    some = torch.tensor([2, 0])
    blocks = obs.view(T, K, n, O).transpose(0, 1)[some]
    told = policy.of_blocks(
        blocks, state.unflatten(1, (K, n))[:, some], resets.view(T, K, n).transpose(0, 1)[some], some
    )
    assert isinstance(told.actions, Gaussian)
    torch.testing.assert_close(told.value, whole.value.view(T, K, n).transpose(0, 1)[some])
    means = whole.actions.mean.view(T, K, n, A).transpose(0, 1)[some]
    torch.testing.assert_close(told.actions.mean, means)
    log_probs = whole.actions.log_prob(whole.actions.mean + 0.1).view(T, K, n).transpose(0, 1)[some]
    torch.testing.assert_close(told.actions.log_prob(means + 0.1), log_probs)


def test_agents_share_nothing() -> None:
    policy = network(lstm_units=5, separate_critic=True)
    output = policy.of_blocks(torch.randn(K, T, n, O), torch.zeros(4, K, n, 5))
    assert isinstance(output.actions, Gaussian)
    (output.actions.mean[1].sum() + output.value[1].sum() + output.actions.log_prob(torch.ones(A))[1].sum()).backward()
    for name, parameter in policy.named_parameters():
        assert parameter.grad is not None, name
        assert [bool(parameter.grad[k].any()) for k in range(K)] == [False, True, False], name


def test_values_stay_when_their_scale_moves() -> None:
    policy, obs, state = network(), torch.randn(K * n, O), torch.zeros(0, K * n, 0)
    rows = policy.express(torch.arange(K).repeat_interleave(n))
    before = policy.value_moments.denormalize(policy(obs, rows, state).value)
    policy.update_value_moments(torch.randn(T, K * n) * 7 + torch.arange(K).repeat_interleave(n) * 100)
    after = policy.value_moments.denormalize(policy(obs, rows, state).value)
    torch.testing.assert_close(after, before, rtol=1e-3, atol=1e-3)
    assert policy.value_moments.mean[2] > 150 > policy.value_moments.mean[1] > 50 > policy.value_moments.mean[0]


def test_choices_have_no_log_std() -> None:
    policy = network(discrete=True)
    assert policy.log_std.shape == (K, 0)
    assert not policy.log_std.requires_grad
    output = policy.of_blocks(torch.randn(K, n, O), torch.zeros(0, K, n, 0))
    assert isinstance(output.actions, Categorical)
    assert output.actions.logits.shape == (K, n, A)


def test_the_champion_is_kept_with_the_weights() -> None:
    policy, other = network(), network()
    assert policy.champion == 0
    policy.champion = 2
    other.load_state_dict(policy.state_dict())
    assert other.champion == 2
    assert [other.name_of(k) for k in range(K)] == ["agent 0", "agent 1", "champion"]


def test_it_begins_as_torch_begins_an_lstm_and_a_layer_norm() -> None:
    policy = StackedActorCritic(O, A, 64, ActorCriticSettings((4,), lstm_units=25))
    weights = dict(policy.actor.named_parameters())
    for name in ("input.weight", "input.bias", "memory.weight", "memory.bias"):
        assert 0.19 < float(weights[name].detach().abs().max()) <= 0.2, "1 / sqrt(25)"
    x, norm = torch.randn(2, n, 5), StackedLayerNorm(2, 5)
    torch.testing.assert_close(norm(x), torch.nn.LayerNorm(5)(x))


def test_a_rows_parameters_are_those_of_one_agent() -> None:
    alone = StackedActorCritic(O, A, 1, ActorCriticSettings((6, 4)))
    assert network().parameters_per_row == sum(each.numel() for each in alone.parameters())
