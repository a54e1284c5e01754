"""The rules of Population Based Training, against numbers worked out by hand and a loop written out for one agent."""

import math
import random
from collections.abc import Sequence

import pytest
import torch

from epo_lightning.algorithm.population_based import (
    DexPBT,
    Margins,
    Rule,
    Standing,
    by_name,
    order,
    spread,
)
from epo_lightning.limits import Mistake

NAN = math.nan


def standing(
    objectives: Sequence[float], best: Sequence[float] | None = None, may_act: Sequence[bool] | None = None
) -> Standing:
    """`best` is the objective itself unless it is given; everybody may act unless it is said who."""
    measured = torch.tensor(objectives, dtype=torch.float64)
    allowed = torch.ones(len(measured), dtype=torch.bool) if may_act is None else torch.tensor(may_act)
    return Standing(measured, measured if best is None else torch.tensor(best, dtype=torch.float64), allowed)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def acting(rule: Rule, now: Standing, seed: int = 0) -> list[int]:
    return rule.decide(now, seeded(seed)).agents.tolist()


EIGHT = [8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0]


class TestConstants:
    def test_those_of_the_released_code(self) -> None:
        rule = by_name("dexpbt")
        assert isinstance(rule, DexPBT)
        assert (rule.fraction_worst, rule.fraction_best) == (0.125, 0.3)
        assert (rule.threshold_std, rule.threshold_absolute) == (0.5, 0.05)
        assert (rule.mutation_rate, rule.change) == (0.15, (1.1, 1.5))

    def test_those_of_the_newer_peers(self) -> None:
        rule = by_name("margins")
        assert isinstance(rule, Margins)
        assert (rule.margin_std, rule.margin_absolute, rule.mutation_rate, rule.change) == (0.1, 0.05, 0.25, (1.1, 2.0))


class TestOrder:
    def test_best_first_and_the_unknown_last(self) -> None:
        assert order(torch.tensor([1.0, NAN, 3.0, 2.0, NAN])).tolist() == [2, 3, 0, 1, 4]

    def test_equal_ones_to_rounding_keep_the_order_of_ids(self) -> None:
        assert order(torch.tensor([5.0, 5.0 + 1e-9, 7.0], dtype=torch.float64)).tolist() == [2, 0, 1]

    def test_the_spread_leaves_out_the_worst_fifth_rounded_down(self) -> None:
        # of five one is left out: -100; std of 1, 2, 3, 6 is sqrt((4 + 1 + 0 + 9) / 4)
        values = torch.tensor([2.0, -100.0, 6.0, 1.0, 3.0, NAN], dtype=torch.float64)
        assert spread(values).item() == pytest.approx(math.sqrt(3.5))
        # of four none is
        assert spread(torch.tensor([0.0, 0.0, 0.0, 4.0])).item() == pytest.approx(math.sqrt(3.0))


class TestWhoActs:
    def test_the_worst_eighth_of_eight_is_one_and_three_with_three_tenths(self) -> None:
        assert acting(DexPBT(), standing(EIGHT)) == [7]
        assert acting(DexPBT(fraction_worst=0.3), standing(EIGHT)) == [5, 6, 7]

    def test_nobody_else_even_if_the_worst_may_not(self) -> None:
        assert acting(DexPBT(), standing(EIGHT, may_act=[True] * 7 + [False])) == []

    def test_who_has_reached_the_top_group_since_the_last_check_is_protected(self) -> None:
        # ceil(0.3 x 8) = 3 best: 8, 7, 6
        assert acting(DexPBT(), standing(EIGHT, best=[*EIGHT[:7], 6.0])) == []
        assert acting(DexPBT(), standing(EIGHT, best=[*EIGHT[:7], 5.9])) == [7]

    @pytest.mark.parametrize(("known", "acts"), [(4, False), (5, True)])
    def test_not_before_more_than_half_of_the_objectives_are_known(self, known: int, acts: bool) -> None:
        objectives = [*EIGHT[:known], *[NAN] * (8 - known)]
        # the last of those known must be among the worst: then the unknown ones are, too, and do not act themselves
        rule = DexPBT(fraction_worst=0.6)
        assert acting(rule, standing(objectives)) == ([known - 1, known - 2][::-1] if acts else [])

    @pytest.mark.parametrize(("objectives", "acts"), [([3.0, 2.0, NAN], []), ([3.0, 2.0, 1.0], [2])])
    def test_nor_before_three_are(self, objectives: list[float], acts: list[int]) -> None:
        assert acting(DexPBT(), standing(objectives)) == acts

    def test_an_agent_without_an_objective_keeps_its_place_among_the_worst(self) -> None:
        assert acting(DexPBT(), standing([*EIGHT[:7], NAN])) == []


class TestWeights:
    def parents(self, objectives: Sequence[float], rule: Rule | None = None) -> set[int]:
        """Whose weights agent 7 takes, over many draws."""
        found: set[int] = set()
        for seed in range(40):
            decision = (rule or DexPBT()).decide(standing(objectives), seeded(seed))
            assert decision.agents.tolist() == [7]
            found |= set(decision.parents.tolist())
        return found

    def test_from_one_of_the_three_best_drawn_uniformly(self) -> None:
        assert self.parents(EIGHT) == {0, 1, 2}
        drawn = [int(DexPBT().decide(standing(EIGHT), seeded(seed)).parents) for seed in range(600)]
        assert all(abs(drawn.count(agent) - 200) < 50 for agent in range(3))  # 4 standard deviations

    def test_only_if_better_by_half_a_standard_deviation(self) -> None:
        # without the worst, floor(0.2 x 8) = 1: 104, 103, 102, 100 four times; mean 709 / 7, std 1.58, half of it 0.79
        population = [104.0, 103.0, 102.0, 100.0, 100.0, 100.0, 100.0, 99.9]
        none = DexPBT(threshold_absolute=0.0)
        assert self.parents(population, none) == {0, 1, 2}
        # without the worst: mean 102.7, std 0.576. Gains are 1.8, 0.8 and 0.3; 0.288, 0.317 and 0.86 are asked for
        population = [104.0, 103.0, 102.5, 102.4, 102.4, 102.3, 102.3, 102.2]
        assert spread(torch.tensor(population, dtype=torch.float64)).item() == pytest.approx(math.sqrt(2.32 / 7))
        assert self.parents(population, none) == {0, 1, 2}
        assert self.parents(population, DexPBT(threshold_std=0.55, threshold_absolute=0.0)) == {0, 1, 7}
        assert self.parents(population, DexPBT(threshold_std=1.5, threshold_absolute=0.0)) == {0, 7}

    def test_and_by_a_twentieth_of_the_candidates_absolute_value(self) -> None:
        # 0.05 x 104 = 5.2: nobody is better by so much; 0.05 x 100 = 5 and 0.05 x 98 = 4.9 are less than the gain
        assert self.parents([104.0, 103.0, 102.0, 101.0, 101.0, 101.0, 101.0, 100.0]) == {7}
        assert self.parents([100.0, 99.9, 98.0, 95.0, 95.0, 95.0, 95.0, 93.05]) == {0, 1, 2}
        assert self.parents([100.0, 99.9, 97.0, 95.0, 95.0, 95.0, 95.0, 93.05]) == {0, 1, 7}
        # of negative ones, too: -10 - -10.4 is less than 0.5
        assert self.parents([-10.0, -10.0, -10.0, -10.2, -10.2, -10.2, -10.2, -10.4]) == {7}
        assert self.parents([-10.0, -10.0, -10.0, -10.2, -10.2, -10.2, -10.2, -10.6]) == {0, 1, 2}

    def test_equal_objectives_to_rounding_are_no_gain(self) -> None:
        objectives = [1e-9 * agent for agent in range(8)]
        for seed in range(10):
            decision = DexPBT(threshold_std=0, threshold_absolute=0).decide(
                standing([1 + each for each in objectives], best=[0.0] * 8), seeded(seed)
            )
            assert torch.equal(decision.parents, decision.agents)


class TestHyperParameters:
    def test_from_the_candidate_or_its_own_by_coin(self) -> None:
        own = 0
        for seed in range(400):
            decision = DexPBT().decide(standing(EIGHT), seeded(seed))
            assert int(decision.sources) in (7, int(decision.parents))
            own += int(decision.sources) == 7
        assert abs(own - 200) < 40

    def test_its_own_where_it_keeps_its_weights(self) -> None:
        for seed in range(20):
            decision = DexPBT(threshold_absolute=10.0).decide(standing(EIGHT), seeded(seed))
            assert decision.sources.tolist() == decision.parents.tolist() == decision.agents.tolist() == [7]
            assert decision.with_weights.tolist() == [False]


class TestMargins:
    # mean 4.5, std sqrt(5.25) = 2.29
    def test_those_below_the_mean_take_from_those_above(self) -> None:
        rule = Margins()
        for seed in range(20):
            decision = rule.decide(standing(EIGHT), seeded(seed))
            assert decision.agents.tolist() == [4, 5, 6, 7]
            assert set(decision.parents.tolist()) <= {0, 1, 2, 3}
            assert torch.equal(decision.sources, decision.parents)
        assert rule.top(standing(EIGHT).objectives).tolist() == [0, 1, 2, 3]

    def test_both_margins_must_be_exceeded(self) -> None:
        assert acting(Margins(margin_std=0.5), standing(EIGHT)) == [5, 6, 7]  # below 4.5 - 1.146
        assert acting(Margins(margin_absolute=2.0), standing(EIGHT)) == [6, 7]
        assert acting(Margins(), standing([0.1, 0.0, 0.02])) == []  # mean 0.04: within 0.05 below
        assert acting(Margins(), standing([0.16, 0.0, 0.02])) == [1]  # mean 0.06

    def test_without_a_leader_they_keep_their_weights(self) -> None:
        # mean 10 / 12: leaders need more than 0.083 above, everybody but the last has 1 = 0.167 above
        decision = Margins(margin_std=1.0).decide(standing([1.0] * 11 + [-1.0]), seeded())
        assert decision.agents.tolist() == [11]
        assert decision.parents.tolist() == decision.sources.tolist() == [11]

    def test_unknown_ones_neither_act_nor_count(self) -> None:
        assert acting(Margins(), standing([3.0, NAN, 1.0])) == [2]
        assert acting(Margins(), standing([NAN, NAN])) == []


def written_out(objectives: Sequence[float], agent: int, candidate: int, best: float) -> int | None:
    """The rule of DexPBT for one agent of eight, on plain numbers: whose weights it takes; None if it does not act."""
    ranking = sorted(range(8), key=lambda each: -objectives[each])
    if agent not in ranking[-3:] or best >= min(objectives[each] for each in ranking[:3]):
        return None
    kept = sorted(objectives)[1:]
    mean = sum(kept) / 7
    deviation = math.sqrt(sum((value - mean) ** 2 for value in kept) / 7)
    gain = objectives[candidate] - objectives[agent]
    return candidate if gain > 0.5 * deviation and gain > 0.05 * abs(objectives[candidate]) else agent


def test_a_hundred_populations_by_a_loop_written_out() -> None:
    numbers, outcomes = random.Random(0), set()
    for seed in range(100):
        centre = numbers.choice([0.0, 5.0, 40.0])
        objectives = [numbers.gauss(centre, 1.0) for _ in range(8)]
        best = [value + numbers.random() for value in objectives]
        decision = DexPBT(fraction_worst=0.3).decide(standing(objectives, best), seeded(seed))
        top = sorted(range(8), key=lambda each: -objectives[each])[:3]
        drawn = [top[index] for index in torch.randint(3, (8,), generator=seeded(seed)).tolist()]
        wanted = {agent: written_out(objectives, agent, drawn[agent], best[agent]) for agent in range(8)}
        acted = dict(zip(decision.agents.tolist(), decision.parents.tolist(), strict=True))
        assert acted == {agent: parent for agent, parent in wanted.items() if parent is not None}
        outcomes |= {"weights" if parent != agent else "own" for agent, parent in acted.items()}
    assert outcomes == {"weights", "own"}


@pytest.mark.parametrize(
    ("rule", "agents", "named"),
    [
        (DexPBT(fraction_worst=0.0), 8, "rule.fraction_worst"),
        (DexPBT(fraction_best=1.1), 8, "rule.fraction_best"),
        (DexPBT(threshold_std=-1), 8, "rule.threshold_std"),
        (DexPBT(threshold_absolute=NAN), 8, "rule.threshold_absolute"),
        (DexPBT(mutation_rate=2), 8, "rule.mutation_rate"),
        (DexPBT(change=(0.5, 1.5)), 8, "rule.change"),
        (Margins(change=(1.5, 1.1)), 8, "smaller one first"),
        (Margins(margin_std=-1), 8, "rule.margin_std"),
        (Margins(margin_absolute=-1), 8, "rule.margin_absolute"),
        (DexPBT(), 2, "model.num_agents must be at least 3"),
        (Margins(), 1, "model.num_agents must be at least 2"),
    ],
)
def test_out_of_range(rule: Rule, agents: int, named: str) -> None:
    with pytest.raises(Mistake, match=named):
        rule.check(agents)
