"""How soon a method is good: areas and first times, by hand."""

import math
from pathlib import Path

import numpy as np
import pytest

from epo_lightning.report.curves import Line
from epo_lightning.report.efficiency import height
from epo_lightning.report.grouping import group
from epo_lightning.report.reading import read_run
from epo_lightning.report.results import Table, tables
from tests.support.run_folders import make_run

COLUMNS = "charts/env_steps,charts/sps,charts/episodic_coverage,charts/episodic_return,charts/episodic_successes"


def with_successes(folder: Path, successes: list[float], seed: int = 0) -> None:
    rows = [f"{100 * n},50,1,{n},{value}" for n, value in enumerate(successes, 1)]
    make_run(folder, seed=seed, metrics="\r\n".join([COLUMNS, *rows, ""]))


def tabled(folder: Path) -> Table:
    (table,) = tables(group([read_run(path) for path in sorted(folder.iterdir())]))
    return table


def test_the_height_of_a_curve_is_its_area_by_its_width() -> None:
    line = Line(np.array([0.0, 10.0, 30.0]), np.array([0.0, 4.0, 2.0]))
    assert height(line, 0, 30) == pytest.approx((20 + 60) / 30)
    assert height(line, 5, 20) == pytest.approx((5 * 3 + 10 * 3.5) / 15)  # from 2 to 4, and from 4 to 3
    assert math.isnan(height(line, 0, 31))
    assert math.isnan(height(line, 10, 10))


def test_areas_are_over_what_all_runs_of_a_task_cover(tmp_path: Path) -> None:
    make_run(tmp_path / "a", [0.0, 2.0, 4.0, 100.0])
    make_run(tmp_path / "b", [8.0, 6.0, 4.0], agents=4)
    one, four = (result.efficiency for result in tabled(tmp_path).results)
    assert (one.start, one.end) == (100, 300)
    assert one.returns.tolist() == [2.0]
    assert four.returns.tolist() == [6.0]
    assert (one.successes, one.reached) == (None, ())  # nothing counts successes


def test_the_first_time_counts_and_who_never_had_it_is_counted(tmp_path: Path) -> None:
    with_successes(tmp_path / "a", [0, 0.5, 0.95, 0.2])
    with_successes(tmp_path / "b", [0, 0, 0.4, 0.6], seed=1)
    with_successes(tmp_path / "c", [0, 0, 0, 0.1], seed=2)
    half, most = tabled(tmp_path).results[0].efficiency.reached
    assert (half.level, most.level) == (0.5, 0.9)
    assert half.env_steps.tolist() == [200, 400, math.inf]
    assert (half.median_env_steps, half.median_seconds, half.never) == (400, 8, 1)
    assert (most.median_env_steps, most.median_seconds, most.never) == (math.inf, math.inf, 2)


def test_an_even_number_of_runs_of_which_half_never_had_it_has_no_median(tmp_path: Path) -> None:
    with_successes(tmp_path / "a", [1, 1])
    with_successes(tmp_path / "b", [0, 0], seed=1)
    half, _ = tabled(tmp_path).results[0].efficiency.reached
    assert (half.median_env_steps, half.never) == (math.inf, 1)


def test_who_does_not_tell_successes_has_no_first_time_and_a_note_says_so(tmp_path: Path) -> None:
    with_successes(tmp_path / "a", [0, 1])
    make_run(tmp_path / "b", [1.0, 2.0], agents=4)
    table = tabled(tmp_path)
    one, four = (result.efficiency for result in table.results)
    assert len(one.reached) == 2
    assert four.reached == ()
    assert four.successes is not None
    assert np.isnan(four.successes).all()
    assert [result.successes is None for result in table.results] == [False, True]
    assert (
        f"Without charts/episodic_successes, so that their methods have none in the table: {tmp_path / 'b'}."
        in table.notes
    )
