"""A search: what is tried, what is ended early, and that it goes on where it was cut."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml
from optuna.trial import TrialState

from epo_lightning.sweep.driver import Driver
from epo_lightning.sweep.findings import draw, importances, is_flat, write_best, write_table
from epo_lightning.sweep.progress import Screen
from epo_lightning.sweep.space import Parameter, Space
from epo_lightning.sweep.trials import SearchPlan, best_of, open_study, trial_folder
from tests.support.fake_runs import FakeRun, make_run

X = Parameter("model.x", (), 0.0, 1.0)
KIND = Parameter("model.kind", ([8, 8], None, "one"))
SPACE = Space((X, KIND), "score", "last", trials=6, pruner="none")


def maker(out: Path, value: str = "{x} * i", seconds: float = 0.0) -> Callable[[int, dict[str, Any]], list[FakeRun]]:
    """Runs whose score grows as fast as their `x`, half as much with the second seed."""

    def make_runs(number: int, settings: dict[str, Any]) -> list[FakeRun]:
        folder = trial_folder(out, number)
        rule = value.format(x=settings["model.x"])
        runs = [make_run(folder, seed, 20, value=rule, seconds=seconds, settings=settings) for seed in (0, 1)]
        (folder / "trial.yaml").write_text(yaml.safe_dump(settings))
        return runs

    return make_runs


class Silent(Screen):
    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []

    def say(self, line: str) -> None:
        self.said.append(line)

    def show(self, line: str, *, is_news: bool = False) -> None:
        self.last = line


def search(out: Path, space: Space = SPACE, **more: Any) -> tuple[optuna.Study, Driver, SearchPlan, Silent]:
    out.mkdir(exist_ok=True)
    screen, study = Silent(), open_study(out, space)
    plan = SearchPlan(study, space, 2, maker(out, **more), screen.say)
    driver = Driver(plan, 2, 1, screen)
    driver.drive()
    return study, driver, plan, screen


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, optuna.Study]:
    out = tmp_path_factory.mktemp("search")
    study, driver, plan, _ = search(out)
    assert (driver.failed, plan.failed) == ([], 0)
    return out, study


def test_each_trial_has_a_run_for_each_seed_and_is_worth_their_mean(found: tuple[Path, optuna.Study]) -> None:
    out, study = found
    trials = study.get_trials()
    assert [trial.state for trial in trials] == [TrialState.COMPLETE] * 6
    for trial in trials:
        assert trial.value == pytest.approx(20 * trial.params["model.x"])
        assert [*trial.intermediate_values] == [*range(1, 41)]
        assert trial.intermediate_values[10] == pytest.approx(10 * trial.params["model.x"])
        assert trial.intermediate_values[30] == pytest.approx(15 * trial.params["model.x"])  # of 20 and 10
        said = yaml.safe_load((out / f"trial-000{trial.number}" / "trial.yaml").read_text())
        assert said["model.x"] == trial.params["model.x"]
        assert said["model.kind"] in ([8, 8], None, "one")
    assert len({trial.params["model.x"] for trial in trials}) == 6


def test_more_trials_follow_those_that_are_done_and_none_comes_twice(tmp_path: Path) -> None:
    first = search(tmp_path, Space((X, KIND), "score", "last", trials=2, pruner="none"))[0].get_trials()
    again, _, _, screen = search(tmp_path, Space((X, KIND), "score", "last", trials=4, pruner="none"))
    xs = [trial.params["model.x"] for trial in again.get_trials()]
    assert xs[:2] == [trial.params["model.x"] for trial in first]
    assert len({*xs}) == 4
    assert screen.last.startswith("3 of 4 trials, best ")
    assert (
        search(tmp_path, Space((X, KIND), "score", "last", trials=4, pruner="none"))[0].get_trials()
        == again.get_trials()
    )


def test_a_trial_that_was_cut_goes_on_in_its_folder_with_its_settings(tmp_path: Path) -> None:
    space = Space((X, KIND), "score", "last", trials=1, pruner="none")
    study = open_study(tmp_path, space)
    plan = SearchPlan(study, space, 2, maker(tmp_path), print)
    run = plan.next()  # the driver dies here: one run is half done, the other has not begun
    assert run is not None
    run.run.last.parent.mkdir(parents=True)
    run.run.last.write_text("10")
    (before,) = study.get_trials()
    assert before.state == TrialState.RUNNING
    (after,) = search(tmp_path, space)[0].get_trials()
    assert after.state == TrialState.COMPLETE
    assert after.params == before.params
    assert "from 10" in run.log.read_text()


def test_a_trial_that_is_behind_is_ended_early(tmp_path: Path) -> None:
    space = Space((X,), "score", "last", trials=8, pruner="median")
    study, driver, _, _ = search(tmp_path, space, seconds=0.02)
    states = [trial.state for trial in study.get_trials()]
    assert states[:5] == [TrialState.COMPLETE] * 5  # the median needs five
    assert TrialState.PRUNED in states
    assert driver.failed == []
    cut = next(trial for trial in study.get_trials() if trial.state == TrialState.PRUNED)
    assert max(cut.intermediate_values) < 40
    runs = [tmp_path / f"trial-{cut.number:04d}" / f"seed{seed}" / "checkpoints" / "last.ckpt" for seed in (0, 1)]
    assert not all(run.exists() and run.read_text() == "20" for run in runs)
    best = best_of(study)
    assert best is not None
    assert best.state == TrialState.COMPLETE


def test_a_trial_that_fails_is_over_and_is_tried_again_next_time(tmp_path: Path) -> None:
    space = Space((X,), "score", "last", trials=2, pruner="none")
    study, _, plan, screen = search(tmp_path, space, value="unknown + {x}")
    assert [trial.state for trial in study.get_trials()] == [TrialState.FAIL] * 2
    assert plan.failed == 2
    assert any("NameError: name 'unknown' is not defined" in line for line in screen.said)
    failed = [trial.params for trial in study.get_trials()]
    again, _, plan, _ = search(tmp_path, space)
    assert plan.failed == 0
    done = again.get_trials(states=(TrialState.COMPLETE,))
    assert [trial.params for trial in done] == failed
    assert sorted(path.name for path in tmp_path.glob("trial-*")) == ["trial-0000", "trial-0001"]


def test_a_metric_that_is_no_column_is_told_at_once_and_at_the_end(tmp_path: Path) -> None:
    space = Space((X,), "scroe", "last", trials=1, pruner="none")
    _, _, plan, screen = search(tmp_path, space)
    assert plan.failed == 1
    assert screen.said[0].startswith("notice: search.metric: scroe is no column of ")
    assert screen.said[-1].startswith("failed: trial 0: search.metric: scroe is no column of ")
    assert screen.said[-1].endswith("(did you mean score?)")


def test_a_search_ends_when_its_first_trial_had_no_such_column(tmp_path: Path) -> None:
    space = Space((X,), "scroe", "last", trials=50, pruner="none")
    study, driver, plan, screen = search(tmp_path, space)
    assert len(study.get_trials()) <= 2  # of which one had begun
    assert plan.further() == 0
    assert driver.failed == []
    failed = [line for line in screen.said if line.startswith("failed: ")]
    assert failed[0].endswith("(did you mean score?); no trial has it, so the search ends")


def test_trials_that_are_all_worth_the_same_are_told_apart_from_others(found: tuple[Path, optuna.Study]) -> None:
    assert not is_flat(found[1])
    flat = optuna.create_study()
    for _ in range(2):
        assert not is_flat(flat)
        flat.tell(flat.ask(), 0.0)
    assert is_flat(flat)


def test_what_was_found_is_a_table_a_configuration_and_a_picture(found: tuple[Path, optuna.Study]) -> None:
    out, study = found
    write_table(out, study, SPACE)
    with (out / "trials.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    best = max(rows, key=lambda row: float(row["value"]))
    assert [row["state"] for row in rows] == ["complete"] * 6
    assert {*rows[0]} == {"trial", "state", "value", "folder", "model.x", "model.kind"}
    assert write_best(out, study, SPACE) == study.best_trial
    text = (out / "best.yaml").read_text()
    assert text.startswith(f"# score {float(best['value']):.6g}: the best of {out}, trial {best['trial']}, with\n")
    assert yaml.safe_load(text)["model.x"] == float(best["model.x"])
    assert {*importances(study)} == {"model.x", "model.kind"}
    assert importances(study)["model.x"] > 0
    assert draw(out, study, SPACE)
    assert (out / "search.png").read_bytes()[:4] == b"\x89PNG"


def test_nothing_found_is_nothing_written(tmp_path: Path) -> None:
    study = open_study(tmp_path, SPACE)
    assert write_best(tmp_path, study, SPACE) is None
    assert importances(study) == {}
    assert draw(tmp_path, study, SPACE)
