"""Selection at several frequencies, worked out by hand."""

import pytest
import torch
from torch import Tensor

from epo_lightning.algorithm.crossover import Average, Elite
from epo_lightning.algorithm.frequencies import SubPopulation, deal, differing, due, evolve_some
from epo_lightning.algorithm.genetics import Inheritance, Offspring

RULES = {"genes": Inheritance(Average(), 0.0), "entropy": Inheritance(Elite(), factor=2.0)}


def genome(agents: int) -> dict[str, Tensor]:
    """The gene of agent k is k, its hyper-parameter 100 + k."""
    numbers = torch.arange(float(agents))
    return {"genes": numbers[:, None], "entropy": 100 + numbers}


def evolved(chosen: list[SubPopulation], everybody: list[SubPopulation], fitness: Tensor, seed: int = 0) -> Offspring:
    generator = torch.Generator().manual_seed(seed)
    return evolve_some(chosen, everybody, genome(len(fitness)), fitness, RULES, ["entropy"], generator)


def test_followers_are_dealt_in_turn_and_the_master_is_of_none() -> None:
    populations = deal(9, [1, 3, 10])
    assert [each.period for each in populations] == [1, 3, 10]
    assert [each.agents.tolist() for each in populations] == [[0, 1, 4, 7], [0, 2, 5, 8], [0, 3, 6]]
    assert [each.quarter for each in populations] == [1, 1, 1]
    assert deal(17, [1, 2])[0].quarter == 2


@pytest.mark.parametrize(("window", "periods"), [(1, [1]), (2, [1]), (3, [1, 3]), (10, [1, 10]), (30, [1, 3, 10])])
def test_whose_turn_it_is(window: int, periods: list[int]) -> None:
    assert [each.period for each in due(deal(9, [1, 3, 10]), window)] == periods


def test_only_those_that_differ() -> None:
    populations = deal(7, [1, 2])  # 1, 3, 5 and 2, 4, 6
    fitness = torch.tensor([99.0, 1.0, 5.0, 1.0, 5.0, 1.0, 9.0])
    assert [each.period for each in differing(populations, fitness, 0.1)] == [2]


class TestAGeneration:
    """Followers 1, 3, 5, 7 select in every window, and 2, 4, 6, 8 in every third."""

    everybody = deal(9, [1, 3])
    #                       master 1    2    3    4    5    6    7    8
    fitness = torch.tensor([99.0, 4.0, 9.0, 3.0, 8.0, 2.0, 7.0, 1.0, 6.0])

    def test_of_the_fast_ones(self) -> None:
        """7 is a child of 1 and of a parent among its own; 5 becomes 2, the best of the slow, in every respect."""
        seconds = set()
        for seed in range(30):
            born = evolved(self.everybody[:1], self.everybody, self.fitness, seed)
            assert born.children.tolist() == [7, 5]
            first, second = born.parents[0].tolist()
            seconds.add(second)
            assert first == 1
            assert born.genome["genes"].flatten().tolist() == [(first + second) / 2, 2.0]
            assert born.genome["entropy"][0] in (202.0, 50.5)
            assert born.genome["entropy"][1] == 102.0
            assert born.parents[1].tolist() == [2, 2]
        assert seconds == {1, 3, 5}  # 7 is the worst, with the weight 0

    def test_of_the_slow_ones(self) -> None:
        """The best of the fast are none the better, so nobody comes; then one does, without its hyper-parameter."""
        born = evolved(self.everybody[1:], self.everybody, self.fitness)
        assert born.children.tolist() == [8]
        assert born.parents[0, 0] == 2
        fitness = self.fitness.clone()
        fitness[5] = 7.5  # above 6, who is third of the slow
        born = evolved(self.everybody[1:], self.everybody, fitness)
        assert born.children.tolist() == [8, 6]
        assert born.parents[1].tolist() == [5, 5]
        assert born.genome["genes"][1].item() == 5.0
        assert born.genome["entropy"][1].item() == 102.0  # the best insider's

    def test_of_both_nobody_is_replaced_twice_and_all_come_from_what_was(self) -> None:
        fitness = self.fitness.clone()
        fitness[5] = 7.5
        born = evolved(self.everybody, self.everybody, fitness)
        assert born.children.tolist() == [7, 3, 8, 6]
        assert born.parents[[1, 3]].tolist() == [[2, 2], [5, 5]]
        assert born.genome["genes"][[1, 3]].flatten().tolist() == [2.0, 5.0]

    @pytest.mark.parametrize("agents", [3, 4])
    def test_without_outsiders_there_are_children_only(self, agents: int) -> None:
        (everybody,) = deal(agents, [1])
        born = evolved([everybody], [everybody], torch.tensor([0.0, 3.0, 2.0, 1.0][:agents]))
        assert born.children.tolist() == [agents - 1]

    def test_two_followers_have_no_third_quarter(self) -> None:
        pair = deal(5, [1, 1])
        assert evolved(pair, pair, torch.tensor([0.0, 4.0, 3.0, 2.0, 1.0])).children.tolist() == [3, 4]
