"""What a run is worth, at each look and at its end."""

import math
from pathlib import Path

import pytest

from epo_lightning.sweep.curve import no_value, read_curve, read_metric, score
from epo_lightning.sweep.space import Parameter, Space
from tests.support.fake_runs import make_run


def test_a_run_is_worth_its_last_value_or_the_mean_of_its_last_tenth() -> None:
    values = {at: float(at) for at in range(1, 41)}
    assert score(values, 40, "last") == 40
    assert score(values, 40, "tail") == 38.5  # of 37, 38, 39, 40
    assert score(values, 11, "tail") == 10.5  # of 10, 11: a tenth, rounded up
    assert score(values, 1, "tail") == 1
    assert score({**values, 40: math.nan}, 40, "last") == 39
    assert score({**values, 40: math.nan}, 40, "tail") == 38
    assert math.isnan(score({1: math.nan}, 1, "last"))
    assert math.isnan(score({}, 5, "tail"))


def test_episodes_count_from_when_all_environments_have_finished_one(tmp_path: Path) -> None:
    file = tmp_path / "metrics.csv"
    name = "charts/episodic_return"
    file.write_text(
        f"charts/iteration,{name},charts/episodic_coverage,other\n1,9,0.5,3\n2,,1,4\n3,5,1.0,5\n3,6,1,5\n4,7"
    )
    found = read_metric(file, name)
    assert found is not None
    assert math.isnan(found.pop(1))
    assert math.isnan(found.pop(2))
    assert found == {3: 6.0}
    assert read_metric(file, "other") == {1: 3.0, 2: 4.0, 3: 5.0}
    assert read_metric(file, "charts/x") is None
    assert read_metric(tmp_path / "none.csv", name) == {}


def test_why_there_is_no_value_is_told(tmp_path: Path) -> None:
    file = tmp_path / "metrics.csv"
    file.write_text("charts/iteration,charts/episodic_return\n")
    assert no_value(file, "charts/episodic_retrun").endswith("metrics.csv (did you mean charts/episodic_return?)")
    assert no_value(file, "charts/episodic_return").startswith("search.metric: charts/episodic_return has no value in")


def test_a_curve_has_a_look_for_each_twentieth(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", 0, 40)
    run.run.last.parent.mkdir(parents=True)
    space = Space((Parameter("a", (1,)),), "score", "last")
    assert read_curve(run, space, None).looks == {}
    rows = "".join(f"{10 * at},{at},{at + 0.5}\n" for at in range(1, 6))
    run.run.metrics.write_text(f"charts/env_steps,charts/iteration,score\n{rows}")
    part = read_curve(run, space, None)
    assert (part.looks, part.reached, part.is_whole) == ({1: 2.5, 2: 4.5}, 2, False)
    assert math.isnan(part.value)
    assert read_curve(run, space, part) is part
    run.run.last.touch()
    run.finish()  # something has stopped it early, and it says that it is done
    whole = read_curve(run, space, part)
    assert (whole.is_whole, whole.value) == (True, 5.5)
    assert not read_curve(run, Space(space.parameters, "charts/x"), None).has_column


@pytest.mark.parametrize("kind", ["last", "tail"])
def test_the_last_look_is_what_the_run_is_worth(tmp_path: Path, kind: str) -> None:
    run = make_run(tmp_path / "run", 0, 30)
    run.run.last.parent.mkdir(parents=True)
    rows = "".join(f"{at},{at},{at**2}\n" for at in range(1, 31))
    run.run.metrics.write_text(f"charts/env_steps,charts/iteration,score\n{rows}")
    run.run.last.touch()
    run.finish()
    curve = read_curve(run, Space((Parameter("a", (1,)),), "score", kind), None)
    assert curve.looks[20] == curve.value == {"last": 900, "tail": (28**2 + 29**2 + 900) / 3}[kind]
