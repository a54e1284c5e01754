"""Rollouts in an environment whose every number is known, against direct computations with the network.

Axes: T horizon, N environments, K agents, O observation, A action, C off-policy columns.
"""

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal

from epo_lightning.algorithm.population import MASTER
from epo_lightning.envs.base import StepResult
from epo_lightning.experience.settings import RolloutSettings
from epo_lightning.learner.networks import LatentActorCritic, NetworkSettings
from tests.support.scripted import (
    GAMMA,
    NETWORKS,
    A,
    K,
    N,
    O,
    Reference,
    Scripted,
    T,
    agent_of,
    assert_same_rollout,
    both_networks,
    grid,
    locate,
    make_dataset,
    make_policy,
    minibatches,
    recomputed,
    replay,
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


class TestTargets:
    @pytest.mark.parametrize("network", NETWORKS)
    def test_one_step_targets_of_both_endings(self, network: str) -> None:
        """Terminated: the reward alone. Truncated: V(final_obs). Else V of the next state. All under the own gene."""
        env, policy = with_endings(), make_policy(**NETWORKS[network])
        dataset = make_dataset(env, policy, estimator="n_step", n_step=1)
        states = [policy.initial_state(1)] * N
        for start in (0, T):
            reference = Reference(policy)
            dataset.collect()
            targets = units_of_reward(dataset, dataset.buffer.targets)
            kinds = set()
            for column in range(N):
                _, values, finals, states[column] = replay(reference, env, column, start, states[column])
                for t in range(T):
                    kind = 2 * int(env.truncated[start + t, column]) + int(env.terminated[start + t, column])
                    following = [values[t + 1], 0.0, finals[t]][kind]
                    kinds.add(kind)
                    wanted = env.reward[start + t, column].item() + GAMMA * following
                    assert targets[t, column].item() == pytest.approx(wanted, abs=2e-4)
            assert kinds == {0, 1, 2}

    def test_generalised_advantages(self) -> None:
        env, policy = with_endings(), make_policy()
        reference = Reference(policy)
        dataset = make_dataset(env, policy, gae_lambda=0.8)
        dataset.collect()
        targets = units_of_reward(dataset, dataset.buffer.targets)
        values_found = units_of_reward(dataset, dataset.buffer.values)
        for column in range(N):
            _, values, finals, _ = replay(reference, env, column)
            advantage = 0.0
            for t in reversed(range(T)):
                terminated, truncated = bool(env.terminated[t, column]), bool(env.truncated[t, column])
                following = 0.0 if terminated else finals[t] if truncated else values[t + 1]
                delta = env.reward[t, column].item() + GAMMA * following - values[t]
                advantage = delta + (0.0 if terminated or truncated else GAMMA * 0.8 * advantage)
                assert targets[t, column].item() == pytest.approx(values[t] + advantage, abs=2e-4)
                assert values_found[t, column].item() == pytest.approx(values[t], abs=2e-4)

    def test_off_policy_targets_are_the_masters(self) -> None:
        """They are r + gamma V(s', phi_0), V(final_obs, phi_0) where truncated, nothing where terminated (eq. 8)."""
        env, policy = with_endings(), make_policy()
        reference = Reference(policy)
        dataset = make_dataset(env, policy, gae_lambda=0.8)
        dataset.collect()
        targets = units_of_reward(dataset, dataset.buffer.targets)
        values = units_of_reward(dataset, dataset.buffer.values)
        found = locate(dataset)
        kinds = set()
        for (t, column), (step, source) in zip(grid(T, range(N, N + 4)), found, strict=True):

            def value(obs: Tensor) -> float:
                return reference(obs, MASTER, reference.fresh_state())[1]

            assert env.final_obs is not None
            terminated, truncated = bool(env.terminated[step, source]), bool(env.truncated[step, source])
            following = env.final_obs[step, source] if truncated else env.obs[step + 1, source]
            wanted = env.reward[step, source].item() + (0.0 if terminated else GAMMA * value(following))
            assert targets[t, column].item() == pytest.approx(wanted, abs=2e-4)
            assert values[t, column].item() == pytest.approx(value(env.obs[step, source]), abs=2e-4)
            kinds.add((terminated, truncated))
        assert kinds == {(False, False), (True, False), (False, True)}  # C T = all the followers' samples

    @pytest.mark.parametrize("tells_final_obs", [True, False])
    @pytest.mark.parametrize("network", ["lstm", "separate critic, lstm"])
    def test_off_policy_targets_of_sequences(self, network: str, tells_final_obs: bool) -> None:
        """The master's value along a follower's sequence, from the follower's state before it, step by step.

        The final observation of a truncated step follows the master's own state, too, not the follower's.
        """
        env, policy = with_endings(), make_policy(**NETWORKS[network])
        if not tells_final_obs:
            env.final_obs = None
        dataset = make_dataset(env, policy)
        dataset.lacks_final_obs = not tells_final_obs  # the warning has been given
        kinds = set()
        for start in (0, T):  # the second rollout begins in the middle of episodes
            reference, stored = Reference(policy), dataset.state.clone()
            dataset.collect()
            targets = units_of_reward(dataset, dataset.buffer.targets)
            for column, (_, source) in zip(range(N, N + 4), locate(dataset)[:4], strict=True):
                state = stored[:, [source]]
                for t in range(T):
                    now = start + t
                    _, value, state = reference(env.obs[now, source], MASTER, state)
                    terminated, truncated = bool(env.terminated[now, source]), bool(env.truncated[now, source])
                    if truncated:
                        shown = env.final_obs
                        following = value if shown is None else reference(shown[now, source], MASTER, state)[1]
                    else:
                        following = reference(env.obs[now + 1, source], MASTER, state)[1]
                    wanted = env.reward[now, source].item() + (0.0 if terminated else GAMMA * following)
                    assert targets[t, column].item() == pytest.approx(wanted, abs=2e-4)
                    if terminated or truncated:
                        state = reference.fresh_state()
                    kinds.add((terminated, truncated))
        assert kinds == {(False, False), (True, False), (False, True)}

    @pytest.mark.parametrize("network", NETWORKS)
    def test_without_final_observation_the_last_seen_state_bootstraps(self, network: str) -> None:
        env, policy = with_endings(), make_policy(**NETWORKS[network])
        env.final_obs = None
        reference = Reference(policy)
        dataset = make_dataset(env, policy, estimator="n_step", n_step=1)
        with pytest.warns(UserWarning, match="Scripted gives no final_obs"):
            dataset.collect()
        targets = units_of_reward(dataset, dataset.buffer.targets)
        assert dataset.lacks_final_obs
        for column, t in ((1, 2), (3, 0), (3, 4), (5, 3)):  # the truncated ones
            _, values, _, _ = replay(reference, env, column)
            wanted = env.reward[t, column].item() + GAMMA * values[t]
            assert targets[t, column].item() == pytest.approx(wanted, abs=2e-4)

    def test_terminated_wins_over_truncated(self) -> None:
        env = Scripted()
        env.terminated[2, 1] = env.truncated[2, 1] = True
        dataset = make_dataset(env, estimator="n_step", n_step=1)
        dataset.collect()
        found = units_of_reward(dataset, dataset.buffer.targets)[2, 1]
        torch.testing.assert_close(found, env.reward[2, 1], rtol=0, atol=1e-4)

    def test_reward_scale_is_the_critics_affair(self) -> None:
        env = with_endings()
        dataset = make_dataset(env, reward_scale=0.01, gamma=0.0, estimator="n_step")
        dataset.collect()
        targets = units_of_reward(dataset, dataset.buffer.targets)
        torch.testing.assert_close(targets[:, :N], 0.01 * env.reward[:T], rtol=0, atol=1e-5)
        sources = tuple(torch.tensor(locate(dataset)).T)
        torch.testing.assert_close(targets[:, N:].flatten(), 0.01 * env.reward[sources], rtol=0, atol=1e-5)
        assert dataset.episodes is not None
        torch.testing.assert_close(dataset.episodes.totals[0, 0], env.reward[0])
        # env 0 ends at step 1: its return is the plain sum of two rewards
        torch.testing.assert_close(dataset.episodes.totals[1, 0, 0], env.reward[:2, 0].sum())

    def test_advantages_are_normalised_over_the_pooled_set(self) -> None:
        dataset = make_dataset()
        dataset.collect()
        buffer = dataset.buffer
        assert buffer.advantages.shape == (T, N + 4)
        assert buffer.advantages.mean().item() == pytest.approx(0.0, abs=1e-5)
        assert buffer.advantages.std(correction=0).item() == pytest.approx(1.0, abs=1e-4)
        raw = units_of_reward(dataset, buffer.targets) - units_of_reward(dataset, buffer.values[:-1])
        wanted = (raw - raw.mean()) / raw.std(correction=0)
        torch.testing.assert_close(buffer.advantages, wanted, rtol=0, atol=1e-3)

    def test_targets_are_in_the_units_of_moments_that_know_them(self) -> None:
        policy = LatentActorCritic(O, A, K, NetworkSettings(gene_dim=2, hidden=(8,)))
        dataset = make_dataset(policy=policy)
        dataset.collect()
        assert policy.value_moments.count == T * (N + 4)
        assert dataset.buffer.targets.mean().item() == pytest.approx(0.0, abs=1e-4)
        assert dataset.buffer.targets.std(correction=0).item() == pytest.approx(1.0, abs=1e-3)


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


class TestActions:
    def test_clipped_for_the_environment_only(self) -> None:
        env, policy = with_endings(), make_policy()
        reference = Reference(policy)
        dataset = make_dataset(env, policy)
        dataset.collect()
        given, stored = torch.stack(env.actions), dataset.buffer.actions[:, :N]
        assert torch.equal(given, stored.clamp(-1, 1))
        assert given.abs().max() == 1
        assert (stored.abs() > 1).sum() > 5
        for t, column in grid(T, range(N)):
            mean, _, _ = reference(env.obs[t, column], agent_of(column), reference.fresh_state())
            std = policy.log_std[agent_of(column)].detach().exp()
            wanted = Normal(mean, std).log_prob(stored[t, column]).sum()
            torch.testing.assert_close(dataset.buffer.log_probs[t, column], wanted, rtol=0, atol=1e-5)

    def test_noise_is_standard_normal_around_the_mean(self) -> None:
        env = Scripted(num_envs=3000, steps=T)
        dataset = make_dataset(env, make_policy())
        reference = copy.deepcopy(dataset.policy)
        dataset.collect()
        with torch.no_grad():
            rows = reference.express(dataset.agent_ids)
            mean = torch.stack(
                [reference(reference.obs_moments.normalize(x), rows, dataset.state).actions.mean for x in env.obs[:T]]
            )
            noise = (dataset.buffer.actions[:, :3000] - mean) / rows.log_std.exp()
        assert noise.mean().abs() < 5 / math.sqrt(noise.numel())
        assert (noise.std() - 1).abs() < 5 / math.sqrt(2 * noise.numel())
        assert torch.corrcoef(noise[:2, :, 0])[0, 1].abs() < 5 / math.sqrt(3000)

    def test_no_graph_is_kept(self) -> None:
        dataset = make_dataset(policy=make_policy(lstm_units=5))
        batch = minibatches(dataset)[0]
        tensors = [*batch, dataset.state, dataset.obs, *vars(dataset.buffer).values(), *vars(dataset.ledger).values()]
        assert all(not t.requires_grad and t.grad_fn is None for t in tensors if isinstance(t, Tensor))
        assert all(not value.requires_grad for value in dataset.diagnostics.values())
        assert all(parameter.grad is None for parameter in dataset.policy.parameters())
        assert all(parameter.requires_grad for parameter in dataset.policy.parameters())


class TestRecurrentState:
    def test_carried_over_rollouts_and_zeroed_at_the_end_of_an_episode(self) -> None:
        env, policy = with_endings(), make_policy(lstm_units=5)
        dataset = make_dataset(env, policy)
        states = [policy.initial_state(1)] * N
        for start in (0, T, 2 * T):
            reference = Reference(policy)
            dataset.collect()
            for column in range(N):
                before = dataset.buffer.states[:, column]
                torch.testing.assert_close(before, states[column][:, 0], rtol=0, atol=1e-5)
                states[column] = replay(reference, env, column, start, states[column])[3]
                torch.testing.assert_close(dataset.state[:, column], states[column][:, 0], rtol=0, atol=1e-5)
        # envs 1, 3 and 4 ended with the second rollout's last step; of the others something is remembered
        remembered = dataset.buffer.states[:, :N].abs().sum((0, 2)) > 0
        assert remembered.tolist() == [True, False, True, False, False, True]
        assert torch.all(dataset.state.abs().sum((0, 2)) > 0)

    def test_resets_mark_the_steps_after_an_end(self) -> None:
        env = with_endings()
        dataset = make_dataset(env, make_policy(lstm_units=5))
        dataset.collect()
        dataset.collect()
        done = (env.terminated | env.truncated)[T : 2 * T]
        assert torch.equal(dataset.buffer.resets[1:, :N], done)
        # the carried state is zero already, where an episode starts with the rollout
        assert not dataset.buffer.resets[0].any()

    def test_a_new_gene_starts_without_memory_and_without_fitness(self) -> None:
        dataset = make_dataset(policy=make_policy(lstm_units=5))
        dataset.collect()
        before = dataset.state.clone()
        dataset.start_new_gene(torch.tensor([0, 2]))  # envs 0, 1 and 4, 5
        assert dataset.state[:, [0, 1, 4, 5]].abs().max() == 0
        assert torch.equal(dataset.state[:, [2, 3]], before[:, [2, 3]])
        assert before[:, 2].abs().max() > 0
        assert dataset.individuals.tolist() == [3, 1, 4]
        # nobody has anything in the new window, whatever the old ones had
        assert dataset.fitness.opened_at == T * N
        assert dataset.fitness.measure(dataset.ledger.running).tolist() == [[0.0] * 3] * 3

    def test_the_ratio_is_still_mu_after_a_new_gene(self) -> None:
        dataset = make_dataset(Scripted(), make_policy(lstm_units=5))
        minibatches(dataset)
        dataset.start_new_gene(torch.tensor([2]))
        for batch in minibatches(dataset):
            log_probs, _ = recomputed(dataset, batch)
            torch.testing.assert_close(log_probs - batch.log_probs, batch.log_mu, rtol=0, atol=2e-5)


class TestObservations:
    def test_normalised_with_the_moments_before_the_rollout(self) -> None:
        env, policy = with_endings(), make_policy()
        dataset = make_dataset(env, policy)
        for start in (0, T):
            moments = copy.deepcopy(policy.obs_moments)
            dataset.collect()
            raw = env.obs[start : start + T + 1]
            wanted = ((raw - moments.mean) / (moments.var + moments.epsilon).sqrt()).clamp(-5, 5).float()
            torch.testing.assert_close(dataset.buffer.obs[:, :N], wanted, rtol=0, atol=1e-5)
            # each observation enters once: the state after the rollout is the first of the next one
            assert policy.obs_moments.count == moments.count + T * N
            total = moments.mean * moments.count + raw[:-1].double().sum((0, 1))
            torch.testing.assert_close(policy.obs_moments.mean, total / policy.obs_moments.count, rtol=0, atol=1e-6)

    def test_the_first_rollout_is_not_normalised_and_its_moments_are_its_own(self) -> None:
        env, policy = Scripted(), LatentActorCritic(O, A, K, NetworkSettings(gene_dim=2, hidden=(8,), obs_clip=100.0))
        make_dataset(env, policy).collect()
        seen = env.obs[:T].double().flatten(0, 1)
        torch.testing.assert_close(policy.obs_moments.mean, seen.mean(0), rtol=0, atol=1e-6)
        torch.testing.assert_close(policy.obs_moments.var, seen.var(0, correction=0), rtol=1e-6, atol=0)

    def test_the_environments_own_tensors_are_left_alone(self) -> None:
        env, untouched = with_endings(), with_endings()
        dataset = make_dataset(env)
        dataset.collect()
        dataset.collect()
        for name in ("obs", "final_obs", "reward", "terminated", "truncated"):
            assert torch.equal(getattr(env, name), getattr(untouched, name))


class ReusedBuffers(Scripted):
    """Returns the same tensors in every step, overwritten: the contract allows it."""

    def __init__(self) -> None:
        super().__init__()
        source = with_endings()
        self.terminated, self.truncated = source.terminated, source.truncated
        self.mine: StepResult | None = None

    def step(self, actions: Tensor) -> StepResult:
        result = super().step(actions)
        if self.mine is None:
            self.mine = result._replace(**{f: getattr(result, f).clone() for f in result._fields[:6]})
        for mine, new in zip(self.mine[:6], result[:6], strict=True):
            if mine is not None and new is not None:
                mine.copy_(new)
        return self.mine


def test_an_environment_may_reuse_its_tensors() -> None:
    one, other = make_dataset(with_endings()), make_dataset(ReusedBuffers())
    for _ in range(2):
        one.collect()
        other.collect()
        assert_same_rollout(one, other)


class TestBadEnvironments:
    @pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
    @pytest.mark.parametrize("field", ["obs", "reward", "successes"])
    def test_what_is_not_finite_names_its_environments(self, field: str, value: float) -> None:
        env = with_endings()
        getattr(env, field)[3, 4] = value
        getattr(env, field)[2, 1] = value
        with pytest.raises(ValueError, match=r"data\.env: Scripted returned .* not finite in envs \[1, 4\]"):
            make_dataset(env).collect()

    def test_a_bad_final_observation_names_its_environment(self) -> None:
        env = with_endings()
        assert env.final_obs is not None
        env.final_obs[2, 1, 0] = math.nan  # env 1 is truncated at step 2
        with pytest.raises(ValueError, match=r"data\.env: Scripted returned .* not finite in envs \[1\]"):
            make_dataset(env).collect()

    def test_final_observations_that_nobody_reads_may_be_anything(self) -> None:
        env = with_endings()
        assert env.final_obs is not None
        env.final_obs[~env.truncated] = math.nan
        dataset = make_dataset(env)
        dataset.collect()
        assert torch.isfinite(dataset.buffer.targets).all()

    def test_large_but_finite_is_not_refused(self) -> None:
        env = Scripted()
        env.obs[1:4] = 3e38  # their sum is not finite
        make_dataset(env).collect()

    def test_nothing_is_learnt_from_a_refused_rollout(self) -> None:
        env, policy = with_endings(), make_policy()
        env.reward[3, 4] = math.nan
        before = copy.deepcopy(policy.state_dict())
        dataset = make_dataset(env, policy)
        with pytest.raises(ValueError, match="finite"):
            dataset.collect()
        assert all(torch.equal(value, before[name]) for name, value in policy.state_dict().items())
        assert dataset.env_steps == 0

    @pytest.mark.parametrize(
        ("field", "change", "words"),
        [
            ("obs", lambda x: x[:, :2], r"obs must have shape \(6, 3\), got \(6, 2\)"),
            ("obs", lambda x: x.double(), r"obs must be torch\.float32, got torch\.float64"),
            ("reward", lambda x: x[:, None], r"reward must have shape \(6,\), got \(6, 1\)"),
            ("reward", lambda x: x[:1], r"reward must have shape \(6,\), got \(1,\)"),
            ("reward", lambda x: x.long(), r"reward must be torch\.float32, got torch\.int64"),
            ("terminated", lambda x: x.float(), r"terminated must be torch\.bool, got torch\.float32"),
            ("truncated", lambda x: x[:-1], r"truncated must have shape \(6,\), got \(5,\)"),
            ("successes", lambda x: x.bool(), r"successes must be torch\.float32, got torch\.bool"),
            ("final_obs", lambda x: x[0], r"final_obs must have shape \(6, 3\), got \(3,\)"),
        ],
    )
    def test_wrong_shapes_and_types_at_the_first_step(
        self, field: str, change: Callable[[Tensor], Tensor], words: str
    ) -> None:
        class Wrong(Scripted):
            def step(self, actions: Tensor) -> StepResult:
                result = super().step(actions)
                changed: dict[str, Any] = {field: change(getattr(result, field))}
                return result._replace(**changed)

        env = Wrong()
        with pytest.raises(ValueError, match=rf"StepResult\.{words}"):
            make_dataset(env).collect()
        assert env.clock == 1

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            (lambda x: x[:, :1], "shape"),  # one column would be spread over three
            (lambda x: x[:1], "shape"),
            (lambda x: x.double(), "float64"),
        ],
    )
    def test_a_wrong_first_observation_is_refused_too(self, change: Callable[[Tensor], Tensor], words: str) -> None:
        class Wrong(Scripted):
            def reset(self) -> Tensor:
                return change(super().reset())

        with pytest.raises(ValueError, match=rf"reset\(\).*{words}"):
            make_dataset(Wrong()).collect()


class TestState:
    @both_networks
    def test_a_restored_dataset_goes_on_to_the_bit(self, network: str) -> None:
        one = make_dataset(policy=make_policy(**NETWORKS[network]))
        minibatches(one)
        one.start_new_gene(torch.tensor([1]))
        minibatches(one)
        saved, policy = copy.deepcopy(one.saved()), copy.deepcopy(one.policy)
        other = make_dataset(policy=policy, seed=99)
        other.restore(saved)
        for _ in range(2):
            for mine, theirs in zip(minibatches(one), minibatches(other), strict=True):
                for field, a, b in zip(mine._fields, mine, theirs, strict=True):
                    assert torch.equal(a, b), field
            assert_same_rollout(one, other)
            assert one.episodes is not None
            assert other.episodes is not None
            for a, b in zip(one.episodes, other.episodes, strict=True):
                assert torch.equal(a, b)
            assert one.env_steps == other.env_steps
            measured = [each.fitness.measure(each.ledger.running) for each in (one, other)]
            assert torch.equal(*measured)
            assert torch.equal(one.individuals, other.individuals)
        assert one.env_steps == 4 * T * N

    def test_the_seed_decides(self) -> None:
        one, same, other = (make_dataset(policy=make_policy(), seed=seed) for seed in (5, 5, 6))
        for mine, again, else_ in zip(*map(minibatches, (one, same, other)), strict=True):
            assert all(torch.equal(a, b) for a, b in zip(mine, again, strict=True))
            assert not torch.equal(mine.actions, else_.actions)

    def test_other_random_numbers_do_not_disturb_it(self) -> None:
        one = make_dataset(policy=make_policy())
        torch.manual_seed(1)
        one.collect()
        other = make_dataset(policy=make_policy())
        torch.manual_seed(2)
        other.collect()
        assert_same_rollout(one, other)


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
