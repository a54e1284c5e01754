"""What a rollout leaves to the next one: recurrent states, moments of observations, and all that is saved.

Axes: T horizon, N environments, K agents, O observation, A action, C off-policy columns.
"""

import copy

import torch

from epo_lightning.learner.networks import LatentActorCritic, NetworkSettings
from tests.support.scripted import (
    NETWORKS,
    A,
    K,
    N,
    O,
    Reference,
    Scripted,
    T,
    assert_same_rollout,
    both_networks,
    make_dataset,
    make_policy,
    minibatches,
    recomputed,
    replay,
    with_endings,
)


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
