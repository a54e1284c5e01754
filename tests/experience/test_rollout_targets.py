"""The targets of a rollout, against direct computations with the network.

Axes: T horizon, N environments, K agents, O observation, A action, C off-policy columns.
"""

import pytest
import torch
from torch import Tensor

from epo_lightning.algorithm.population import MASTER
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
    grid,
    locate,
    make_dataset,
    make_policy,
    replay,
    units_of_reward,
    with_endings,
)


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
