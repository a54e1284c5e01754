"""Rollouts in an environment whose every number is known, against direct computations with the network.

Axes: T horizon, N environments, K agents, O observation, A action, C off-policy columns.
"""

import math
from typing import Any

import pytest
import torch
from torch.distributions import Normal

from epo_lightning.algorithm.population import MASTER
from epo_lightning.experience.settings import RolloutSettings
from tests.support.scripted import (
    NETWORKS,
    K,
    N,
    Reference,
    Scripted,
    T,
    agent_of,
    both_networks,
    grid,
    locate,
    make_dataset,
    make_policy,
    minibatches,
    recomputed,
    units_of_reward,
    with_endings,
)


class TestRatioBeforeTheFirstUpdate:
    @pytest.mark.parametrize("network", NETWORKS)
    @pytest.mark.parametrize("mu_cap", [math.inf, 1.0])
    def test_one_on_policy_and_mu_off_policy(self, network: str, mu_cap: float) -> None:
        dataset = make_dataset(policy=make_policy(**NETWORKS[network]), mu_cap=mu_cap)
        for _ in range(2):  # the second rollout starts in the middle of episodes
            batches = minibatches(dataset)
            assert len(batches) == 8
            for batch in batches:
                log_probs, values = recomputed(dataset, batch)
                off_policy = batch.off_policy.expand_as(log_probs)
                torch.testing.assert_close(log_probs - batch.log_probs, batch.log_mu, rtol=0, atol=2e-5)
                assert torch.all(batch.log_mu[~off_policy] == 0)
                torch.testing.assert_close(values, batch.values, rtol=0, atol=2e-5)
            seen = torch.cat([batch.log_mu[..., batch.off_policy].flatten() for batch in batches])
            assert len(seen) == 2 * 4 * T  # two passes over C = 4 columns
            assert (seen.abs() > 0.01).float().mean() > (0.5 if mu_cap == math.inf else 0.1)
            assert seen.exp().max() <= mu_cap * (1 + 1e-6)

    def test_the_relabelled_samples_are_the_followers(self) -> None:
        """Found again by their actions: behaviour and master's log-probability, of the network row by row."""
        env, policy = with_endings(), make_policy()
        reference = Reference(policy)
        dataset = make_dataset(env, policy)
        dataset.collect()
        buffer = dataset.buffer
        found = locate(dataset)
        assert len(set(found)) == 4 * T
        for (t, column), (step, source) in zip(grid(T, range(N, N + 4)), found, strict=True):
            assert source >= N // K
            action = buffer.actions[t, column]
            wanted = []
            for agent in (MASTER, agent_of(source)):
                mean, _, _ = reference(env.obs[step, source], agent, reference.fresh_state())
                std = policy.log_std[agent].detach().exp()
                wanted.append(Normal(mean, std).log_prob(action).sum())
            torch.testing.assert_close(buffer.log_probs[t, column], wanted[1], rtol=0, atol=1e-5)
            torch.testing.assert_close(buffer.log_mu[t, column], wanted[0] - wanted[1], rtol=0, atol=2e-5)
            assert torch.equal(buffer.obs[t, column], buffer.obs[step, source])

    def test_relabelled_sequences_keep_state_resets_and_order(self) -> None:
        dataset = make_dataset(policy=make_policy(lstm_units=5))
        dataset.collect()
        dataset.collect()  # now the states before the rollout are not zero
        buffer = dataset.buffer
        found = locate(dataset)
        columns = [source for _, source in found[:4]]
        assert found == [(t, source) for t in range(T) for source in columns]
        assert sorted(columns) == [2, 3, 4, 5]
        assert torch.equal(buffer.states[:, N:], buffer.states[:, columns])
        assert buffer.states[:, [2, 4, 5]].abs().max() > 0
        assert torch.equal(buffer.resets[:-1, N:], buffer.resets[:-1, columns])
        assert torch.equal(buffer.obs[:-1, N:], buffer.obs[:-1, columns])

    def test_one_agent_is_its_own_master(self) -> None:
        dataset = make_dataset(Scripted(), make_policy(1), off_policy_ratio=1.0)
        batches = minibatches(dataset)
        assert not any(batch.off_policy.any() for batch in batches)
        assert sum(len(batch.off_policy) for batch in batches) == 2 * T * N


class TestMinibatches:
    @both_networks
    def test_every_sample_once_per_pass(self, network: str) -> None:
        dataset = make_dataset(policy=make_policy(**NETWORKS[network]), num_epochs=3)
        recurrent = network == "lstm"
        batches = minibatches(dataset)
        # T (N + C) = 5 x 10 transitions, or 10 sequences, in four parts
        sizes = [3, 3, 2, 2] if recurrent else [13, 13, 12, 12]
        assert [batch.off_policy.shape[0] for batch in batches] == 3 * sizes
        # each sample has an action of its own (relabelled copies differ in what is said of it)
        everything = torch.cat([dataset.buffer.actions, dataset.buffer.targets[..., None]], -1).flatten(0, 1)
        orders = []
        for start in (0, 4, 8):
            part = batches[start : start + 4]
            rows = [torch.cat([batch.actions, batch.targets[..., None]], -1).flatten(0, -2) for batch in part]
            assert sorted(torch.cat(rows).tolist()) == sorted(everything.tolist())
            orders.append(torch.cat([dataset.minibatch(start + i).tensors["units"] for i in range(4)]))
        assert not torch.equal(orders[0], orders[1])
        assert not torch.equal(orders[1], orders[2])

    @both_networks
    def test_a_minibatch_can_be_had_again_with_its_environments(self, network: str) -> None:
        dataset = make_dataset(policy=make_policy(**NETWORKS[network]))
        for index, batch in enumerate(minibatches(dataset)):
            again = dataset.minibatch(index)
            assert again.sequences is (network == "lstm")
            for name, value in batch._asdict().items():
                assert torch.equal(value, again.tensors[name]), name
            own = again.envs < N  # behind them stand the relabelled samples
            assert torch.equal(own, ~batch.off_policy)
            assert torch.equal(dataset.agent_ids[again.envs[own]], batch.agent_ids[own])

    def test_an_iteration_is_one_batch(self) -> None:
        dataset = make_dataset(num_epochs=3, num_minibatches=5)
        assert len(dataset) == len(list(dataset)) == 1
        assert dataset.iteration_env_steps == T * N
        assert dataset.env_steps == T * N

    @both_networks
    def test_more_minibatches_than_samples_are_refused(self, network: str) -> None:
        """An empty minibatch has the loss NaN."""
        policy = make_policy(1, **NETWORKS[network])
        env = Scripted(num_envs=2)
        too_many = 3 if network == "lstm" else 2 * T + 1
        with pytest.raises(ValueError, match=r"model\.rollout\.num_minibatches"):
            list(make_dataset(env, policy, num_minibatches=too_many))

    def test_env_steps(self) -> None:
        dataset = make_dataset()
        assert dataset.env_steps == 0
        dataset.collect()
        dataset.collect()
        assert dataset.env_steps == 2 * T * N
        of_four = make_dataset(world_size=4)
        of_four.collect()
        assert of_four.env_steps == of_four.iteration_env_steps == 4 * T * N

    @both_networks
    def test_horizon_of_one(self, network: str) -> None:
        policy = make_policy(**NETWORKS[network])
        dataset = make_dataset(policy=policy, horizon=1)
        for batch in minibatches(dataset):
            log_probs, _ = recomputed(dataset, batch)
            torch.testing.assert_close(log_probs - batch.log_probs, batch.log_mu, rtol=0, atol=2e-5)


class TestDiagnostics:
    def test_the_environments_log_is_averaged_over_steps_and_environments(self) -> None:
        dataset = make_dataset()
        dataset.collect()
        assert dataset.diagnostics["env/clock"].item() == 2.0  # 0, 1, 2, 3, 4
        assert dataset.diagnostics["env/number"].item() == 2.5  # 0 to 5
        dataset.collect()
        assert dataset.diagnostics["env/clock"].item() == 7.0

    def test_fitness_counts_the_first_episode_of_each_environment(self) -> None:
        env = with_endings()
        dataset = make_dataset(env)
        dataset.collect()
        means = dataset.fitness.measure(dataset.ledger.running)
        # ends at (step, env): (1, 0), (2, 1), (4, 1) | (2, 2), (0, 3), (4, 3) | (4, 4), (3, 5): each env's first counts
        reward = env.reward.double()
        returns = [reward[:2, 0], reward[:3, 1]]
        assert means[0, 0].item() == pytest.approx(sum(part.sum().item() for part in returns) / 2, abs=1e-6)
        assert means[1].tolist() == [(2 + 3) / 2, (3 + 1) / 2, (5 + 4) / 2]

    def test_explained_variance_is_that_of_the_own_samples(self) -> None:
        dataset = make_dataset()
        dataset.collect()
        values = units_of_reward(dataset, dataset.buffer.values[:-1, :N])
        targets = units_of_reward(dataset, dataset.buffer.targets[:, :N])
        wanted = 1 - (targets - values).var() / targets.var()
        torch.testing.assert_close(dataset.diagnostics["losses/explained_variance"], wanted, rtol=1e-3, atol=1e-4)

    def test_effective_samples(self) -> None:
        dataset = make_dataset()
        dataset.collect()
        mu = dataset.buffer.log_mu[:, N:].exp()
        wanted = mu.sum() ** 2 / (mu.numel() * mu.square().sum())
        torch.testing.assert_close(dataset.diagnostics["losses/off_policy_ess"], wanted)


class TestSettings:
    @pytest.mark.parametrize("name", ["horizon", "num_epochs", "num_minibatches", "minibatch_size", "n_step"])
    def test_at_least_one(self, name: str) -> None:
        changes: dict[str, Any] = {name: 0}
        with pytest.raises(ValueError, match=rf"model\.rollout\.{name} must be at least 1, got 0"):
            RolloutSettings(**changes)

    @pytest.mark.parametrize(
        ("name", "value"), [("gamma", 1.1), ("gamma", math.nan), ("gae_lambda", -0.1), ("reward_scale", 0.0),
                            ("mu_cap", 0.0), ("mu_cap", math.nan), ("off_policy_ratio", -1.0)],
    )  # fmt: skip
    def test_out_of_range(self, name: str, value: float) -> None:
        changes: dict[str, Any] = {name: value}
        with pytest.raises(ValueError, match=rf"model\.rollout\.{name} must be"):
            RolloutSettings(**changes)

    def test_more_steps_ahead_than_there_are(self) -> None:
        RolloutSettings(horizon=2)  # `gae` does not read n_step
        RolloutSettings(horizon=2, estimator="n_step", n_step=2)
        with pytest.raises(ValueError, match=r"model\.rollout\.n_step .*horizon.* must be .* at most 2, got 3"):
            RolloutSettings(horizon=2, estimator="n_step")
