"""Staggered starts: who begins where, what is learned, and what is not counted; every number by hand.

Axes: T steps, N environments, K agents.
"""

import io
import warnings
from collections.abc import Mapping
from typing import Any

import pytest
import torch

from epo_lightning.algorithm.population import Population
from epo_lightning.envs.base import VectorEnv
from epo_lightning.envs.classic import Probe
from epo_lightning.envs.classic.base import Transition
from epo_lightning.experience.episodes import EpisodeLedger
from epo_lightning.experience.fitness import FitnessWindow
from epo_lightning.experience.rollout import RolloutDataset
from epo_lightning.experience.settings import RolloutSettings
from epo_lightning.experience.world import World
from epo_lightning.learner.networks import LatentActorCritic, NetworkSettings
from epo_lightning.limits import Mistake

CPU = torch.device("cpu")
LIMIT = 4


class WithoutClock(Probe):
    """A task that cannot set its clock."""

    reset_late = VectorEnv.reset_late


class Forgetful(Probe):
    """A simulator that cannot restore running episodes."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        object.__setattr__(self.spec, "restores", False)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        pass


def make(
    num_envs: int = 8, agents: int = 2, rank: int = 0, ranks: int = 1, task: type[Probe] = Probe, **changes: Any
) -> RolloutDataset:
    """Episodes of `LIMIT` steps that end by truncation only; rollouts of three steps."""
    torch.manual_seed(0)
    env = task(num_envs, CPU, 0, max_steps=LIMIT, dim=1, ending="truncated")
    network = NetworkSettings(gene_dim=2, hidden=(4,), lstm_units=changes.pop("lstm_units", None))
    settings = RolloutSettings(**{"horizon": 3, "staggered_starts": True, **changes})
    policy, population = LatentActorCritic(1, 1, agents, network), Population(agents, num_envs)
    return RolloutDataset(World(env, rank=rank, world_size=ranks), policy, population, settings)


def ends(dataset: RolloutDataset) -> list[list[int]]:
    """The environments whose episodes are cut in each step of the next rollout."""
    dataset.collect()
    return [row.nonzero().flatten().tolist() for row in dataset.buffer.truncated]


class TestWhoBeginsWhere:
    def test_evenly_over_the_environments_of_an_agent_and_alike_for_each(self) -> None:
        assert Population(2, 8).staggered(0, 1).tolist() == [0, 0.25, 0.5, 0.75] * 2

    def test_ranks_lie_between_each_other(self) -> None:
        population = Population(2, 4)
        assert population.staggered(0, 2).tolist() == [0, 0.5] * 2
        assert population.staggered(1, 2).tolist() == [0.25, 0.75] * 2

    def test_one_environment_an_agent_begins_at_the_beginning(self) -> None:
        assert Population(3, 3).staggered(0, 1).tolist() == [0.0] * 3

    def test_in_every_step_one_environment_of_each_agent_ends(self) -> None:
        dataset = make()
        # shares 0, 1/4, 1/2, 3/4 of 4 steps: the last environment of an agent has one step left, the first has four
        assert ends(dataset) == [[3, 7], [2, 6], [1, 5]]
        assert ends(dataset) == [[0, 4], [3, 7], [2, 6]]

    def test_without_it_all_end_in_the_same_step(self) -> None:
        dataset = make(staggered_starts=False)
        assert ends(dataset) == [[], [], []]
        assert ends(dataset) == [[*range(8)], [], []]

    def test_a_rank_has_its_own_places(self) -> None:
        assert ends(make(4, rank=1, ranks=2)) == [[1, 3], [], [0, 2]]

    @pytest.mark.parametrize("lstm_units", [None, 3])
    def test_it_is_off_by_default_and_the_only_difference_is_the_clock(self, lstm_units: int | None) -> None:
        assert not RolloutSettings().staggered_starts
        on, off = make(lstm_units=lstm_units), make(lstm_units=lstm_units, staggered_starts=False)
        on.collect()
        off.collect()
        # the same first observations, actions and random numbers; what was truncated is all that differs
        assert torch.equal(on.buffer.obs[0], off.buffer.obs[0])
        assert torch.equal(on.buffer.actions[0, :8], off.buffer.actions[0, :8])
        assert torch.equal(on.buffer.rewards[0], off.buffer.rewards[0])
        assert on.buffer.truncated.any()
        assert not off.buffer.truncated.any()

    def test_a_recurrent_state_begins_anew_where_the_short_episode_ends(self) -> None:
        dataset = make(lstm_units=3)
        dataset.collect()
        assert torch.equal(dataset.buffer.resets[1:, :8], dataset.buffer.truncated)
        assert dataset.buffer.resets[1, :8].nonzero().flatten().tolist() == [3, 7]

    def test_a_task_that_cannot_set_its_clock_is_named(self) -> None:
        with pytest.raises(Mistake, match=r"model\.rollout\.staggered_starts: Probe .* does not implement reset_late"):
            make(task=WithoutClock).collect()
        make(task=WithoutClock, staggered_starts=False).collect()


class TestWhoIsTold:
    """That environments end together, when the first episodes meet their time limit, and once."""

    def notices(self, dataset: RolloutDataset, rollouts: int = 4) -> list[str]:
        told = []
        for _ in range(rollouts):
            dataset.collect()
            told.append(dataset.notice)
            dataset.notice = ""
        return told

    def test_where_all_meet_their_limit_in_one_step(self) -> None:
        first, second, *later = self.notices(make(staggered_starts=False))
        assert first == ""
        assert second == (
            "Probe: environments meet their time limit of 4 steps together, so that an iteration of 3 sees one part"
            " of an episode; model.rollout.staggered_starts true spreads them"
        )
        assert later == ["", ""]

    @pytest.mark.parametrize(
        "changes",
        [
            {},  # they are staggered
            {"horizon": LIMIT},  # every iteration sees a whole episode
            {"num_envs": 2},  # one of each agent: there is nothing to spread
        ],
    )
    def test_not_where_nothing_is_to_be_mended(self, changes: dict[str, Any]) -> None:
        alone = {"staggered_starts": not changes}
        assert not any(self.notices(make(**{**alone, **changes})))

    @pytest.mark.parametrize(("falling", "told"), [(1, True), (2, False)])  # of 16; more than nine tenths must be left
    def test_a_few_that_end_early_change_nothing(self, falling: int, told: bool) -> None:
        class Falling(Probe):
            def _advance(self, state: torch.Tensor, actions: torch.Tensor, last: torch.Tensor) -> Transition:
                falls = (torch.arange(16) < falling) & (self._clock == 2)  # in the third step
                return super()._advance(state, actions, last)._replace(terminated=falls)

        assert any(self.notices(make(num_envs=16, task=Falling, staggered_starts=False))) is told

    def test_not_by_a_run_that_goes_on(self) -> None:
        first = make(staggered_starts=False)
        first.collect()
        resumed = make(staggered_starts=False)
        resumed.restore(first.saved())
        assert not any(self.notices(resumed))


class TestWhatIsCounted:
    def test_a_first_episode_that_began_late_is_no_episode(self) -> None:
        dataset = make()
        for _ in range(2):  # six steps
            dataset.collect()
        ledger = dataset.ledger
        # only those that began at 0 have ended a whole episode; 3 and 7 ended a second one, whole, after 1 + 4 steps
        assert ledger.has_finished.tolist() == [True, False, True, True] * 2
        assert ledger.last[1].tolist() == [4.0, 0.0, 4.0, 4.0] * 2
        dataset.collect()
        assert ledger.has_finished.all()
        assert (ledger.last[1] == LIMIT).all()

    def test_the_ledger_by_hand(self) -> None:
        ledger = EpisodeLedger(3, CPU)
        ledger.begin_late(torch.tensor([True, False, True]))
        rewards = torch.tensor([[1.0, 1, 1], [2, 2, 2], [4, 4, 4]])
        done = torch.tensor([[1, 0, 0], [0, 1, 0], [1, 0, 0]]).bool()
        finished = ledger.record(rewards, torch.zeros(3, 3), done)
        # 0: the late one ended at once, then a whole one of 2 + 4; 1: a whole one of 1 + 2; 2: nothing has ended yet
        assert finished.ended.equal(done)
        assert ledger.has_finished.tolist() == [True, True, False]
        assert ledger.last[0].tolist() == [6.0, 3.0, 0.0]
        assert ledger.began_late.tolist() == [False, False, True]
        copy = EpisodeLedger(3, CPU)
        copy.load_state_dict(ledger.state_dict())
        for each in (ledger, copy):
            each.record(torch.ones(2, 3), torch.zeros(2, 3), torch.tensor([[0, 0, 1], [0, 0, 1]]).bool())
            assert each.has_finished.tolist() == [True] * 3
            assert each.last[0].tolist() == [6.0, 3.0, 1.0]

    def test_a_checkpoint_from_before_has_no_late_episodes(self) -> None:
        ledger = EpisodeLedger(2, CPU)
        state = ledger.state_dict()
        del state["began_late"]
        ledger.begin_late(torch.tensor([True, True]))
        ledger.load_state_dict(state)
        assert not ledger.began_late.any()

    def test_the_fitness_window_waits_for_the_first_whole_episode(self) -> None:
        window, ledger = FitnessWindow(Population(1, 2), CPU), EpisodeLedger(2, CPU)
        late = torch.tensor([False, True])
        window.begin_late(late)
        ledger.begin_late(late)
        # env 0 is paid 1 a step and ends after 3; env 1 is paid 10: the late one of 1 step, then a whole one of 3
        rewards = torch.tensor([[1.0, 10.0]]).expand(4, 2)
        done = torch.tensor([[0, 1], [0, 0], [1, 0], [0, 1]]).bool()
        window.update(ledger.record(rewards[:1], torch.zeros(1, 2), done[:1]))
        assert not window.is_complete(2, 2, ledger.running)  # it has begun no episode of its own there
        window.update(ledger.record(rewards[1:], torch.zeros(3, 2), done[1:]))
        assert window.measure(ledger.running)[:2].tolist() == [[(3 + 30) / 2], [3.0]]


class TestResume:
    def test_in_the_middle_of_a_late_episode_to_the_bit(self) -> None:
        whole, parts = make(), make()
        for dataset in (whole, parts):
            dataset.collect()
        file = io.BytesIO()
        torch.save(parts.saved(), file)
        file.seek(0)
        resumed = make()
        resumed.policy.load_state_dict(parts.policy.state_dict())
        resumed.restore(torch.load(file, weights_only=True))
        for _ in range(2):
            whole.collect()
            resumed.collect()
            for name in ("obs", "actions", "rewards", "truncated", "targets", "advantages"):
                assert torch.equal(getattr(whole.buffer, name), getattr(resumed.buffer, name)), name
            assert torch.equal(whole.ledger.last, resumed.ledger.last)
            assert torch.equal(
                whole.fitness.measure(whole.ledger.running), resumed.fitness.measure(resumed.ledger.running)
            )

    @pytest.mark.parametrize(("before", "after"), [(False, True), (True, False)])
    def test_episodes_that_run_on_are_told_to_be_as_they_were(self, before: bool, after: bool) -> None:
        first = make(staggered_starts=before)
        first.collect()
        state = first.saved()
        with pytest.warns(
            UserWarning, match=f"staggered_starts {str(after).lower()} has no effect on a run that goes on"
        ):
            make(staggered_starts=after).restore(state)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            make(staggered_starts=before).restore(state)
            make(task=Forgetful, staggered_starts=after).restore(state)  # they begin anew
            del state["staggered"]  # as in a checkpoint that was written before
            make(staggered_starts=False).restore(state)

    def test_where_episodes_are_lost_they_begin_staggered_again(self) -> None:
        first = make(task=Forgetful)
        for _ in range(3):
            first.collect()
        resumed = make(task=Forgetful)
        resumed.restore(first.saved())
        assert ends(resumed) == [[3, 7], [2, 6], [1, 5]]
        assert resumed.ledger.has_finished.tolist() == [False] * 8  # nothing but late episodes has ended since
