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
