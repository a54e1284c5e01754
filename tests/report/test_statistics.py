"""Statistics of a few runs, against numbers from pencil and paper."""

import itertools
import math

import numpy as np
import pytest

from epo_lightning.report.statistics import (
    Array,
    Interval,
    bootstrap,
    interquartile_mean,
    mean,
    mean_band,
    normalized,
    performance_profile,
    pooled_interquartile_mean,
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


# What rliable 1.2.0 (Agarwal et al. 2021) says of these scores of five runs on three tasks, with 20,000 resamples:
# get_interval_estimates with metrics.aggregate_iqm and metrics.probability_of_improvement, create_performance_profile.
RLIABLE_A = [[0.3, 0.166, 0.309, 0.207, 0.316], [0.645, 0.532, 0.801, 0.673, 0.46], [0.459, 0.351, 0.426, 0.554, 0.496]]
RLIABLE_B = [
    [0.339, -0.18, 0.153, 0.231, 0.092],
    [0.231, 0.242, 0.247, 0.463, 0.49],
    [0.458, 0.182, 0.604, 0.047, 0.573],
]
STEP = 1 / 15 + 1e-9
"""Of a share of fifteen runs: the end of an interval is one or the next, as chance has it."""


def strata(scores: list[list[float]]) -> list[Array]:
    return [np.array(task) for task in scores]


@pytest.mark.parametrize(
    ("scores", "value", "low", "high"),
    [(RLIABLE_A, 0.43366667, 0.39555278, 0.48166667), (RLIABLE_B, 0.28288889, 0.18444444, 0.384)],
)
def test_the_interquartile_mean_over_tasks_is_that_of_rliable(
    scores: list[list[float]], value: float, low: float, high: float
) -> None:
    middle, interval = pooled_interquartile_mean(strata(scores))
    assert middle == pytest.approx(value, abs=1e-7)
    assert interval == pytest.approx((low, high), abs=0.01)


@pytest.mark.parametrize(
    ("scores", "shares", "low", "high"),
    [
        (RLIABLE_A, [1.0, 12 / 15, 5 / 15, 1 / 15], [1.0, 10 / 15, 0.2, 0.0], [1.0, 14 / 15, 7 / 15, 0.2]),
        (RLIABLE_B, [0.8, 0.4, 2 / 15, 0.0], [0.6, 0.2, 0.0, 0.0], [1.0, 0.6, 4 / 15, 0.0]),
    ],
)
def test_the_performance_profile_is_that_of_rliable(
    scores: list[list[float]], shares: list[float], low: list[float], high: list[float]
) -> None:
    profile = performance_profile(strata(scores), np.array([0.1, 0.3, 0.5, 0.7]))
    assert profile.shares.tolist() == pytest.approx(shares)
    assert profile.low is not None
    assert profile.high is not None
    assert profile.low.tolist() == pytest.approx(low, abs=STEP)
    assert profile.high.tolist() == pytest.approx(high, abs=STEP)


def test_the_probability_of_improvement_over_tasks_is_that_of_rliable() -> None:
    first, second = strata(RLIABLE_A), strata(RLIABLE_B)
    likely = [probability_of_improvement(x, y) for x, y in zip(first, second, strict=True)]
    assert np.mean(likely) == pytest.approx(0.72)
    assert bootstrap(probability_of_improvement, first, second) == pytest.approx((0.52, 0.90666667), abs=0.02)


def test_tasks_with_other_numbers_of_runs_weigh_the_same_in_a_profile() -> None:
    # above 1: two of two, and one of four
    profile = performance_profile([np.array([2.0, 3.0]), np.array([0.0, 1.0, 1.0, 5.0])], np.array([1.0]))
    assert profile.shares.tolist() == [(1 + 0.25) / 2]


def test_a_task_with_a_single_run_leaves_no_intervals() -> None:
    scores = [np.array([1.0]), np.array([1.0, 2.0])]
    middle, interval = pooled_interquartile_mean(scores)
    assert middle == pytest.approx(4 / 3)
    assert interval == (-math.inf, math.inf)
    profile = performance_profile(scores, np.array([0.5]))
    assert (profile.low, profile.high) == (None, None)


def test_scores_are_normalised_between_the_worst_and_the_best_run_of_each_task() -> None:
    mine, theirs = strata([[0.0, 5.0], [7.0, 7.0]]), strata([[10.0], [7.0]])
    scaled = [values.tolist() for values in normalized(mine, [mine, theirs])]
    assert scaled == [[0.0, 0.5], [0.5, 0.5]]  # where all are alike nobody is better
    assert [values.tolist() for values in normalized(theirs, [mine, theirs])] == [[1.0], [0.5]]
