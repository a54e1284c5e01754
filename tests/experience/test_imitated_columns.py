"""The columns of the best samples, row by row.

Axes: T horizon, N environments, K agents.
"""

import pytest
import torch

from tests.support.scripted import (
    GAMMA,
    NETWORKS,
    K,
    N,
    Reference,
    T,
    both_networks,
    make_dataset,
    make_policy,
    minibatches,
    recomputed,
    replay,
    units_of_reward,
    with_endings,
)


@both_networks
def test_the_samples_whose_returns_were_most_above_the_values(network: str) -> None:
    env, policy = with_endings(), make_policy(**NETWORKS[network])
    dataset, reference = make_dataset(env, policy, coupled=1, imitated=2), Reference(policy)
    dataset.collect()
    buffer = dataset.buffer
    returns, surplus = torch.zeros(2, T, N)
    for column in range(N):
        _, values, finals, _ = replay(reference, env, column)
        ahead = values[T]
        for t in reversed(range(T)):
            terminated, truncated = bool(env.terminated[t, column]), bool(env.truncated[t, column])
            ahead = env.reward[t, column].item() + GAMMA * (0.0 if terminated else finals[t] if truncated else ahead)
            returns[t, column], surplus[t, column] = ahead, ahead - values[t]
    if network == "lstm":
        found = surplus.clamp(min=0).sum(0).topk(2).indices.expand(T, -1)
        step = torch.arange(T)[:, None].expand(-1, 2)
    else:
        best = surplus.flatten().topk(2 * T).indices.view(T, 2)
        step, found = best // N, best % N
    assert torch.equal(buffer.actions[:, -2:], buffer.actions[step, found])
    targets, expected = (units_of_reward(dataset, field)[:T, -2:] for field in (buffer.targets, buffer.values))
    torch.testing.assert_close(targets, returns[step, found], rtol=0, atol=3e-4)
    # the advantages are in units of the other samples' deviation, and 0 is where a return is the imitator's value
    scale = (targets - expected) / buffer.advantages[:, -2:]
    torch.testing.assert_close(scale, scale[:1, :1].expand_as(scale), rtol=1e-3, atol=0)
    assert scale[0, 0] > 0
    others = buffer.advantages[:, :-2]
    assert others.mean().item() == pytest.approx(0.0, abs=1e-5)
    assert others.std().item() == pytest.approx(1.0, abs=0.02)


@both_networks
def test_by_a_random_agent_with_weights_of_at_most_one(network: str) -> None:
    dataset = make_dataset(policy=make_policy(**NETWORKS[network]), coupled=1, imitated=K, off_policy_ratio=1.0)
    seen = set()
    for _ in range(3):
        batches = minibatches(dataset)
        columns = dataset.buffer.column_agents[-K:].tolist()
        assert sorted(columns) == [0, 1, 2]
        seen.add(tuple(columns))
        assert dataset.buffer.column_agents[:N].tolist() == [0, 0, 1, 1, 2, 2]
        for batch in batches:
            log_probs, values = recomputed(dataset, batch)
            torch.testing.assert_close(log_probs - batch.log_probs, batch.log_mu, rtol=0, atol=2e-5)
            torch.testing.assert_close(values, batch.values, rtol=0, atol=2e-5)
            assert batch.log_mu[..., batch.imitated].numel() == 0 or batch.log_mu[..., batch.imitated].max() <= 0
        assert sum(int(batch.imitated.sum()) for batch in batches) == 2 * K * (1 if network == "lstm" else T)
    assert len(seen) > 1


@both_networks
def test_the_rest_is_as_without_them(network: str) -> None:
    some, none = (make_dataset(policy=make_policy(**NETWORKS[network]), coupled=1, imitated=i) for i in (2, 0))
    some.collect()
    none.collect()
    for name in ("actions", "targets", "advantages", "log_mu"):
        assert torch.equal(getattr(some.buffer, name)[:, :-2], getattr(none.buffer, name)), name
    assert some.policy.value_moments.count == none.policy.value_moments.count
