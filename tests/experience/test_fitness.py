"""Fitness windows: which episodes count, for whom, and when they may be looked at; counted by hand.

Axes: T steps, M = (return, length, successes), N environments, K agents.
"""

import copy

import pytest
import torch

from epo_lightning.algorithm.population import Population
from epo_lightning.experience.episodes import EpisodeLedger
from epo_lightning.experience.fitness import FitnessWindow

CPU = torch.device("cpu")


class Play:
    """A ledger and a window that are fed by hand: environment n is paid 10^n in every step."""

    def __init__(self, num_agents: int, num_envs: int, episodes: int = 1) -> None:
        self.ledger = EpisodeLedger(num_envs, CPU)
        self.window = FitnessWindow(Population(num_agents, num_envs), CPU)
        self.window.episodes = episodes
        self.pay = 10.0 ** torch.arange(num_envs)
        self.env_steps = 0

    def rollout(self, *ends: str) -> None:
        """One row a step, one sign an environment: `x` where an episode ends."""
        done = torch.tensor([[sign == "x" for sign in row] for row in ends])
        rewards = self.pay.expand(len(ends), -1)
        self.window.update(self.ledger.record(rewards, torch.zeros_like(rewards), done))
        self.env_steps += done.numel()

    def open(self) -> None:
        self.window.open(self.ledger.running, self.env_steps)

    def returns(self) -> list[float]:
        return self.window.measure(self.ledger.running)[0].tolist()

    def is_complete(self, wanted: int) -> bool:
        return self.window.is_complete(self.env_steps, wanted, self.ledger.running)


class TestWhatCounts:
    def test_the_first_complete_episode_of_each_environment(self) -> None:
        play = Play(1, 3)
        # env 0: lengths 1, 2 | 1; env 1: length 2, then 1; env 2: length 4
        play.rollout("x..", ".x.", "xx.", "x.x")
        assert play.returns() == [pytest.approx((1 + 20 + 400) / 3)]
        assert play.window.measure(play.ledger.running)[1].tolist() == [pytest.approx((1 + 2 + 4) / 3)]

    def test_one_that_still_runs_counts_with_what_it_has_returned(self) -> None:
        play = Play(1, 2)
        play.rollout("..", "x.", "..")
        assert play.returns() == [(2 + 30) / 2]

    def test_over_rollouts(self) -> None:
        play = Play(1, 2)
        play.rollout("..", "..")
        play.rollout("x.", "x.", ".x")
        assert play.returns() == [(3 + 50) / 2]

    def test_what_ran_when_the_window_was_opened_is_nobodys(self) -> None:
        play = Play(1, 3)
        play.rollout("..x", "...")
        play.open()
        # env 0 ends its old episode, then plays one of two steps; env 1 begins at the last step; env 2 as env 0
        play.rollout("x..", "..x", "xx.", "...")
        assert play.returns() == [(2 + 10 + 200) / 3]

    def test_an_episode_that_begins_with_the_window_counts(self) -> None:
        play = Play(1, 2)
        play.rollout("xx")
        play.open()
        play.rollout("..", "xx", "xx")
        assert play.returns() == [(2 + 20) / 2]

    def test_the_first_n(self) -> None:
        play = Play(1, 2, episodes=2)
        # env 0: lengths 1, 2, 1; env 1: 3, and one that runs for one step
        play.rollout("x.", "..", "xx", "x.")
        assert play.returns() == [((1 + 2) / 2 + (30 + 10) / 2) / 2]
        play.rollout(".x", "xx")
        assert play.returns() == [((1 + 2) / 2 + (30 + 20) / 2) / 2]

    def test_fewer_from_now_on(self) -> None:
        play = Play(1, 1, episodes=3)
        play.rollout(".", "x", ".", ".", ".", "x")
        assert play.returns() == [(2 + 4) / 2]
        play.window.episodes = 1
        play.rollout(".", "x")
        assert play.returns() == [(2 + 4) / 2]  # of both that are in there, and of no third

    def test_agents_are_measured_apart(self) -> None:
        play = Play(2, 4)
        play.rollout("x...", ".x..", "..x.", "...x")
        assert play.returns() == [(1 + 20) / 2, (300 + 4000) / 2]

    def test_a_new_window_forgets(self) -> None:
        play = Play(1, 1)
        play.rollout("x", ".")
        play.open()
        play.rollout("x", ".", ".", "x")
        assert play.returns() == [3.0]

    def test_an_old_episode_that_outlasts_the_wait_counts_with_what_it_has_returned_in_the_window(self) -> None:
        play = Play(1, 2)
        play.rollout("..", "..", "..")
        play.open()
        play.rollout("..", "x.", "..", "..")
        assert play.returns() == [(2 + 40) / 2]


class TestWhenItMayBeLookedAt:
    def test_not_before_its_time(self) -> None:
        play = Play(1, 2)
        play.rollout("xx", "..")
        assert not play.is_complete(5)
        assert play.is_complete(4)

    def test_running_episodes_of_its_own_are_not_waited_for(self) -> None:
        play = Play(1, 2)
        play.rollout("..")
        assert play.is_complete(2)

    def test_old_ones_are_until_they_end_and_the_next_has_begun(self) -> None:
        play = Play(1, 2)
        play.rollout("..")
        play.open()
        play.rollout("x.", "..")
        assert not play.is_complete(3)
        play.rollout(".x")
        assert not play.is_complete(4)
        play.rollout("..")
        assert play.is_complete(5)

    def test_but_no_longer_than_a_window_more(self) -> None:
        play = Play(1, 2)
        play.rollout("..")
        play.open()
        play.rollout("x.", "..")
        assert not play.is_complete(3)
        play.rollout("..")
        assert play.is_complete(3)

    def test_a_reset_at_that_very_moment_is_waited_for(self) -> None:
        """Such an environment has nothing yet, and will have something after the next step."""
        play = Play(1, 2)
        play.rollout("..")
        play.open()
        play.rollout("x.", "..", ".x")
        assert not play.is_complete(3)
        play.rollout("..")
        assert play.is_complete(3)

    def test_episodes_that_all_begin_late_have_lasted_half_a_window(self) -> None:
        """Otherwise everybody would be measured by the first step after the reset."""
        play = Play(1, 2)
        play.rollout("..")
        play.open()
        play.rollout("..", "..", "xx", "..")  # old ones end after three steps, and one step of the next is made
        assert not play.is_complete(8)
        assert play.window.missing == 0
        play.rollout("..")
        assert play.is_complete(8)
        assert play.returns() == [(2 + 20) / 2]

    def test_short_ones_that_ended_have_shown_all(self) -> None:
        play = Play(1, 2)
        play.open()
        play.rollout("xx", "..", "..", "..")
        assert play.is_complete(8)
        assert play.returns() == [(1 + 10) / 2]

    def test_one_that_began_late_is_no_reason_where_the_others_of_its_agent_have_lasted(self) -> None:
        play = Play(1, 2)
        play.rollout(".x")
        play.open()
        play.rollout("..", "..", "x.", "..")  # one of four steps, and four of four: five eighths
        assert play.is_complete(8)

    def test_each_agent_has_shown_enough(self) -> None:
        play = Play(2, 4)
        play.rollout("..xx")
        play.open()
        play.rollout("....", "....", "xx..", "....")  # a quarter of the first agent, all of the second
        assert not play.is_complete(16)
        play.rollout("....")
        assert play.is_complete(16)

    def test_what_outlasts_the_wait_has_shown_all(self) -> None:
        play = Play(1, 2)
        play.rollout("..")
        play.open()
        play.rollout("..", "..", "..")
        assert not play.is_complete(4)
        play.rollout("..")
        assert play.is_complete(4)

    def test_counted_from_when_it_was_opened(self) -> None:
        play = Play(1, 2)
        play.rollout("xx", "xx")
        play.open()
        play.rollout("xx")
        assert not play.is_complete(4)
        assert play.is_complete(2)


class TestState:
    def test_a_restored_window_goes_on_alike_and_shares_nothing(self) -> None:
        play = Play(2, 4, episodes=2)
        play.rollout("..x.", "....")
        play.open()
        play.rollout("x..x", ".x..")
        other = copy.deepcopy(play)
        other.window = FitnessWindow(Population(2, 4), CPU)
        other.window.episodes = 2
        other.window.load_state_dict(play.window.state_dict())
        assert other.window.opened_at == 8
        before = other.returns()
        for ends in ("x..x", "..x.", "xxxx"):
            play.rollout(ends)
        assert other.returns() == before
        for ends in ("x..x", "..x.", "xxxx"):
            other.rollout(ends)
        assert other.returns() == play.returns()
