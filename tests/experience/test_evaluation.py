"""Evaluation: complete episodes, as many of every environment, and honest statistics of them."""

import math
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from epo_lightning.envs.base import EnvSpec, StepResult, VectorEnv
from epo_lightning.experience.evaluation import (
    EvaluationDataset,
    Round,
    fixed_difficulty,
    play_episodes,
    step_limit,
    summarize,
)
from epo_lightning.learner.networks import LatentActorCritic, NetworkSettings


class Lengths(VectorEnv):
    """Environment i plays episodes of `lengths[i]` steps; each step of its k-th one pays 100 k + 10 i + 1.

    The observation is the step within the episode; every last step is a success.
    """

    def __init__(self, lengths: list[int], limit: int | None = None, truncates: bool = False) -> None:
        self.lengths = torch.tensor(lengths)
        self.spec = EnvSpec("Lengths", len(lengths), obs_dim=1, act_dim=2, max_episode_steps=limit or max(lengths))
        self.truncates = truncates
        self.actions: list[Tensor] = []
        self.age = torch.zeros(len(lengths), dtype=torch.long)
        self.episode = torch.zeros(len(lengths), dtype=torch.long)

    def reset(self) -> Tensor:
        self.age.zero_()
        self.episode.zero_()
        return self.age[:, None].float()

    def step(self, actions: Tensor) -> StepResult:
        self.actions.append(actions.clone())
        reward = (100 * self.episode + 10 * torch.arange(len(self.lengths)) + 1).float()
        self.age = self.age + 1
        done = self.age == self.lengths
        self.episode = self.episode + done
        self.age = self.age.masked_fill(done, 0)
        no = torch.zeros_like(done)
        ends = (no, done) if self.truncates else (done, no)
        return StepResult(self.age[:, None].float(), reward, *ends, done.float())

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        pass


def make_policy(**network: Any) -> LatentActorCritic:
    torch.manual_seed(0)
    return LatentActorCritic(1, 2, 3, NetworkSettings(gene_dim=2, hidden=(8,), **network))


class TestEpisodes:
    @pytest.mark.parametrize("truncates", [False, True])
    def test_as_many_of_every_environment(self, truncates: bool) -> None:
        env = Lengths([1, 3, 5], truncates=truncates)
        totals = play_episodes(env, make_policy(), 0, 2)
        # return of the k-th episode of env i: length x (100 k + 10 i + 1)
        assert totals[0].tolist() == [1 * 1, 3 * 11, 5 * 21, 1 * 101, 3 * 111, 5 * 121]
        assert totals[1].tolist() == [1, 3, 5, 1, 3, 5]
        assert totals[2].tolist() == [1, 1, 1, 1, 1, 1]

    def test_they_are_the_first_ones_after_a_reset(self) -> None:
        env = Lengths([1, 4])
        policy = make_policy()
        first = play_episodes(env, policy, 0, 1)
        assert first.tolist() == play_episodes(env, policy, 0, 1).tolist()
        assert first[0].tolist() == [1, 44]

    def test_episodes_that_take_the_whole_limit(self) -> None:
        # 2 x 24 steps, whichever step the ends are looked for
        env = Lengths([24, 1])
        assert play_episodes(env, make_policy(), 0, 2)[1].tolist() == [24, 1, 24, 1]
        assert len(env.actions) < 2 * 24 + 16

    def test_unfinished(self) -> None:
        env = Lengths([2, 1000, 1000], limit=3)
        with pytest.raises(
            ValueError, match=r"Lengths: 2 of 3 environments did not finish 4 episodes; lower data\.eval"
        ):
            play_episodes(env, make_policy(), 0, 4)
        assert len(env.actions) == step_limit(env, 4) == 4 * 3 + 16

    def test_the_limit_without_a_time_limit(self) -> None:
        env = Lengths([2])
        env.spec = EnvSpec("Endless", 1, 1, 2)
        assert step_limit(env, 3) >= 300_000


class TestActions:
    def test_the_agents_own_mean_clipped(self) -> None:
        policy = make_policy()
        with torch.no_grad():
            policy.action_head.weight.mul_(20)
            policy.obs_moments.update(torch.tensor([[1.0], [4.0]]))
        seen = []
        for agent in (0, 2):
            env = Lengths([4, 4])
            play_episodes(env, policy, agent, 1)
            with torch.no_grad():
                obs = policy.obs_moments.normalize(torch.arange(4.0)[:, None])
                rows = policy.express(torch.full((4,), agent))
                wanted = policy(obs, rows, policy.initial_state(4)).actions.mean.clamp(-1, 1)
            given = torch.stack(env.actions)[:4]
            torch.testing.assert_close(given, wanted[:, None].expand(4, 2, 2))
            assert given.abs().max() == 1
            seen.append(given)
        assert not torch.allclose(seen[0], seen[1], atol=0.01)

    def test_an_lstm_forgets_between_episodes_only(self) -> None:
        env = Lengths([4, 3])
        play_episodes(env, make_policy(lstm_units=5), 0, 3)
        actions = torch.stack(env.actions)
        # the observations of all episodes are alike, so are the actions, if nothing is remembered of the last episode
        torch.testing.assert_close(actions[0:4, 0], actions[4:8, 0])
        torch.testing.assert_close(actions[0:3, 1], actions[3:6, 1])
        torch.testing.assert_close(actions[0:3, 0], actions[0:3, 1])
        alone = make_policy(lstm_units=5).act(torch.tensor([[1.0]]), torch.tensor([0]), torch.zeros(2, 1, 5))[0][0]
        assert not torch.allclose(actions[1, 0], alone)  # but something within an episode

    @pytest.mark.parametrize("network", [{}, {"lstm_units": 5}])
    def test_side_by_side_everybody_acts_as_if_alone(self, network: dict[str, Any]) -> None:
        policy = make_policy(**network)
        together = Lengths([4, 3, 4, 3])
        play_episodes(together, policy, torch.tensor([2, 2, 1, 1]), 3)
        for agent, columns in ((2, slice(0, 2)), (1, slice(2, 4))):
            alone = Lengths([4, 3])
            play_episodes(alone, policy, agent, 3)
            torch.testing.assert_close(torch.stack(together.actions)[:9, columns], torch.stack(alone.actions)[:9])
        assert not torch.allclose(together.actions[0][0], together.actions[0][2], atol=1e-3)

    def test_nothing_changes_in_the_network(self) -> None:
        policy = make_policy()
        before = {name: value.clone() for name, value in policy.state_dict().items()}
        play_episodes(Lengths([2, 3]), policy, 0, 2)
        assert all(torch.equal(value, before[name]) for name, value in policy.state_dict().items())

    def test_the_dataset_is_one_batch_per_seed(self) -> None:
        built: list[int] = []

        def build(seed: int, envs: int) -> Lengths:
            built.append(seed)
            assert envs == 2
            return Lengths([1, 2 + seed])

        dataset = EvaluationDataset(build, [5, 3], make_policy(), [Round((0,), 2, 3)])
        batches = list(dataset)
        assert len(batches) == len(dataset) == 2
        assert built == [5, 3]
        assert [batch.totals[1].tolist() for batch in batches] == [[1, 7, 1, 7, 1, 7], [1, 5, 1, 5, 1, 5]]


class TestSummary:
    def test_one_seed_by_hand(self) -> None:
        totals = torch.tensor([[1.0, 2.0, 3.0, 4.0], [2.0, 2.0, 2.0, 2.0], [0.0, 0.0, 0.0, 1.0]])
        summary = summarize(totals[None])
        assert list(summary) == ["return", "length", "successes"]
        # deviations 1.5, 0.5, 0.5, 1.5: sample variance 5 / 3; standard error sqrt(5 / 3) / sqrt(4)
        assert summary["return"].mean == 2.5
        assert summary["return"].standard_error == pytest.approx(math.sqrt(5 / 3) / 2)
        assert summary["return"].seed_means == [2.5]
        assert math.isnan(summary["return"].seed_error)
        assert summary["length"][:3] == (2.0, 0.0, [2.0])
        assert summary["successes"].mean == 0.25
        assert summary["successes"].standard_error == pytest.approx(0.25)  # sqrt(0.25) / 2

    def test_three_seeds_by_hand(self) -> None:
        returns = torch.tensor([[1.0, 3.0], [2.0, 6.0], [5.0, 7.0]])
        summary = summarize(torch.stack([returns, returns, returns], dim=1))["successes"]
        # deviations from 4: -3 -1 -2 2 1 3, squares 28; of the seeds' means 2 4 6: 8
        assert summary.mean == 4.0
        assert summary.standard_error == pytest.approx(math.sqrt(28 / 5 / 6))
        assert summary.seed_means == [2.0, 4.0, 6.0]
        assert summary.seed_error == pytest.approx(math.sqrt(8 / 2 / 3))

    def test_one_episode_has_no_error(self) -> None:
        summary = summarize(torch.tensor([[[3.0], [1.0], [0.0]]]))
        assert summary["return"].mean == 3.0
        assert math.isnan(summary["return"].standard_error)


class Hard(Lengths):
    """A task with a curriculum of two values."""

    values: Mapping[str, float] = {"tolerance": 0.5, "weight": 2.0}

    def curriculum(self) -> dict[str, float]:
        return dict(self.values)

    def set_curriculum(self, values: Mapping[str, float]) -> None:
        self.values = values


class TestDifficulty:
    def test_what_is_wanted_comes_before_what_training_reached(self) -> None:
        env = Hard([1])
        assert fixed_difficulty(env, {"tolerance": 0.3}, {"weight": 5.0}) == {"tolerance": 0.3, "weight": 5.0}
        assert fixed_difficulty(Hard([1]), {"tolerance": 0.3}, {"tolerance": 0.1}) == {"tolerance": 0.1, "weight": 2.0}

    def test_it_is_held_even_where_training_has_begun(self) -> None:
        env = Hard([1])
        fixed_difficulty(env, {}, {})
        assert env.values is not Hard.values  # set_curriculum, which holds it, was called

    def test_an_unknown_name(self) -> None:
        with pytest.raises(ValueError, match=r"data\.eval_difficulty: Lengths has tolerance, weight; got tolerence"):
            fixed_difficulty(Hard([1]), {}, {"tolerence": 0.1})
        with pytest.raises(ValueError, match="Lengths has none to set; got tolerance"):
            fixed_difficulty(Lengths([1]), {}, {"tolerance": 0.1})
