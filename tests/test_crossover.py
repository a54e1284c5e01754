"""Crossover operators: by hand where they are arithmetic, by counting where they are chance (seeds are fixed)."""

import pytest
import torch
from torch import Tensor

from epo_lightning.algorithm.crossover import Average, Crossover, CrossoverName, KPoint, Uniform, by_name
from tests.chance import chi_square, seeded


class TestCrossover:
    def test_average(self) -> None:
        first, second = torch.tensor([[0.0, 2.0], [1.0, 1.0]]), torch.tensor([[4.0, 6.0], [-1.0, 2.0]])
        child = Average()(first, second, seeded())
        assert child.tolist() == [[2.0, 4.0], [0.0, 1.5]]

    def test_uniform_takes_each_entry_from_either_parent_alike(self) -> None:
        child = Uniform()(torch.zeros(200, 50), torch.ones(200, 50), seeded())
        assert set(child.unique().tolist()) == {0.0, 1.0}
        assert child.mean().item() == pytest.approx(0.5, abs=0.025)  # 5 standard errors of 10,000 coins
        # entries are drawn one by one, neither whole rows nor whole columns
        assert 0.2 < child.mean(1).min() < child.mean(1).max() < 0.8
        assert 0.3 < child.mean(0).min() < child.mean(0).max() < 0.7

    @pytest.mark.parametrize("points", [1, 2, 5, 7])
    def test_k_point_switches_exactly_so_often(self, points: int) -> None:
        child = KPoint(points)(torch.zeros(300, 8), torch.ones(300, 8), seeded())
        switches = (child[:, 1:] != child[:, :-1]).sum(1)
        assert switches.tolist() == [points] * 300
        assert child[:, 0].unique().tolist() == [0.0]  # it begins with the elite

    def test_k_point_cuts_every_place_alike(self) -> None:
        child = KPoint(1)(torch.zeros(4000, 5), torch.ones(4000, 5), seeded())
        places = (child[:, 1:] != child[:, :-1]).sum(0).tolist()
        assert chi_square(places, [0.25] * 4) < 21.1

    @pytest.mark.parametrize("operator", [Uniform(), KPoint(2)])
    def test_entries_stay_in_their_place(self, operator: Crossover) -> None:
        first = torch.arange(6.0).repeat(20, 1)
        child = operator(first, first + 100, seeded())
        assert torch.equal(child % 100, first)

    @pytest.mark.parametrize("name", ["average", "uniform", "k_point"])
    def test_by_name_and_by_class_are_the_same(self, name: CrossoverName) -> None:
        parents = torch.zeros(50, 9), torch.ones(50, 9)
        operator = {"average": Average(), "uniform": Uniform(), "k_point": KPoint(3)}[name]
        assert torch.equal(by_name(name, 3)(*parents, seeded()), operator(*parents, seeded()))


class TestRefusals:
    def test_points(self) -> None:
        with pytest.raises(ValueError, match=r"GeneticEvolution\.crossover KPoint\.points must be at least 1, got 0"):
            KPoint(0)

    def test_more_points_than_places(self) -> None:
        KPoint(2).check(3)
        key = r"trainer\.callbacks GeneticEvolution\.crossover"
        with pytest.raises(
            ValueError, match=rf"{key} KPoint\.points must be less than model\.network\.gene_dim 3, got 3"
        ):
            KPoint(3).check(3)
        with pytest.raises(ValueError, match=rf"{key}_points must be less than model\.network\.gene_dim 3, got 3"):
            by_name("k_point", 3).check(3)

    def test_the_others_take_any_gene(self) -> None:
        for operator in (Average(), Uniform()):
            operator.check(1)


class Blend(Crossover):
    """Somebody's own: so much of the second parent."""

    def __init__(self, share: float) -> None:
        self.share = share

    def __call__(self, first: Tensor, second: Tensor, generator: torch.Generator) -> Tensor:
        return (1 - self.share) * first + self.share * second
