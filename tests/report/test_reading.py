"""Run folders as they are found: also half-written, also empty."""

import os
from pathlib import Path

import numpy as np
import pytest

from epo_lightning.limits import Mistake
from epo_lightning.report.reading import COVERAGE, RETURN, Unusable, find_runs, read_run
from tests.support.run_folders import HEADER, evaluate, make_run, table

GENERATION: dict[str, object] = {"generation": 1, "env_steps": 200, "children": [1], "parents": [[2, 2]], "elites": [2]}
GENERATION |= {"fitness": [0.5, 0.1, 0.9]}


def test_runs_are_found_below_a_folder_once_and_in_order(tmp_path: Path) -> None:
    for name in ("b/2", "b/1", "a"):
        make_run(tmp_path / name)
    (tmp_path / "b" / "notes").mkdir()
    found = find_runs([tmp_path / "b" / "1", tmp_path])
    assert [str(path.relative_to(tmp_path)) for path in found] == ["b/1", "a", "b/2"]


def test_nothing_below_a_run_is_a_run(tmp_path: Path) -> None:
    make_run(make_run(tmp_path / "run") / "checkpoints" / "copy")
    assert find_runs([tmp_path]) == [tmp_path / "run"]


def test_a_configuration_beside_runs_does_not_hide_them(tmp_path: Path) -> None:
    make_run(tmp_path / "study" / "run")
    (tmp_path / "study" / "config.yaml").touch()
    assert find_runs([tmp_path]) == [tmp_path / "study", tmp_path / "study" / "run"]


@pytest.mark.parametrize(("place", "words"), [("nowhere", "is not a folder"), (".", "there is no run")])
def test_a_place_without_runs_is_a_mistake(tmp_path: Path, place: str, words: str) -> None:
    with pytest.raises(Mistake, match=words):
        find_runs([tmp_path / place])


def test_env_steps_and_seconds_of_a_run_add_up(tmp_path: Path) -> None:
    run = read_run(make_run(tmp_path / "run", [1.0, 2.0, 4.0], seed=7))
    assert run.env_steps.tolist() == [100, 200, 300]
    assert run.seconds.tolist() == [2, 4, 6]
    assert run.metrics[RETURN].tolist() == [1, 2, 4]
    assert run.seed == 7


def test_a_curve_begins_where_every_environment_has_finished_an_episode(tmp_path: Path) -> None:
    metrics = table(["", -9.0, 3.0, 4.0], [0.0, 0.5, 1.0, 1.0])
    run = read_run(make_run(tmp_path / "run", metrics=metrics))
    assert run.env_steps.tolist() == [300, 400]
    assert run.seconds.tolist() == [6, 8]
    assert run.metrics[RETURN].tolist() == [3, 4]


def test_returns_of_episodes_that_began_anew_are_no_scores_until_all_have_finished(tmp_path: Path) -> None:
    """As in a simulator that cannot save its episodes, after a resume."""
    run = read_run(make_run(tmp_path / "run", metrics=table([1.0, 9.0, 3.0], [1.0, 0.5, 1.0])))
    assert run.env_steps.tolist() == [100, 200, 300]
    np.testing.assert_equal(run.metrics[RETURN], [1.0, np.nan, 3.0])


def test_it_does_not_begin_anew_when_fewer_have_finished_one_later(tmp_path: Path) -> None:
    metrics = table([1.0, 2.0, 3.0], [1.0, 0.5, 1.0])
    assert read_run(make_run(tmp_path / "run", metrics=metrics)).metrics[COVERAGE].tolist() == [1.0, 0.5, 1.0]


def test_a_line_that_does_not_end_does_not_count(tmp_path: Path) -> None:
    # the last return was 42.75 when its writer was interrupted
    run = read_run(make_run(tmp_path / "run", metrics=table([1.0, 2.0]) + "300,50,1.0,42"))
    assert run.metrics[RETURN].tolist() == [1, 2]


def test_a_row_of_another_length_or_without_a_number_is_left_out(tmp_path: Path) -> None:
    rows = ["100,50,1.0,1.5", "200,50", "what,50,1.0,9.0", "300,50,1.0,?", "400,0,1.0,inf"]
    run = read_run(make_run(tmp_path / "run", metrics=HEADER + "".join(f"{row}\r\n" for row in rows)))
    assert run.env_steps.tolist() == [100, 300, 400]
    assert run.metrics[RETURN][0] == 1.5
    assert np.isnan(run.metrics[RETURN][1:]).all()
    assert run.seconds[:2].tolist() == [2, 6]
    assert np.isnan(run.seconds[2])


def test_of_two_rows_at_the_same_env_steps_the_later_counts(tmp_path: Path) -> None:
    metrics = HEADER + "100,50,1.0,1\r\n200,50,1.0,2\r\n200,50,1.0,3\r\n"
    run = read_run(make_run(tmp_path / "run", metrics=metrics))
    assert run.metrics[RETURN].tolist() == [1, 3]
    assert run.seconds.tolist() == [2, 4]


def test_missing_columns_are_not_known(tmp_path: Path) -> None:
    run = read_run(make_run(tmp_path / "run", metrics=f"charts/env_steps,{RETURN}\n100,1\n200,2\n"))
    assert not run.covers
    assert np.isnan(run.seconds).all()
    assert list(run.metrics) == [RETURN]


@pytest.mark.parametrize(
    ("file", "content", "reason"),
    [
        ("metrics.csv", None, "No such file"),
        ("metrics.csv", "", "empty"),
        ("metrics.csv", "charts/sps,charts/episodic_return\n1,2\n", "no column charts/env_steps"),
        ("metrics.csv", "charts/env_steps,charts/episodic_return\n", "no iteration yet"),
        ("metrics.csv", "charts/env_steps,charts/sps\n100,5\n", "no column charts/episodic_return"),
        ("metrics.csv", "charts/env_steps,charts/episodic_return\n100,\n", "no return in charts/episodic_return yet"),
        ("metrics.csv", table([1.0], [0.5]), "charts/episodic_coverage has not reached 1 yet, so no return is a score"),
        ("config.yaml", None, "No such file"),
        ("config.yaml", "", "empty"),
        ("config.yaml", "a: [1,", "not YAML"),
        ("config.yaml", "- 1\n", "not a configuration"),
    ],
)
def test_what_cannot_be_used_is_told_in_one_line_with_the_file(
    tmp_path: Path, file: str, content: str | None, reason: str
) -> None:
    path = make_run(tmp_path / "run")
    (path / file).unlink()
    if content is not None:
        (path / file).write_text(content)
    with pytest.raises(Unusable) as caught:
        read_run(path)
    assert str(caught.value).startswith(f"{path / file}: ")
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_table_of_bytes_that_are_no_text_is_told_too(tmp_path: Path) -> None:
    path = make_run(tmp_path / "run")
    (path / "metrics.csv").write_bytes(b"\xff\xfe\x00\n")
    with pytest.raises(Unusable, match="not a table"):
        read_run(path)


def test_generations_are_whole_lines(tmp_path: Path) -> None:
    odd: list[dict[str, object]] = [
        {"parents": [[2, 9]]},
        {"parents": [[2, 2], [2, 2]]},
        {"fitness": [0.5, float("nan"), 0.9]},
        {"elites": 2},
    ]
    path = make_run(tmp_path / "run", agents=3, lineage=[GENERATION, *({**GENERATION, **wrong} for wrong in odd)])
    with (path / "lineage.jsonl").open("a") as file:
        file.write('{"generation": 3}\nnot one\n[1]\n{"generation": 4, "env_st')
    assert read_run(path).lineage == [GENERATION]


def test_evaluations_lie_beside_the_checkpoint_and_may_be_older_than_it(tmp_path: Path) -> None:
    path = make_run(tmp_path / "run")
    evaluate(path, 12.5)
    evaluate(path, 3.0, "best.evaluation.json")
    evaluate(path, float("nan"), "last.evaluation.json")
    (path / "checkpoints" / "best.test.json").write_text('{"return": {"me')
    (path / "checkpoints" / "other.test.json").write_text('{"return": {"mean": null}}')
    run = read_run(path)
    assert {name: one.mean("return") for name, one in run.evaluations.items()} == {
        "last.test.json": 12.5,
        "best.evaluation.json": 3.0,
    }
    assert np.isnan(run.evaluations["last.test.json"].mean("successes"))
    assert not run.evaluations["last.test.json"].is_stale
    checkpoint = path / "checkpoints" / "last.ckpt"
    checkpoint.touch()
    later = checkpoint.stat().st_mtime + 100
    os.utime(checkpoint, (later, later))
    assert read_run(path).evaluations["last.test.json"].is_stale
