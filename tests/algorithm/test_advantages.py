"""Critic targets, worked out by hand with gamma = 0.5 so that every number is exact in binary."""

import pytest
import torch
from torch import Tensor

from epo_lightning.algorithm.advantages import bootstrap_values, gae_targets, n_step_targets, one_step_targets

GAMMA = 0.5


def column(*numbers: float) -> Tensor:
    return torch.tensor(numbers)[:, None]


def flags(steps: int, *at: int) -> Tensor:
    done = torch.zeros(steps, 1, dtype=torch.bool)
    done[list(at)] = True
    return done


class TestBootstrap:
    def test_the_three_ways_a_step_can_go_on(self) -> None:
        # columns: goes on, terminated, truncated, both at once
        values = torch.tensor([[1.0] * 4, [2.0] * 4])
        final = torch.full((1, 4), 7.0)
        terminated = torch.tensor([[False, True, False, True]])
        truncated = torch.tensor([[False, False, True, True]])
        following = bootstrap_values(values, final, terminated, truncated)
        # V(s_1) = 2; nothing; V(final_obs) = 7; termination wins
        assert following.tolist() == [[2.0, 0.0, 7.0, 0.0]]

    def test_final_values_are_read_only_where_truncated(self) -> None:
        nan = float("nan")
        values = column(1.0, 2.0, nan, 4.0)  # V of the fresh episode after a truncation must not be read
        final = column(nan, 9.0, nan)
        following = bootstrap_values(values, final, flags(3), flags(3, 1))
        assert following.squeeze(1).tolist() == [2.0, 9.0, 4.0]

    def test_a_terminated_step_reads_nothing_at_all(self) -> None:
        nan = float("nan")
        following = bootstrap_values(column(1.0, nan), column(nan), flags(1, 0), flags(1, 0))
        assert following.item() == 0.0


class TestGAE:
    rewards = column(1.0, 2.0, 3.0)
    values = column(2.0, 4.0, 6.0)

    def test_within_one_episode(self) -> None:
        # delta = r + 0.5 V' - V: 1 + 2 - 2 = 1, 2 + 3 - 4 = 1, 3 + 4 - 6 = 1
        # A = delta + 0.25 A': A_2 = 1, A_1 = 1.25, A_0 = 1.3125
        targets = gae_targets(self.rewards, self.values, column(4.0, 6.0, 8.0), flags(3), GAMMA, 0.5)
        assert targets.squeeze(1).tolist() == [3.3125, 5.25, 7.0]

    def test_terminated_in_the_middle(self) -> None:
        # V' = 0 after step 1: delta_1 = 2 - 4 = -2 = A_1; A_0 = 1 + 0.25 * -2 = 0.5; step 2 is another episode
        targets = gae_targets(self.rewards, self.values, column(4.0, 0.0, 8.0), flags(3, 1), GAMMA, 0.5)
        assert targets.squeeze(1).tolist() == [2.5, 2.0, 7.0]

    def test_truncated_in_the_middle(self) -> None:
        # V' = V(final_obs) = 10 after step 1: delta_1 = 2 + 5 - 4 = 3 = A_1; A_0 = 1 + 0.75 = 1.75
        targets = gae_targets(self.rewards, self.values, column(4.0, 10.0, 8.0), flags(3, 1), GAMMA, 0.5)
        assert targets.squeeze(1).tolist() == [3.75, 7.0, 7.0]

    def test_environments_do_not_mix(self) -> None:
        next_values = torch.tensor([[4.0, 4.0, 4.0], [6.0, 0.0, 10.0], [8.0, 8.0, 8.0]])
        done = torch.tensor([[False] * 3, [False, True, True], [False] * 3])
        targets = gae_targets(self.rewards.repeat(1, 3), self.values.repeat(1, 3), next_values, done, GAMMA, 0.5)
        assert targets.T.tolist() == [[3.3125, 5.25, 7.0], [2.5, 2.0, 7.0], [3.75, 7.0, 7.0]]

    def test_lambda_one_is_the_full_return_whatever_the_critic_says(self) -> None:
        # G_2 = 3 + 4 = 7, G_1 = 2 + 3.5 = 5.5, G_0 = 1 + 2.75 = 3.75
        for critic in (0.0, 100.0):
            values = column(2.0, 4.0 + critic, 6.0 - critic)
            next_values = torch.cat([values[1:], column(8.0)])
            targets = gae_targets(self.rewards, values, next_values, flags(3), GAMMA, 1.0)
            torch.testing.assert_close(targets.squeeze(1), torch.tensor([3.75, 5.5, 7.0]))

    def test_lambda_zero_looks_one_step_ahead(self) -> None:
        # r + 0.5 V': 1 + 2, 2 + 5, 3 + 4
        targets = gae_targets(self.rewards, self.values, column(4.0, 10.0, 8.0), flags(3, 1), GAMMA, 0.0)
        assert targets.squeeze(1).tolist() == [3.0, 7.0, 7.0]

    def test_inputs_are_left_alone(self) -> None:
        rewards, values, next_values = self.rewards.clone(), self.values.clone(), column(4.0, 6.0, 8.0)
        gae_targets(rewards, values, next_values, flags(3), GAMMA, 0.5)
        assert torch.equal(rewards, self.rewards)
        assert torch.equal(values, self.values)
        assert next_values.squeeze(1).tolist() == [4.0, 6.0, 8.0]


class TestNStep:
    rewards = column(1.0, 2.0, 4.0, 8.0)
    next_values = column(10.0, 20.0, 30.0, 40.0)

    @pytest.mark.parametrize(
        ("n", "expected"),
        [
            # r_t + V'/2: 1 + 5, 2 + 10, 4 + 15, 8 + 20
            (1, [6.0, 12.0, 19.0, 28.0]),
            # r_t + r_t+1 / 2 + V'_t+1 / 4: 1 + 1 + 5, 2 + 2 + 7.5, 4 + 4 + 10; the last step sees the rollout's end
            (2, [7.0, 11.5, 18.0, 28.0]),
            # one more: 1 + 1 + 1 + 30/8, 2 + 2 + 2 + 40/8, and the last two are cut by the rollout's end
            (3, [6.75, 11.0, 18.0, 28.0]),
            # all of it: 1 + 1 + 1 + 1 + 40/16
            (4, [6.5, 11.0, 18.0, 28.0]),
            (9, [6.5, 11.0, 18.0, 28.0]),
        ],
    )
    def test_within_one_episode(self, n: int, expected: list[float]) -> None:
        targets = n_step_targets(self.rewards, self.next_values, flags(4), GAMMA, n)
        assert targets.squeeze(1).tolist() == expected

    def test_a_terminated_episode_cuts_the_sum(self) -> None:
        next_values = column(10.0, 0.0, 30.0, 40.0)
        # G_1 = 2 + 0; G_0 = 1 + 2/2 = 2; nothing of the rewards 4 and 8 leaks into them
        targets = n_step_targets(self.rewards, next_values, flags(4, 1), GAMMA, 3)
        assert targets.squeeze(1).tolist() == [2.0, 2.0, 18.0, 28.0]

    def test_a_truncated_episode_bootstraps_where_it_was_cut(self) -> None:
        next_values = column(10.0, 100.0, 30.0, 40.0)
        # G_1 = 2 + 100/2 = 52; G_0 = 1 + 2/2 + 100/4 = 27
        targets = n_step_targets(self.rewards, next_values, flags(4, 1), GAMMA, 3)
        assert targets.squeeze(1).tolist() == [27.0, 52.0, 18.0, 28.0]

    def test_an_episode_that_ends_exactly_n_steps_ahead_and_one_that_ends_with_the_rollout(self) -> None:
        next_values = column(10.0, 20.0, 0.0, 0.0)
        # G_0 = 1 + 2/2 + 4/4 + 0; G_1 = 2 + 4/2 = 4; G_2 = 4; G_3 = 8
        targets = n_step_targets(self.rewards, next_values, flags(4, 2, 3), GAMMA, 3)
        assert targets.squeeze(1).tolist() == [3.0, 4.0, 4.0, 8.0]

    def test_environments_do_not_mix(self) -> None:
        next_values = torch.cat([self.next_values, column(10.0, 0.0, 30.0, 40.0)], dim=1)
        done = torch.cat([flags(4), flags(4, 1)], dim=1)
        targets = n_step_targets(self.rewards.repeat(1, 2), next_values, done, GAMMA, 3)
        assert targets.T.tolist() == [[6.75, 11.0, 18.0, 28.0], [2.0, 2.0, 18.0, 28.0]]

    def test_inputs_are_left_alone(self) -> None:
        rewards, next_values = self.rewards.clone(), self.next_values.clone()
        n_step_targets(rewards, next_values, flags(4), GAMMA, 3)
        assert torch.equal(rewards, self.rewards)
        assert torch.equal(next_values, self.next_values)


class TestRelations:
    """The three estimators meet at their extremes, on random rollouts with many episode ends."""

    @pytest.fixture
    def rollout(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        generator = torch.Generator().manual_seed(3)
        rewards, final_values = torch.randn(2, 12, 64, generator=generator, dtype=torch.float64)
        values = torch.randn(13, 64, generator=generator, dtype=torch.float64)
        terminated, truncated = torch.rand(2, 12, 64, generator=generator) < 0.2
        next_values = bootstrap_values(values, final_values, terminated, truncated)
        return rewards, values[:-1], next_values, terminated | truncated

    def test_n_of_one_equals_one_step(self, rollout: tuple[Tensor, ...]) -> None:
        rewards, _, next_values, done = rollout
        expected = one_step_targets(rewards, next_values, 0.9)
        assert torch.equal(n_step_targets(rewards, next_values, done, 0.9, 1), expected)

    def test_lambda_zero_equals_one_step(self, rollout: tuple[Tensor, ...]) -> None:
        rewards, values, next_values, done = rollout
        expected = one_step_targets(rewards, next_values, 0.9)
        torch.testing.assert_close(gae_targets(rewards, values, next_values, done, 0.9, 0.0), expected)

    def test_lambda_one_equals_n_beyond_the_horizon(self, rollout: tuple[Tensor, ...]) -> None:
        rewards, values, next_values, done = rollout
        expected = n_step_targets(rewards, next_values, done, 0.9, 12)
        torch.testing.assert_close(gae_targets(rewards, values, next_values, done, 0.9, 1.0), expected)

    def test_the_lambda_return_is_the_weighted_mean_of_n_step_returns(self, rollout: tuple[Tensor, ...]) -> None:
        rewards, values, next_values, done = rollout
        # (1 - lambda) sum_{n=1}^{11} lambda^(n-1) G^(n) + lambda^11 G^(12): beyond an end all G^(n) are the same
        lam = 0.7
        returns = [n_step_targets(rewards, next_values, done, 0.9, n) for n in range(1, 13)]
        mean = sum((1 - lam) * lam**i * g for i, g in enumerate(returns[:-1])) + lam**11 * returns[-1]
        torch.testing.assert_close(gae_targets(rewards, values, next_values, done, 0.9, lam), mean)


def test_one_step_by_hand() -> None:
    # r + 0.5 V': the value after a terminated step is already 0
    assert one_step_targets(column(1.0, -2.0), column(6.0, 0.0), GAMMA).squeeze(1).tolist() == [4.0, -2.0]
