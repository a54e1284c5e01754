"""Final performance: whose numbers count, what is best, and what ties with it."""

import math
import os
from pathlib import Path

import pytest

from epo_lightning.report.grouping import group
from epo_lightning.report.overall import overall
from epo_lightning.report.reading import read_run
from epo_lightning.report.results import Table, tables
from tests.support.run_folders import evaluate, make_run


def tabled(folder: Path) -> list[Table]:
    return tables(group([read_run(path) for path in sorted(folder.iterdir())]))


def test_without_evaluations_the_last_tenth_of_env_steps_counts(tmp_path: Path) -> None:
    make_run(tmp_path / "a", [0.0] * 18 + [3.0, 5.0])  # 2,000 env steps: those after 1,800
    (table,) = tabled(tmp_path)
    assert table.source == "metrics.csv"
    assert table.results[0].scores.tolist() == [4.0]
    assert "No run was evaluated" in table.notes[0]


def test_tests_count_where_every_run_of_the_task_has_one(tmp_path: Path) -> None:
    for name, seed, agents, value in (("a", 0, 1, 10.0), ("b", 1, 1, 14.0), ("c", 0, 4, 30.0)):
        run = make_run(tmp_path / name, seed=seed, agents=agents)
        evaluate(run, -1.0, "last.evaluation.json")
        evaluate(run, value)
    (table,) = tabled(tmp_path)
    assert table.source == "last.test.json"
    assert [result.scores.tolist() for result in table.results] == [[10.0, 14.0], [30.0]]
    assert "(the command test; 64 episodes a run)" in table.notes[0]
    assert [result.evaluated for result in table.results] == [None, None]


def test_one_run_without_a_test_takes_the_whole_task_to_what_all_have(tmp_path: Path) -> None:
    evaluate(make_run(tmp_path / "a", [1.0, 1.0]), 10.0)
    make_run(tmp_path / "b", [2.0, 2.0], agents=4)
    (table,) = tabled(tmp_path)
    assert table.source == "metrics.csv"
    assert [result.scores.tolist() for result in table.results] == [[1.0], [2.0]]
    assert "1 of 2 lack it, such as" in table.notes[0]
    assert [result.evaluated and result.evaluated.value for result in table.results] == [10.0, None]


def test_tests_under_other_conditions_are_not_compared(tmp_path: Path) -> None:
    evaluate(make_run(tmp_path / "a", [1.0, 1.0]), 10.0, difficulty={"tolerance": 0.01})
    evaluate(make_run(tmp_path / "b", [2.0, 2.0], seed=1), 20.0, difficulty={"tolerance": 0.05})
    (table,) = tabled(tmp_path)
    assert table.source == "metrics.csv"
    assert "under the same conditions" in table.notes[0]
    assert table.results[0].evaluated is None


def test_a_test_of_an_older_checkpoint_is_told(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a")
    evaluate(run, 10.0)
    os.utime(run / "checkpoints" / "last.test.json", (0, 0))
    (run / "checkpoints" / "last.ckpt").touch()
    (table,) = tabled(tmp_path)
    assert f"Evaluated before the checkpoint was written again: {run}." in table.notes


def test_the_highest_mean_is_best_and_overlapping_intervals_tie(tmp_path: Path) -> None:
    methods = {1: [10.0, 11.0, 12.0], 2: [10.0, 10.5, 11.0], 3: [0.0, 0.5, 1.0]}
    # Student's: 11 +- 2.48, 10.5 +- 1.24, 0.5 +- 1.24
    for agents, values in methods.items():
        for seed, value in enumerate(values):
            make_run(tmp_path / f"{agents}-{seed}", [value], seed, agents=agents)
    (table,) = tabled(tmp_path)
    found = {result.group.label: (result.returns.value, result.is_best, result.ties) for result in table.results}
    assert found == {
        "ppo (1 agent)": (11.0, True, False),
        "sapg, 2 agents": (10.5, False, True),
        "sapg, 3 agents": (0.5, False, False),
    }
    likely = {(one.method, one.other): one.probability for one in table.improvements}
    assert len(likely) == 6
    assert likely["ppo (1 agent)", "sapg, 2 agents"] == pytest.approx(
        6 / 9
    )  # 10 has half a win, 11 two and a half, 12 three
    assert likely["ppo (1 agent)", "sapg, 3 agents"] == 1
    assert likely["sapg, 3 agents", "ppo (1 agent)"] == 0


def test_a_single_seed_ties_with_everything(tmp_path: Path) -> None:
    make_run(tmp_path / "a", [100.0])
    for seed in range(3):
        make_run(tmp_path / f"b{seed}", [float(seed)], seed, agents=4)
    (table,) = tabled(tmp_path)
    assert [(result.is_best, result.ties) for result in table.results] == [(True, False), (False, True)]
    assert all(math.isinf(one.interval.low) for one in table.improvements)


def test_methods_that_meet_on_two_tasks_have_a_mean_probability(tmp_path: Path) -> None:
    # on one task 4 agents always win, on the other a quarter of the pairs: 5/8 on average
    for task, ones, fours in (("WallMaze", [1.0, 2.0], [3.0, 4.0]), ("Probe", [2.0, 4.0], [1.0, 3.0])):
        for agents, values in ((1, ones), (4, fours)):
            for seed, value in enumerate(values):
                make_run(tmp_path / f"{task}{agents}{seed}", [value], seed, agents=agents, task=task)
    make_run(tmp_path / "alone", [9.0], algorithm="sac")
    both = overall(tabled(tmp_path))
    # on the scale of each task: 0 1/3 against 2/3 1, and 1/3 1 against 0 2/3; the middle two of each four
    assert sorted(both.tasks) == ["Probe", "WallMaze"]
    assert {one.method: one.middle for one in both.aggregates} == {
        "ppo (1 agent)": pytest.approx(1 / 3),
        "sapg, 4 agents": pytest.approx(2 / 3),
    }
    shares = {one.method: one.profile.shares[50] for one in both.aggregates}  # more than 1/2
    assert shares == {"ppo (1 agent)": 0.25, "sapg, 4 agents": 0.75}
    found = {(one.method, one.other): one.probability for one in both.improvements}
    assert found == {("sapg, 4 agents", "ppo (1 agent)"): 0.625, ("ppo (1 agent)", "sapg, 4 agents"): 0.375}


def test_notes_tell_of_unequal_lengths_and_of_a_seed_that_ran_twice(tmp_path: Path) -> None:
    make_run(tmp_path / "a", [1.0] * 10, seed=3)
    make_run(tmp_path / "b", [1.0] * 20, seed=3)
    (table,) = tabled(tmp_path)
    assert "The runs are of different lengths: 1,000 to 2,000 env steps." in table.notes
    assert "ppo (1 agent) has several runs of seed 3: all of them count." in table.notes
