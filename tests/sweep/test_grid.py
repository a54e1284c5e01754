"""Grids: every combination, each with a name of its own."""

import pytest

from epo_lightning.limits import Mistake
from epo_lightning.sweep.grid import cross, point_names


def test_every_combination_comes_once() -> None:
    grid = {"model.num_agents": [4, 8], "model.rollout.estimator": ["gae", "n_step"]}
    points = cross("grid", grid)
    assert [tuple(point.values()) for point in points] == [(4, "gae"), (4, "n_step"), (8, "gae"), (8, "n_step")]
    assert point_names(points)[1] == "num_agents=4,estimator=n_step"
    assert cross("grid", None) == [{}]
    assert point_names([{}]) == [""]


def test_names_are_names_of_folders_and_differ() -> None:
    values = [None, True, 1e-05, 0.12345678, "a/b c", [64, 32], {"class_path": "mine.Blend"}, [], "a b/c"]
    names = point_names([{"k.x": value} for value in values])
    assert names == [
        "x=none", "x=true", "x=1e-05", "x=0.12345678", "x=a-b-c", "x=64-32", "x=Blend", "x=empty", "x=a-b-c#2",
    ]  # fmt: skip
    assert point_names([{"a.x": 1, "b.x": 2}]) == ["a.x=1,b.x=2"]


@pytest.mark.parametrize("grid", [[1], {"a": 3}, {"a": []}, {"a": [1, 1]}, {"a": "gae"}])
def test_what_is_no_grid_is_refused(grid: object) -> None:
    with pytest.raises(Mistake, match=r"^study: grid"):
        cross("study: grid", grid)
