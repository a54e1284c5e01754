"""Statistics of a few runs, against numbers from pencil and paper."""

import itertools
import math

import numpy as np
import pytest

from epo_lightning.report.statistics import (
    Interval,
    bootstrap,
    interquartile_mean,
    mean,
    mean_band,
    probability_of_improvement,
)


def test_the_interquartile_mean_of_eight_leaves_out_two_at_each_end() -> None:
    values = np.array([100.0, 3.0, 1.0, 4.0, -50.0, 2.0, 5.0, 9.0])  # sorted: -50 1 [2 3 4 5] 9 100
    assert interquartile_mean(values) == 3.5


@pytest.mark.parametrize(
    ("values", "expected"),
    [([7.0], 7.0), ([1.0, 2.0, 9.0], 4.0), ([0.0, 1.0, 2.0, 30.0], 1.5), ([0.0, 1.0, 2.0, 6.0, 50.0], 3.0)],
)
def test_of_fewer_than_four_it_is_the_mean_and_of_five_that_of_the_middle_three(
    values: list[float], expected: float
) -> None:
    assert interquartile_mean(np.array(values)) == expected


def test_the_interquartile_mean_is_taken_of_every_row() -> None:
    rows = np.array([[0.0, 1.0, 2.0, 30.0], [4.0, 4.0, 8.0, 8.0]])
    assert interquartile_mean(rows).tolist() == [1.5, 6.0]


def test_the_probability_of_improvement_counts_pairs_and_half_of_the_ties() -> None:
    first, second = [1.0, 3.0, 5.0], [3.0, 4.0]
    # 1>3 no, 1>4 no, 3=3 half, 3>4 no, 5>3 yes, 5>4 yes
    assert probability_of_improvement(np.array(first), np.array(second)) == pytest.approx(2.5 / 6)
    assert probability_of_improvement(np.array(second), np.array(first)) == pytest.approx(3.5 / 6)


def test_a_mean_has_the_standard_error_and_students_interval() -> None:
    one = mean([1.0, 2.0, 3.0])  # s = 1, t of 2 degrees of freedom 4.303
    assert one.value == 2.0
    assert one.standard_error == pytest.approx(1 / math.sqrt(3))
    assert one.interval == pytest.approx((2 - 4.303 / math.sqrt(3), 2 + 4.303 / math.sqrt(3)))
    assert one.runs == 3


@pytest.mark.parametrize(("count", "quantile"), [(31, 2.042), (41, 2.021), (61, 2.000), (121, 1.980)])
def test_students_interval_of_many_runs_is_that_of_the_tables(count: int, quantile: float) -> None:
    one = mean(np.arange(count, dtype=np.float64))
    assert (one.interval.high - one.value) / one.standard_error == pytest.approx(quantile, abs=1e-3)


def test_a_single_run_has_an_interval_without_an_end() -> None:
    one = mean([4.0])
    assert one.value == 4.0
    assert math.isnan(one.standard_error)
    assert one.interval == (-math.inf, math.inf)
    assert bootstrap(interquartile_mean, [np.array([4.0])]) == (-math.inf, math.inf)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [((0, 2), (1, 3), True), ((0, 2), (2, 3), True), ((0, 2), (2.1, 3), False), ((5, 6), (0, 1), False)],
)
def test_intervals_overlap_where_they_share_a_value(
    one: tuple[float, float], other: tuple[float, float], expected: bool
) -> None:
    assert Interval(*one).overlaps(Interval(*other)) is expected


def test_the_bootstrap_is_that_of_all_resamples() -> None:
    values = np.array([0.0, 1.0, 2.0, 7.0])
    every = [np.mean(drawn) for drawn in itertools.product(values, repeat=4)]
    interval = bootstrap(lambda drawn: drawn.mean(-1), [values], resamples=20000)
    assert interval == pytest.approx(np.percentile(every, [2.5, 97.5]), abs=0.01)


def test_the_bootstrap_draws_within_each_task() -> None:
    # across tasks the mean would vary; within them nothing does
    constant = [np.array([1.0, 1.0, 1.0]), np.array([100.0, 100.0])]
    assert bootstrap(lambda drawn: drawn.mean(-1), constant) == (50.5, 50.5)


def test_methods_without_a_common_value_have_a_sure_improvement() -> None:
    better, worse = np.array([5.0, 6.0]), np.array([1.0, 2.0, 3.0])
    assert bootstrap(probability_of_improvement, [better], [worse]) == (1.0, 1.0)


def test_the_band_of_two_curves_lies_between_them_and_a_run_is_drawn_as_a_whole() -> None:
    curves = np.array([[0.0, 10.0, 4.0], [2.0, 0.0, 4.0]])
    low, high = mean_band(curves)
    assert low.tolist() == [0.0, 0.0, 4.0]  # a quarter of the resamples have the one run only
    assert high.tolist() == [2.0, 10.0, 4.0]
