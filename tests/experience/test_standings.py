"""Agents side by side: each one's own episodes, in one vector of environments, and an honest best."""

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from epo_lightning.experience.evaluation import Episodes, EvaluationDataset, Round
from epo_lightning.experience.standings import stand
from epo_lightning.modules.data import RolloutDataModule
from tests.support.wages import STEPS, Steady, Wages

CPU = torch.device("cpu")


def totals(returns: list[list[list[float]]]) -> Tensor:
    """(1, M, A, E, n) of returns (A, E, n), with a success where one is above 5."""
    values = torch.tensor(returns)
    return torch.stack([values, torch.full_like(values, STEPS), (values > 5).float()])[None]


def play(*rounds: Round, seeds: tuple[int, ...] = (0,)) -> tuple[list[Episodes], Steady, list[tuple[int, int]]]:
    """What the rounds gave, who played, and the environments that were built: how many, of which seed."""
    policy, built = Steady(), []

    def build(seed: int, envs: int) -> Wages:
        built.append((envs, seed))
        return Wages(envs, CPU, seed)

    return list(EvaluationDataset(build, seeds, policy, rounds, lambda seed: 7 + seed)), policy, built


class TestRounds:
    def test_every_agent_has_its_own_block_of_one_vector_of_environments(self) -> None:
        named = Round((5, 0, 3), envs=2, episodes=3)
        (batch,), policy, built = play(named)
        assert built == [(6, 0)]
        assert set(policy.calls) == {6}  # nobody is asked alone
        assert len(policy.calls) <= 3 * STEPS + 16  # nor one after another
        by_agent = named.by_agent(batch.totals)
        assert by_agent.shape == (3, 3, 3, 2)
        for place, agent in enumerate(named.agents):
            assert (by_agent[0, place] == STEPS * agent / 8).all()
            assert (by_agent[2, place] == (agent > 2)).all()

    def test_drawn_actions_come_from_the_seed_of_the_environments_and_nothing_else(self) -> None:
        drawn = Round((4,), envs=16, episodes=2, is_drawn=True)
        torch.manual_seed(1)
        (first, second), _, built = play(drawn, seeds=(0, 1))
        torch.manual_seed(2)
        (again, _), _, _ = play(drawn, seeds=(0, 1))
        assert built == [(16, 0), (16, 1)]
        assert torch.equal(first.totals, again.totals)
        assert not torch.equal(first.totals, second.totals)
        assert (first.totals[0] <= 0).all()  # -4 / 8 or nothing
        assert first.totals[0].min() < first.totals[0].max()


class TestStandings:
    def test_half_of_the_environments_choose_the_best_and_the_others_tell(self) -> None:
        # environments 0 and 2 choose: the champion has 9, the others 6 and 4; of the chosen one 1 and 3 tell 1 3 2 2
        one = [[6.0, 1.0, 6.0, 3.0], [6.0, 2.0, 6.0, 2.0]]
        other = [[4.0, 8.0, 4.0, 8.0], [4.0, 8.0, 4.0, 8.0]]
        standings = stand((2, 0, 7), 0, totals([one, [[9.0] * 4] * 2, other]))
        assert (standings.episodes, standings.envs, standings.champion) == (8, 4, 0)
        assert list(standings.agents) == [2, 0, 7]
        assert [standings.agents[agent]["return"].mean for agent in (2, 0, 7)] == [4.0, 9.0, 6.0]
        assert [standings.agents[agent]["successes"].mean for agent in (2, 0, 7)] == [0.5, 1.0, 0.5]
        assert standings.best is not None
        assert (standings.best.agent, standings.best.episodes) == (2, 4)
        told = standings.best.summaries["return"]
        assert told.mean == 2.0
        assert told.standard_error == pytest.approx(math.sqrt(2 / 3) / 2)  # squares 1 1 0 0
        assert standings.best.summaries["successes"].mean == 0.0

    def test_where_there_is_one_environment_its_episodes_are_halved(self) -> None:
        standings = stand((0, 1, 2), 0, totals([[[0.0]] * 4, [[3.0], [1.0], [5.0], [2.0]], [[3.0], [9.0]] * 2]))
        assert standings.best is not None
        assert (standings.best.agent, standings.best.summaries["return"].mean) == (1, 1.5)

    def test_of_equals_the_first_is_best(self) -> None:
        standings = stand((0, 3, 1), 0, totals([[[9.0, 9.0]], [[1.0, 4.0]], [[1.0, 5.0]]]))
        assert standings.best is not None
        assert (standings.best.agent, standings.best.summaries["return"].mean) == (3, 4.0)

    @pytest.mark.parametrize("agents", [(0, 3), (3,), (0,)])
    def test_among_fewer_than_two_nobody_is_chosen(self, agents: tuple[int, ...]) -> None:
        assert stand(agents, 0, totals([[[1.0, 2.0]]] * len(agents))).best is None

    def test_one_episode_cannot_be_halved(self) -> None:
        assert stand((0, 1, 2), 0, totals([[[1.0]], [[2.0]], [[3.0]]])).best is None

    def test_every_seed_has_its_say(self) -> None:
        seeds = torch.cat([totals([[[0.0, 0.0]], [[5.0, 5.0]], [[4.0, 4.0]]]), totals([[[0.0, 0.0]], [[1.0, 1.0]],
                                                                                     [[4.0, 2.0]]])])  # fmt: skip
        standings = stand((0, 1, 2), 0, seeds)
        assert standings.episodes == 4
        assert standings.best is not None
        assert (standings.best.agent, standings.best.summaries["return"].seed_means) == (2, [4.0, 2.0])


@pytest.mark.parametrize(
    ("agents", "envs", "ranks", "share"),
    [
        (1, 512, 1, (64, 2)),  # as always: 128 episodes in 64 environments
        (4, 512, 1, (64, 2)),
        (16, 512, 1, (32, 4)),  # no more environments than the training has
        (16, 512, 2, (32, 2)),
        (7, 512, 1, (64, 2)),
        (100, 32, 1, (1, 128)),
    ],
)
def test_every_agent_plays_as_many_episodes(agents: int, envs: int, ranks: int, share: tuple[int, int]) -> None:
    data = RolloutDataModule(Wages, num_envs=envs, eval_episodes=128, eval_envs=64)
    trainer: Any = SimpleNamespace(world_size=ranks)
    data.trainer = trainer
    assert data.evaluation_share(agents) == share
