"""The columns of followers that are coupled to the master, row by row.

Axes: T horizon, N environments, K agents.
"""

import copy

import pytest
import torch
from torch.distributions import Normal

from tests.support.scripted import (
    GAMMA,
    NETWORKS,
    N,
    Reference,
    T,
    assert_same_rollout,
    both_networks,
    locate,
    make_dataset,
    make_policy,
    minibatches,
    recomputed,
    units_of_reward,
    with_endings,
)


class TestCoupledColumns:
    """Behind the off-policy columns: the master's two environments, each under both followers."""

    @pytest.mark.parametrize("tells_final_obs", [True, False])
    @pytest.mark.parametrize("network", NETWORKS)
    def test_they_are_the_masters_environments_by_the_followers_policy_and_critic(
        self, network: str, tells_final_obs: bool
    ) -> None:
        """Row by row: one-step targets, V(final_obs) where truncated, all with the follower's gene and own state."""
        env, policy = with_endings(), make_policy(**NETWORKS[network])
        if not tells_final_obs:
            env.final_obs = None
        dataset = make_dataset(env, policy, coupled=2)
        dataset.lacks_final_obs = not tells_final_obs  # the warning has been given
        buffer, kinds, pairs = dataset.buffer, set(), []
        for start in (0, T):  # the second rollout begins in the middle of episodes
            reference, stored = Reference(policy), dataset.state.clone()
            dataset.collect()
            targets, values = (units_of_reward(dataset, field) for field in (buffer.targets, buffer.values))
            found = locate(dataset)[4:8]
            agents = buffer.column_agents[N + 4 :].tolist()
            pairs.append([(source, agent) for (_, source), agent in zip(found, agents, strict=True)])
            for column, (source, agent) in enumerate(pairs[-1], N + 4):
                state = stored[:, [source]]
                for t in range(T):
                    now = start + t
                    mean, value, state = reference(env.obs[now, source], agent, state)
                    terminated, truncated = bool(env.terminated[now, source]), bool(env.truncated[now, source])
                    if truncated:
                        shown = env.final_obs
                        following = value if shown is None else reference(shown[now, source], agent, state)[1]
                    else:
                        following = reference(env.obs[now + 1, source], agent, state)[1]
                    wanted = env.reward[now, source].item() + (0.0 if terminated else GAMMA * following)
                    assert targets[t, column].item() == pytest.approx(wanted, abs=2e-4)
                    assert values[t, column].item() == pytest.approx(value, abs=2e-4)
                    std = policy.log_std[agent].detach().exp()
                    log_prob = Normal(mean, std).log_prob(buffer.actions[t, source]).sum()
                    torch.testing.assert_close(buffer.log_probs[t, column], log_prob, rtol=0, atol=2e-5)
                    if terminated or truncated:
                        state = reference.fresh_state()
                    kinds.add((terminated, truncated))
        for drawn in pairs:
            assert sorted(drawn) == [(0, 1), (0, 2), (1, 1), (1, 2)]
        assert kinds == {(False, False), (True, False), (False, True)}

    @both_networks
    def test_a_minibatch_tells_them_by_who_learns(self, network: str) -> None:
        dataset = make_dataset(policy=make_policy(**NETWORKS[network]), coupled=1)
        batches = minibatches(dataset)
        seen = [batch.coupled() for batch in batches]
        assert sum(int(mask.sum()) for mask in seen) == 2 * (2 if network == "lstm" else 2 * T)
        for index, (batch, mask) in enumerate(zip(batches, seen, strict=True)):
            columns = dataset.minibatch(index).envs
            assert torch.equal(mask, columns >= N + 4)
            assert torch.equal(dataset.buffer.column_agents[columns[mask]], batch.agent_ids[mask])
            log_probs, _ = recomputed(dataset, batch)
            torch.testing.assert_close(log_probs - batch.log_probs, batch.log_mu, rtol=0, atol=2e-5)

    @both_networks
    def test_what_the_critic_learns_is_scaled_without_them(self, network: str) -> None:
        dataset = make_dataset(policy=make_policy(**NETWORKS[network]), coupled=2)
        before = dataset.policy.value_moments.count.clone()
        dataset.collect()
        assert dataset.policy.value_moments.count == before + T * (N + 4)
        assert dataset.buffer.advantages.shape == (T, N + 4 + 4)
        assert dataset.buffer.advantages.mean().item() == pytest.approx(0.0, abs=1e-5)

    @both_networks
    def test_the_rollout_is_the_same_without_them(self, network: str) -> None:
        coupled, alone = (make_dataset(policy=make_policy(**NETWORKS[network]), coupled=m) for m in (2, 0))
        coupled.collect()
        alone.collect()
        assert torch.equal(coupled.buffer.actions[:, : N + 4], alone.buffer.actions)
        assert torch.equal(coupled.buffer.targets[:, : N + 4], alone.buffer.targets)
        assert torch.equal(coupled.of_agents["ess"][1:], alone.of_agents["ess"][1:])
        assert torch.equal(coupled.diagnostics["losses/off_policy_ess"], alone.diagnostics["losses/off_policy_ess"])

    def test_without_samples_for_the_master(self) -> None:
        dataset = make_dataset(coupled=2, off_policy_ratio=0.0)
        batches = minibatches(dataset)
        assert dataset.buffer.advantages.shape == (T, N + 4)
        assert all(torch.equal(batch.off_policy, batch.coupled()) for batch in batches)

    @both_networks
    def test_a_restored_dataset_draws_the_same_followers(self, network: str) -> None:
        one = make_dataset(policy=make_policy(**NETWORKS[network]), coupled=1)
        minibatches(one)
        saved, policy = copy.deepcopy(one.saved()), copy.deepcopy(one.policy)
        other = make_dataset(policy=policy, seed=99, coupled=1)
        other.restore(saved)
        for mine, theirs in zip(minibatches(one), minibatches(other), strict=True):
            for field, a, b in zip(mine._fields, mine, theirs, strict=True):
                assert torch.equal(a, b), field
        assert_same_rollout(one, other)
