"""Index arithmetic of the population: every number below is counted by hand."""

import dataclasses

import pytest
import torch

from epo_lightning.algorithm.population import MASTER, Population


def test_environments_belong_to_agents_in_equal_contiguous_blocks() -> None:
    population = Population(num_agents=3, num_envs=6)
    assert population.envs_per_agent == 2
    agents = population.agent_of_env()
    assert agents.dtype == torch.int64
    assert agents.tolist() == [0, 0, 1, 1, 2, 2]  # e // (6 / 3)


def test_followers_are_everybody_but_the_master() -> None:
    assert MASTER == 0
    assert list(Population(4, 4).followers) == [1, 2, 3]
    assert list(Population(1, 4).followers) == []


def test_one_agent_owns_everything() -> None:
    population = Population(1, 5)
    assert population.envs_per_agent == 5
    assert population.agent_of_env().tolist() == [0] * 5


@pytest.mark.parametrize(
    ("num_agents", "num_envs", "advice"),
    [
        (4, 10, "8 or 12"),  # 10 lies between 2 x 4 and 3 x 4
        (4, 3, "4 or 8"),  # less than one environment each: 0 is no advice
        (4, 0, "4 or 8"),
        (4, -8, "4 or 8"),  # a multiple, but not a positive one
    ],
)
def test_indivisible_numbers_are_refused_with_both_names_and_a_way_out(
    num_agents: int, num_envs: int, advice: str
) -> None:
    with pytest.raises(ValueError, match=advice) as error:
        Population(num_agents, num_envs)
    message = str(error.value)
    assert "num_envs" in message
    assert "num_agents" in message
    assert f"{num_envs} environments" in message
    assert f"{num_agents} agents" in message


@pytest.mark.parametrize("num_agents", [0, -1])
def test_a_population_has_at_least_one_agent(num_agents: int) -> None:
    with pytest.raises(ValueError, match="num_agents must be at least 1"):
        Population(num_agents, 8)


def test_a_population_cannot_change() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Population(2, 4).num_envs = 6  # type: ignore[misc]


class TestMasterShare:
    def test_the_followers_have_equally_many_and_the_master_the_rest(self) -> None:
        population = Population(4, 14, 0.5)  # 7 for three followers: 3 each, so that the share is not exceeded
        assert (population.master_envs, population.envs_per_follower) == (5, 3)
        assert population.envs_of().tolist() == [5, 3, 3, 3]
        assert population.first_envs().tolist() == [0, 5, 8, 11]
        assert population.agent_of_env().tolist() == [0] * 5 + [1] * 3 + [2] * 3 + [3] * 3

    @pytest.mark.parametrize(("agents", "envs"), [(2, 2), (4, 12), (16, 2048), (64, 16384), (7, 7 * 11)])
    def test_an_equal_share_is_as_none(self, agents: int, envs: int) -> None:
        population = Population(agents, envs, 1 / agents)
        assert population.master_envs == population.envs_per_follower == population.envs_per_agent == envs // agents

    def test_sums_by_hand(self) -> None:
        values = torch.tensor([[1.0, 2.0, 4.0, 8.0, 16.0], [0.0, 0.0, 0.0, 0.0, 1.0]])
        assert Population(3, 5, 0.6).sums(values).tolist() == [[7.0, 8.0, 16.0], [0.0, 0.0, 1.0]]
        assert Population(1, 5).sums(values).tolist() == [[31.0], [1.0]]

    def test_each_agent_is_staggered_over_its_own(self) -> None:
        assert Population(2, 6, 0.7).staggered(0, 1).tolist() == [0.0, 0.25, 0.5, 0.75, 0.0, 0.5]
        assert Population(2, 3, 0.7).staggered(1, 2).tolist() == [0.25, 0.75, 0.5]

    @pytest.mark.parametrize(("share", "who"), [(1.0, "the followers"), (0.01, "the master")])
    def test_nobody_is_left_without(self, share: float, who: str) -> None:
        with pytest.raises(ValueError, match=f"master_share {share:g} of data.num_envs 8 leaves {who} no environment"):
            Population(4, 8, share)

    def test_equal_parts_are_not_assumed_where_there_are_none(self) -> None:
        with pytest.raises(AssertionError):
            _ = Population(3, 5, 0.6).envs_per_agent


@pytest.mark.parametrize(
    ("share", "wanted"),
    [
        (0.0, "0000000 000 000"),
        (0.5, "0101010 010 010"),
        (1 / 3, "0010010 001 001"),
        (0.75, "0111011 011 011"),
        (1.0, "1111111 111 111"),
    ],
)
def test_a_share_of_every_agents_environments_is_spread_over_them(share: float, wanted: str) -> None:
    population = Population(3, 13, master_share=7 / 13)
    assert population.envs_of().tolist() == [7, 3, 3]
    assert population.spread(share).int().tolist() == [int(each) for each in wanted.replace(" ", "")]
