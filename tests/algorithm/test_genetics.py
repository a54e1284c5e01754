"""The genetic algorithm: by hand where it is arithmetic, by counting where it is chance (seeds are fixed)."""

from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor

from epo_lightning.algorithm.crossover import Average, CrossoverName, KPoint, Uniform, by_name
from epo_lightning.algorithm.genetics import (
    Inheritance,
    Offspring,
    evolve,
    may_adopt,
    mutate,
    rank,
    rank_followers,
    should_evolve,
)
from tests.support.chance import chi_square, seeded


def generation(
    fitness: list[float], seed: int = 0, crossover: CrossoverName = "average", sigma: float = 0.0, **changes: Any
) -> Offspring:
    """Evolve agents whose gene k is (10^k,), so that a child's gene tells its parents; log-std k is -k."""
    arguments: dict[str, Any] = {"num_elites": 1, "num_offspring": None, "generator": seeded(seed)}
    agents = torch.arange(len(fitness), dtype=torch.float64)[:, None]
    rules = {"genes": Inheritance(by_name(crossover, 1), sigma), "log_std": Inheritance(Average())}
    return evolve({"genes": 10**agents, "log_std": -agents}, torch.tensor(fitness), rules, **(arguments | changes))


class TestTrigger:
    @pytest.mark.parametrize(
        ("followers", "threshold", "expected"),
        [
            ([1.0, 2.0, 3.0, 6.0], 1.9, True),  # spread 5, median 2.5: 5 > 4.75
            ([1.0, 2.0, 3.0, 6.0], 2.0, False),  # 5 > 5 is false
            ([-10.0, -8.0, -6.0], 0.4, True),  # spread 4, |median| 8: 4 > 3.2
            ([-10.0, -8.0, -6.0], 0.5, False),  # 4 > 4 is false; without the absolute value it would be true
            ([-1.0, 0.0, 1.0], 100.0, True),  # a median of 0 lets any spread pass
            ([2.0, 2.0, 2.0], 0.0, False),  # no spread at all
            ([5.0], 0.0, False),  # a single follower
            ([3.0, 3.0 + 1e-6, 3.0], 0.0, False),  # the last bits of a sum are no spread
            ([3.0, 3.0 + 1e-5, 3.0], 0.0, True),
            ([0.0, 1e-9, 0.0], 0.0, True),  # small numbers are numbers
        ],
    )
    def test_by_hand(self, followers: list[float], threshold: float, expected: bool) -> None:
        for master in (-1e6, 0.0, 1e6):  # the master's fitness does not matter
            decision = should_evolve(torch.tensor([master, *followers]), threshold)
            assert decision.shape == ()
            assert decision.item() is expected


@pytest.mark.parametrize(
    ("fitness", "margin", "expected"),
    [
        ([4.0, 5.0, 3.0], 0.1, True),  # 1 > 0.5
        ([4.0, 5.0, 3.0], 0.2, False),  # 1 > 1 is false
        ([-6.0, -5.0, -9.0], 0.1, True),  # 1 > 0.5: of the absolute fitness
        ([-6.0, -5.0, -9.0], 0.3, False),
        ([5.0, 5.0, 3.0], 0.0, False),  # as good is not better
        ([5.0, 5.0 + 1e-6, 3.0], 0.0, False),  # the last bits are not either
        ([9.0, 5.0, 3.0], 0.0, False),
    ],
)
def test_the_master_may_adopt_who_is_clearly_better(fitness: list[float], margin: float, expected: bool) -> None:
    decision = may_adopt(torch.tensor(fitness), margin)
    assert decision.shape == ()
    assert decision.item() is expected


class TestTies:
    """The same episodes in other rows of a batch may differ in the last bit: that decides nothing."""

    def test_neighbours_within_rounding_keep_the_order_of_ids(self) -> None:
        noise = 1e-7
        assert rank(torch.tensor([2.0, 3.0 - noise, 3.0, 3.0 + noise, 5.0])).tolist() == [4, 1, 2, 3, 0]
        assert rank(torch.tensor([-7.0, -7.0 + 1e-7, -9.0, -7.0 - 1e-7])).tolist() == [0, 1, 3, 2]

    def test_what_differs_by_more_is_ranked(self) -> None:
        assert rank(torch.tensor([3.0, 3.0 + 1e-4, 3.0 - 1e-4], dtype=torch.float64)).tolist() == [1, 0, 2]

    def test_one_alone(self) -> None:
        assert rank(torch.tensor([1.0])).tolist() == [0]

    def test_parents_of_equals_are_drawn_alike(self) -> None:
        fitness = [0.0, 5.0, 5.0 + 1e-6, 5.0, 5.0]
        second = [int(generation(fitness, seed, num_offspring=1).parents[0, 1]) for seed in range(400)]
        assert chi_square([second.count(agent) for agent in (1, 2, 3, 4)], [0.25] * 4) < 21.1


def test_ranking_puts_the_best_follower_first_and_keeps_ties_in_order() -> None:
    assert rank_followers(torch.tensor([9.0, 1.0, 5.0, 3.0, 5.0])).tolist() == [2, 4, 3, 1]
    assert rank_followers(torch.tensor([0.0, -3.0, -1.0, -2.0])).tolist() == [2, 3, 1]
    # many ties, which an unstable sort would shuffle
    assert rank_followers(torch.ones(2000)).tolist() == list(range(1, 2000))


class TestMutation:
    def test_adds_centred_noise_of_the_given_size(self) -> None:
        genes = torch.full((1000, 100), 3.0)
        noise = mutate(genes, 0.3, seeded()) - genes
        # standard errors of 100,000 draws: 0.00095 and 0.00067
        assert noise.mean().item() == pytest.approx(0.0, abs=5e-3)
        assert noise.std().item() == pytest.approx(0.3, abs=4e-3)
        assert noise.std(0).min() > 0.25  # every entry, every row
        assert noise.std(1).min() > 0.2
        assert genes.unique().tolist() == [3.0]  # the parent's stay

    def test_sigma_zero_changes_nothing(self) -> None:
        genes = torch.randn(4, 3, generator=seeded(), dtype=torch.float64)
        assert torch.equal(mutate(genes, 0.0, seeded()), genes)
        assert mutate(genes, 0.1, seeded()).dtype == torch.float64


class TestEvolve:
    def test_a_generation_without_chance(self) -> None:
        # relative fitness of followers 1, 2, 3 is 0, 0, 7: both parents are agent 3, with gene 10^3
        offspring = generation([5.0, 0.0, 0.0, 7.0])
        assert offspring.children.tolist() == [1, 2]
        assert offspring.parents.tolist() == [[3, 3], [3, 3]]
        assert offspring.genome["genes"].tolist() == [[1000.0], [1000.0]]
        assert offspring.genome["log_std"].tolist() == [[-3.0], [-3.0]]

    def test_a_child_is_the_mean_of_its_parents(self) -> None:
        # elites 3 and 1; parent b is 3 (relative 6) or 1 (relative 4), never the worst follower 2
        genes = {(3, 3): 1000.0, (3, 1): 505.0, (1, 3): 505.0, (1, 1): 10.0}
        log_std = {(3, 3): -3.0, (3, 1): -2.0, (1, 3): -2.0, (1, 1): -1.0}
        seen = set()
        for seed in range(60):
            offspring = generation([0.0, 5.0, 1.0, 7.0], seed, num_elites=2)
            assert offspring.children.tolist() == [2]
            parents = tuple(offspring.parents[0].tolist())
            assert offspring.genome["genes"].item() == genes[parents]
            assert offspring.genome["log_std"].item() == log_std[parents]
            seen.add(parents)
        assert seen == set(genes)

    @pytest.mark.parametrize("kind", ["average", "uniform", "k_point"])
    def test_log_std_is_averaged_whatever_the_crossover_and_never_mutated(self, kind: CrossoverName) -> None:
        genes, log_std = torch.randn(4, 6, generator=seeded()), torch.tensor([[9.0], [1.0], [2.0], [4.0]])
        rules = {"genes": Inheritance(by_name(kind, 2), 5.0), "log_std": Inheritance(Average())}
        fitness = torch.tensor([0.0, 3.0, 2.0, 1.0])
        offspring = evolve(
            {"genes": genes, "log_std": log_std}, fitness, rules, num_elites=2, num_offspring=None, generator=seeded()
        )
        first, second = offspring.parents[0].tolist()
        by_hand = {(1, 1): 1.0, (1, 2): 1.5, (2, 1): 1.5, (2, 2): 2.0}
        assert offspring.genome["log_std"].tolist() == [[by_hand[first, second]]]

    def test_all_but_master_and_elites_are_replaced(self) -> None:
        # best to worst: 2, 4 | 3, 1
        offspring = generation([9.0, 1.0, 5.0, 3.0, 5.0], num_elites=2)
        assert sorted(offspring.children.tolist()) == [1, 3]
        assert offspring.genome["genes"].shape == (2, 1)
        assert offspring.parents.shape == (2, 2)
        assert offspring.children.dtype == offspring.parents.dtype == torch.int64

    @pytest.mark.parametrize(("count", "children"), [(1, {1}), (2, {1, 3}), (3, {1, 3, 5}), (4, {1, 2, 3, 5})])
    def test_only_the_worst_are_replaced_when_the_offspring_is_limited(self, count: int, children: set[int]) -> None:
        # best to worst: 4 | 2, 5, 3, 1
        offspring = generation([9.0, 1.0, 4.0, 2.0, 5.0, 3.0], num_offspring=count)
        assert set(offspring.children.tolist()) == children
        assert len(offspring.children) == count

    def test_released_code_variant_replaces_the_worst_without_noise(self) -> None:
        # num_offspring = 1, sigma = 0, two elites {1, 3}: agent 2, the worst, becomes an exact mean
        for seed in range(20):
            offspring = generation([0.0, 4.0, 1.0, 3.0, 2.0], seed, num_elites=2, num_offspring=1)
            assert offspring.children.tolist() == [2]
            first, second = offspring.parents[0].tolist()
            assert first in (1, 3)
            assert second in (1, 3, 4)
            assert offspring.genome["genes"].item() == (10**first + 10**second) / 2

    @pytest.mark.parametrize("master", [-100.0, 0.0, 100.0])
    @pytest.mark.parametrize("others", [[1.0, 2.0, 3.0, 4.0], [2.0, 2.0, 2.0, 2.0]])
    def test_the_master_is_never_parent_nor_child(self, master: float, others: list[float]) -> None:
        for seed in range(50):
            offspring = generation([master, *others], seed, num_elites=2)
            assert 0 not in offspring.children
            assert 0 not in offspring.parents

    @pytest.mark.parametrize(("scale", "shift"), [(1.0, 0.0), (1.0, -10.0), (1e-12, 0.0)])
    def test_parent_b_is_drawn_by_relative_fitness(self, scale: float, shift: float) -> None:
        # f - min f of followers 1..4 is 0, 1, 3, 7, of 11 in all, whatever the sign and the size of the rewards
        fitness = [99.0, *(scale * f + shift for f in (1.0, 2.0, 4.0, 8.0))]
        generator = seeded(5)
        counts = Counter[int]()
        for _ in range(1500):
            counts.update(generation(fitness, generator=generator).parents[:, 1].tolist())
        assert counts[1] == 0
        assert sum(counts.values()) == 4500
        assert chi_square([counts[2], counts[3], counts[4]], [1 / 11, 3 / 11, 7 / 11]) < 18.4

    def test_parent_a_is_any_elite_alike_and_independent_of_parent_b(self) -> None:
        # elites 4 and 3, parent b 2, 3, 4 with 1/11, 3/11, 7/11
        generator = seeded(6)
        pairs = Counter[tuple[int, ...]]()
        for _ in range(2000):
            offspring = generation([99.0, 1.0, 2.0, 4.0, 8.0], num_elites=2, generator=generator)
            pairs.update(tuple(pair) for pair in offspring.parents.tolist())
        elites = [sum(n for (first, _), n in pairs.items() if first == elite) for elite in (3, 4)]
        assert sum(elites) == 4000
        assert chi_square(elites, [0.5, 0.5]) < 15.1
        for elite, total in zip((3, 4), elites, strict=True):
            second = [pairs[elite, agent] for agent in (2, 3, 4)]
            assert sum(second) == total
            assert chi_square(second, [1 / 11, 3 / 11, 7 / 11]) < 18.4

    def test_equal_fitness_draws_parent_b_among_all_followers_alike(self) -> None:
        generator = seeded(7)
        counts = Counter[int]()
        for _ in range(1500):
            offspring = generation([99.0, 2.0, 2.0, 2.0, 2.0], generator=generator)
            assert offspring.children.tolist() == [2, 3, 4]  # ties keep the order of ids: the elite is 1
            assert offspring.parents[:, 0].tolist() == [1, 1, 1]
            counts.update(offspring.parents[:, 1].tolist())
        assert chi_square([counts[agent] for agent in (1, 2, 3, 4)], [0.25] * 4) < 21.1

    def test_the_generator_decides_everything(self) -> None:
        def draw(seed: int) -> Offspring:
            torch.manual_seed(torch.seed() % 1000)  # the global generator must not matter
            return generation([0.0, *range(1, 13)], seed, sigma=0.1)

        for left, right in zip(draw(3)[:2], draw(3)[:2], strict=True):
            assert torch.equal(left, right)
        assert torch.equal(draw(3).genome["genes"], draw(3).genome["genes"])
        assert not torch.equal(draw(3).genome["genes"], draw(4).genome["genes"])
        before = torch.get_rng_state()
        kinds: tuple[CrossoverName, ...] = ("average", "uniform", "k_point")
        for kind in kinds:
            generation([0.0, 1.0, 2.0, 3.0], crossover=kind, sigma=0.1)
        assert torch.equal(torch.get_rng_state(), before)

    def test_children_differ_by_their_mutation(self) -> None:
        offspring = generation([5.0, 0.0, 0.0, 7.0], sigma=0.1)
        left, right = offspring.genome["genes"].squeeze(1).tolist()
        assert left != right
        assert 999 < min(left, right) < max(left, right) < 1001
        assert offspring.genome["log_std"].tolist() == [[-3.0], [-3.0]]

    def test_inputs_are_left_alone(self) -> None:
        inputs: list[Tensor] = [torch.randn(shape, generator=seeded()) for shape in ((5, 4), (5, 2), (5,))]
        copies = [x.clone() for x in inputs]
        genes, log_std, fitness = inputs
        rules = {"genes": Inheritance(KPoint(2), 1.0), "log_std": Inheritance(Average())}
        genome = {"genes": genes, "log_std": log_std}
        evolve(genome, fitness, rules, num_elites=1, num_offspring=None, generator=seeded())
        for x, copy in zip(inputs, copies, strict=True):
            assert torch.equal(x, copy)

    def test_parts_of_any_shape_are_inherited_each_by_its_own_rule(self) -> None:
        """A genome of whole networks and a table of numbers: agent 3 is both parents of agents 1 and 2."""
        genome = {name: torch.randn(4, *shape, generator=seeded()) for name, shape in
                  {"weight": (2, 3), "rate": (), "none": (0,)}.items()}  # fmt: skip
        rules = {"weight": Inheritance(Uniform()), "rate": Inheritance(KPoint(1)), "none": Inheritance(Average(), 1.0)}
        fitness = torch.tensor([5.0, 0.0, 0.0, 7.0])
        offspring = evolve(genome, fitness, rules, num_elites=1, num_offspring=None, generator=seeded())
        assert {name: part.shape for name, part in offspring.genome.items()} == {
            "weight": (2, 2, 3),
            "rate": (2,),
            "none": (2, 0),
        }
        assert torch.equal(offspring.genome["weight"], genome["weight"][[3, 3]])
        assert torch.equal(offspring.genome["rate"], genome["rate"][[3, 3]])

    def test_what_is_not_mutated_draws_nothing(self) -> None:
        """Else the log-stds would change the next generation."""
        states, fitness = [], torch.tensor([0.0, 1.0, 2.0, 3.0])
        rules = {"genes": Inheritance(Average(), 0.1), "log_std": Inheritance(Average())}
        for names in (["genes"], ["genes", "log_std"]):
            generator = seeded()
            genome = {name: torch.ones(4, 2) for name in names}
            evolve(genome, fitness, rules, num_elites=1, num_offspring=1, generator=generator)
            states.append(generator.get_state())
        assert torch.equal(*states)
