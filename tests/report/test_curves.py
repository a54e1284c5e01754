"""Curves of several runs, and the pictures that are made of them."""

from pathlib import Path

import numpy as np
import pytest

from epo_lightning.report.charts import Plotted, chart, ticks
from epo_lightning.report.curves import Line, curve_of, join, thinned, time_axis
from epo_lightning.report.population import links, trigger
from epo_lightning.report.reading import RETURN, read_run
from tests.support.run_folders import make_run

FIRST = {"generation": 1, "env_steps": 100, "children": [1, 3], "parents": [[2, 2], [2, 1]], "elites": [2]}
FIRST |= {"fitness": [9.0, -1.0, 4.0, -2.0]}
SECOND = {"generation": 2, "env_steps": 200, "children": [1, 2], "parents": [[3, 2], [3, 3]], "elites": [3]}
SECOND |= {"fitness": [9.0, 3.0, 2.0, 5.0]}


def line(x: list[float], y: list[float]) -> Line:
    return Line(np.array(x), np.array(y))


def test_the_mean_is_where_all_runs_are_known() -> None:
    curve = join([line([0, 10], [0, 10]), line([4, 20], [2, 2])])
    assert curve.mean is not None
    assert curve.mean.x[[0, -1]].tolist() == [4, 10]
    assert curve.mean.y[[0, -1]].tolist() == [3, 6]
    assert [one.x[-1] for one in curve.runs] == [10, 20]


def test_runs_that_share_nothing_have_no_mean() -> None:
    assert join([line([0, 1], [0, 0]), line([2, 3], [0, 0])]).mean is None


def test_a_single_run_has_a_mean_and_no_band() -> None:
    curve = join([line([3], [7])])
    assert curve.mean is not None
    assert (curve.mean.x.tolist(), curve.mean.y.tolist(), curve.low) == ([3], [7], None)


@pytest.mark.parametrize(
    ("iterations", "unit", "first"), [(60, "seconds", 2), (61, "minutes", 2 / 60), (3601, "hours", 2 / 3600)]
)
def test_the_axis_of_time_suits_the_longest_run(tmp_path: Path, iterations: int, unit: str, first: float) -> None:
    runs = [read_run(make_run(tmp_path / "a")), read_run(make_run(tmp_path / "b", [1.0] * iterations))]
    name, axis = time_axis(runs)
    assert name == f"{unit} in iterations"
    assert axis(runs[0])[0] == first


def test_a_curve_over_time_is_over_what_was_spent_in_iterations(tmp_path: Path) -> None:
    run = read_run(make_run(tmp_path / "a", [5.0, 6.0]))
    curve = curve_of([run], RETURN, time_axis([run])[1])
    assert curve is not None
    assert curve.runs[0].x.tolist() == [2, 4]
    assert curve_of([run], "population/return_best") is None


def test_a_thinned_line_keeps_its_ends() -> None:
    long = thinned(line(list(range(1001)), list(range(1001))), most=11)
    assert long.x.tolist() == [0, 100, 200, 300, 400, 500, 600, 700, 800, 900, 1000]


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]), (-7.2, 3, [-6, -4, -2, 0, 2]), (0, 1.3e6, [0, 5e5, 1e6]), (3, 3.05, None)],
)
def test_ticks_are_round_numbers_within(low: float, high: float, expected: list[float] | None) -> None:
    found = ticks(low, high)
    assert 2 <= len(found) <= 7
    assert all(low <= tick <= high for tick in found)
    assert expected is None or found == pytest.approx(expected)


def test_a_chart_has_every_run_thin_and_the_mean_thick() -> None:
    curve = join([line([0, 1], [0, 1]), line([0, 1], [1, 1])])
    text = chart([Plotted("mine", curve, 0)], "steps", "return")
    assert text.count("<polyline") == 3
    assert text.count('stroke-width="2.2"') == 1
    assert text.count("<polygon") == 1
    assert ">steps</text>" in text


def test_a_chart_of_one_point_is_a_chart() -> None:
    assert "nan" not in chart([Plotted("mine", join([line([0], [0])]), 0)], "steps", "return")


def test_the_trigger_is_the_threshold_times_the_median_of_the_followers(tmp_path: Path) -> None:
    run = read_run(make_run(tmp_path / "a", agents=4, evolves=True, lineage=[FIRST, SECOND]))
    found = trigger(run, 0.5)
    assert found.x.tolist() == [100, 200]
    assert found.y.tolist() == [0.5, 1.5]  # |median of -1 4 -2| = 1, of 3 2 5 = 3


def test_a_family_tree_leads_to_the_fittest_follower_through_elite_parents() -> None:
    found = links([FIRST, SECOND], 4)
    assert {link for link in found if link[3] == "stays"} == {(0, 0, 0, "stays"), (0, 2, 2, "stays")} | {
        (1, 0, 0, "stays"),
        (1, 3, 3, "stays"),
    }
    assert sorted(link for link in found if link[3] == "child" and link[0] == 0) == [
        (0, 1, 3, "child"),
        (0, 2, 1, "child"),
        (0, 2, 1, "child"),
        (0, 2, 3, "child"),
    ]
    # 3 is the fittest of generation 2 and stays; it was a child of the elite 2 and of 1
    assert {link for link in found if link[3] == "line"} == {(1, 3, 3, "line"), (0, 2, 3, "line")}
