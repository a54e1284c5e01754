"""Episodes, means per agent and explained variance: every number below is counted by hand.

Axes: T steps, M = (return, length, successes), N environments, K agents.
"""

import math
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from epo_lightning.algorithm.population import Population
from epo_lightning.experience.base import Experience
from epo_lightning.experience.episodes import QUANTITIES, AgentMean, EpisodeLedger, explained_variance

CPU = torch.device("cpu")


def steps(*rows: list[int]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float32)


def ends(*rows: list[int]) -> Tensor:
    return torch.tensor(rows, dtype=torch.bool)


class TestEpisodeLedger:
    def test_totals_run_on_over_rollouts(self) -> None:
        ledger = EpisodeLedger(2, CPU)
        # env 0: rewards 1, 2 | 4, 8; ends after the third step. env 1: 10 | 20, 30 | 40; ends after steps 1 and 3
        first = ledger.record(steps([1, 10], [2, 20]), steps([0, 1], [1, 0]), ends([0, 1], [0, 0]))
        assert first.totals[:, 0].tolist() == [[1, 10], [3, 20]]
        assert first.totals[:, 1].tolist() == [[1, 1], [2, 1]]
        assert first.totals[:, 2].tolist() == [[0, 1], [1, 0]]
        assert first.ended.tolist() == [[False, True], [False, False]]

        second = ledger.record(steps([4, 30], [8, 40]), steps([1, 1], [0, 1]), ends([1, 1], [0, 0]))
        assert second.totals[:, 0].tolist() == [[7, 50], [8, 40]]
        assert second.totals[:, 1].tolist() == [[3, 2], [1, 1]]
        assert second.totals[:, 2].tolist() == [[2, 1], [0, 1]]
        assert ledger.running.tolist() == [[8, 40], [1, 1], [0, 1]]

    def test_last_is_the_latest_finished_episode_of_each_environment(self) -> None:
        ledger = EpisodeLedger(3, CPU)
        # env 0 ends twice (returns 1, then 2 + 4), env 1 once (8 + 16), env 2 never
        rewards = steps([1, 8, 5], [2, 16, 5], [4, 32, 5])
        ledger.record(rewards, torch.zeros(3, 3), ends([1, 0, 0], [0, 1, 0], [1, 0, 0]))
        assert ledger.has_finished.tolist() == [True, True, False]
        assert ledger.last[:, :2].tolist() == [[6, 24], [2, 2], [0, 0]]
        ledger.record(steps([1, 1, 1]), torch.zeros(1, 3), ends([0, 0, 1]))
        assert ledger.has_finished.tolist() == [True, True, True]
        assert ledger.last[0].tolist() == [6, 24, 16]

    def test_who_acts_anew_has_finished_no_episode_and_has_not_begun_the_one_that_runs(self) -> None:
        ledger, none = EpisodeLedger(3, CPU), torch.zeros(1, 3)
        ledger.record(steps([1, 1, 1]), none, ends([1, 1, 1]))
        ledger.record(steps([2, 2, 2]), none, ends([0, 1, 0]))  # environment 1 begins an episode now
        ledger.forget(torch.tensor([True, True, False]))
        assert ledger.has_finished.tolist() == [False, False, True]
        ledger.record(steps([4, 4, 4]), none, ends([1, 1, 1]))
        assert ledger.has_finished.tolist() == [False, True, True]
        assert ledger.last[0, 1:].tolist() == [4, 6]
        ledger.record(steps([8, 8, 8]), none, ends([1, 0, 0]))
        assert ledger.has_finished.tolist() == [True, True, True]
        assert ledger.last[0].tolist() == [8, 4, 6]

    def test_who_takes_over_tells_what_the_other_did(self) -> None:
        """The master has five environments and each follower two, of which the second has finished one episode."""
        population, ledger = Population(3, 9, master_share=0.56), EpisodeLedger(9, CPU)
        experience: Any = SimpleNamespace(population=population, ledger=ledger, device=CPU)
        rewards = steps([1, 2, 3, 4, 5, 6, 7, 8, 9])
        ledger.record(rewards, torch.zeros(1, 9), ends([1, 1, 1, 1, 1, 1, 1, 1, 0]))
        Experience.take_over_episodes(experience, 0, 2)
        assert ledger.last[0].tolist() == [8, 0, 8, 0, 8, 6, 7, 8, 0]
        assert ledger.has_finished.tolist() == [True, False, True, False, True, True, True, True, False]
        Experience.take_over_episodes(experience, 2, 1)
        assert ledger.last[0].tolist() == [8, 0, 8, 0, 8, 6, 7, 6, 7]
        assert ledger.has_finished[5:].all()

    def test_a_success_is_remembered_for_ever(self) -> None:
        ledger, copy = EpisodeLedger(2, CPU), EpisodeLedger(2, CPU)
        ledger.record(steps([1, 1]), steps([0, 0]), ends([1, 1]))
        assert not ledger.has_succeeded
        ledger.record(steps([1, 1]), steps([0, 1]), ends([0, 0]))
        assert ledger.has_succeeded
        ledger.record(steps([1, 1]), steps([0, 0]), ends([1, 1]))
        ledger.drop_running()
        assert ledger.has_succeeded
        copy.load_state_dict(ledger.state_dict())
        assert copy.has_succeeded

    def test_a_state_from_before_that_was_counted_can_be_gone_on_from(self) -> None:
        ledger, copy = EpisodeLedger(2, CPU), EpisodeLedger(2, CPU)
        for successes, told in ((0, False), (1, True)):
            ledger.record(steps([1, 1]), steps([0, successes]), ends([1, 1]))
            old = ledger.state_dict()
            del old["has_succeeded"]
            copy.load_state_dict(old)
            assert bool(copy.has_succeeded) is told

    def test_dropped_episodes_have_neither_run_nor_finished(self) -> None:
        """Environment 0 has finished one, 1 has not; both begin anew, and only then may their returns be told."""
        ledger = EpisodeLedger(2, CPU)
        done = torch.tensor([[True, False], [False, False]])
        ledger.record(torch.ones(2, 2), torch.zeros(2, 2), done)
        assert ledger.has_finished.tolist() == [True, False]
        assert ledger.running[0].tolist() == [1.0, 2.0]
        ledger.drop_running()
        assert ledger.has_finished.tolist() == [False, False]
        assert ledger.running[0].tolist() == [0.0, 0.0]
        ledger.record(torch.ones(2, 2), torch.zeros(2, 2), ~done)
        assert ledger.has_finished.tolist() == [True, True]

    def test_a_restored_ledger_goes_on_alike_and_shares_nothing(self) -> None:
        ledger, copy = EpisodeLedger(2, CPU), EpisodeLedger(2, CPU)
        ledger.record(steps([1, 2]), steps([1, 0]), ends([0, 1]))
        copy.load_state_dict(ledger.state_dict())
        for name, value in ledger.state_dict().items():
            assert torch.equal(value, copy.state_dict()[name])
            assert value.data_ptr() != copy.state_dict()[name].data_ptr()
        arguments = steps([4, 8]), steps([0, 0]), ends([1, 1])
        for one, other in zip(ledger.record(*arguments), copy.record(*arguments), strict=True):
            assert torch.equal(one, other)


class TestAgentMean:
    # Two agents with two environments each; one step; the masked environments' values must not matter
    values = torch.tensor([[[1.0, 3.0, 10.0, math.nan], [5.0, 7.0, 20.0, 99.0], [0.0, 1.0, 2.0, 99.0]]])
    mask = torch.tensor([[True, True, True, False]])

    def test_means_per_agent_over_steps_and_calls(self) -> None:
        metric = AgentMean(Population(2, 4))
        metric.update(self.values, self.mask)
        means, count = metric.compute()
        assert means.tolist() == [[2.0, 10.0], [6.0, 20.0], [0.5, 2.0]]
        assert count.tolist() == [2.0, 1.0]
        # two more steps: agent 0 finishes one episode, agent 1 three
        values = torch.tensor([8.0, 0.0, 4.0, 6.0]).expand(2, 3, 4)
        metric.update(values, torch.tensor([[True, False, True, True], [False, False, False, True]]))
        means, count = metric.compute()
        assert means[0].tolist() == [(1 + 3 + 8) / 3, (10 + 4 + 6 + 6) / 4]
        assert count.tolist() == [3.0, 4.0]

    def test_without_a_step_axis(self) -> None:
        metric = AgentMean(Population(2, 4))
        metric.update(self.values[0], self.mask[0])
        assert metric.compute()[0].tolist() == [[2.0, 10.0], [6.0, 20.0], [0.5, 2.0]]

    def test_nan_without_an_episode(self) -> None:
        metric = AgentMean(Population(2, 4))
        metric.update(self.values, torch.tensor([[True, False, False, False]]))
        means, count = metric.compute()
        assert means[:, 0].tolist() == [1.0, 5.0, 0.0]
        assert means[:, 1].isnan().all()
        assert count.tolist() == [1.0, 0.0]

    def test_sums_are_exact_over_many_episodes(self) -> None:
        metric = AgentMean(Population(1, 1))
        for _ in range(3):
            metric.update(torch.full((1, 3, 1), 2.0**24 + 2), torch.ones(1, 1, dtype=torch.bool))
        metric.update(torch.ones(1, 3, 1), torch.ones(1, 1, dtype=torch.bool))
        # in float32 the sum 3 * 2^24 + 7 would lose its last bits
        assert metric.compute()[0].tolist() == [[(3 * 2.0**24 + 7) / 4]] * len(QUANTITIES)


class TestExplainedVariance:
    targets = torch.tensor([[1.0, 2.0], [3.0, 4.0]])

    def test_a_perfect_critic(self) -> None:
        assert explained_variance(self.targets, self.targets) == 1

    def test_a_critic_that_knows_the_mean(self) -> None:
        assert explained_variance(torch.full((2, 2), 2.5), self.targets) == 0

    def test_a_constant_offset_is_no_variance(self) -> None:
        assert explained_variance(self.targets + 5, self.targets) == 1

    def test_by_hand(self) -> None:
        # errors 1, 0, 0, -1: sample variance 2/3; targets 1, 2, 3, 4: 5/3; 1 - 2/5
        values = torch.tensor([[0.0, 2.0], [3.0, 5.0]])
        torch.testing.assert_close(explained_variance(values, self.targets), torch.tensor(0.6))

    def test_worse_than_the_mean_is_negative(self) -> None:
        torch.testing.assert_close(explained_variance(-self.targets, self.targets), torch.tensor(1 - 4.0))

    def test_constant_targets_stay_finite(self) -> None:
        assert torch.isfinite(explained_variance(self.targets, torch.ones(2, 2)))
