"""A population without a master: what a report shows of population based training."""

import math
from pathlib import Path
from typing import Any

import pytest

from epo_lightning.report.grouping import group
from epo_lightning.report.population import fates, generations, key, links, panels
from epo_lightning.report.reading import read_run
from tests.support.run_folders import HEADER, make_run


def record(generation: int, children: list[int], parents: list[int], fitness: list[float | None]) -> dict[str, Any]:
    pairs = [[parent, parent] for parent in parents]
    elites = [0, 1]
    steps = 100 * generation
    return {"env_steps": steps, "children": children, "parents": pairs, "elites": elites, "fitness": fitness}


# 2 takes the weights of 0, then 0 those of 2; nobody knows yet what 1 is worth at first; at last one only mutates
LINEAGE = [record(1, [2], [0], [3, None, 1]), record(2, [0], [2], [1, 2, 3]), record(3, [], [], [4, 2, 3])]
COLUMNS = {
    "hyper_parameters/clip/0": [0.2, 0.2, 0.1],
    "hyper_parameters/clip/1": [0.2, 0.05, 0.05],
    "hyper_parameters/clip/2": [0.3, 0.3, 0.3],
    "hyper_parameters/gamma/0": [0.99, 0.99, 0.9],
    "hyper_parameters/gamma/1": [0.98, 0.98, 0.98],
    "hyper_parameters/gamma/2": [0.99, 0.99, 0.99],
    "agents/return/0": [1.0, 2.0, 3.0],
    "agents/return/1": [1.0, 2.0, 4.0],
    "agents/return/2": [2.0, 2.0, 5.0],
}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    header = HEADER.strip() + "".join(f",{name}" for name in COLUMNS)
    cells = ["".join(f",{values[row]}" for values in COLUMNS.values()) for row in range(3)]
    rows = [f"{100 * (row + 1)},50,1.0,{row}.5{cells[row]}" for row in range(3)]
    table = "".join(f"{line}\r\n" for line in (header, *rows))
    return make_run(tmp_path / "a", algorithm="pbt", agents=3, evolves=True, metrics=table, lineage=LINEAGE)


def test_the_method_is_named_and_nobody_is_master(run: Path, tmp_path: Path) -> None:
    side_by_side = make_run(tmp_path / "b", algorithm="pbt", agents=3)
    seed = make_run(tmp_path / "c", algorithm="pbt", agents=3, evolves=True, seed=1, lineage=LINEAGE)
    several = group([read_run(path) for path in (run, side_by_side, seed)])
    assert [(one.label, len(one.runs)) for one in several] == [("pbt, 3 agents", 2), ("pbt, 3 agents side by side", 1)]
    assert not several[0].has_master
    assert generations(several[0]) == "Generations by seed: 3, 3."
    assert key(several[0]) == "Single agents go from dark blue (0) to bright (2)."
    assert fates(several[0]) == ""  # of nobody's followers, and nobody reached a goal


def test_members_drawn_from_a_distribution_descend_from_nobody(tmp_path: Path) -> None:
    record = {"generation": 1, "env_steps": 100, "elites": [1], "fitness": [1.0, 2.0, 0.5]}
    drawn, bred = (
        make_run(tmp_path / name, agents=3, evolves=True, lineage=[{**record, **family}])
        for name, family in (
            ("drawn", {"children": [], "parents": []}),
            ("bred", {"children": [2], "parents": [[1, 1]]}),
        )
    )
    told = [fates(only) for path in (drawn, bred) for only in group([read_run(path)])]
    assert told[0] == ""
    assert "the 2 followers descend from 1 of the first ones (2 from 1)" in told[1]


def test_hyper_parameters_over_time_and_the_genealogy(run: Path) -> None:
    (only,) = group([read_run(run)])
    drawn = {title: picture for title, picture, _ in panels(only)}
    assert list(drawn) == [
        "Champion and best agent",
        "Return of every agent",
        "Hyper-parameter clip of every agent",
        "Hyper-parameter gamma of every agent",
        "Fitness by agent, seed 0: 1 (dark) to 4 (bright); dots are elites",
        "Parents and children, seed 0; thick: those whose weights the best agent of the last generation has",
    ]
    clip, gamma = (drawn[f"Hyper-parameter {name} of every agent"] for name in ("clip", "gamma"))
    assert clip.count("<polyline") == gamma.count("<polyline") == 3
    assert "1 - gamma" in gamma
    assert 'stroke="#000"' not in clip  # the ink of a master
    assert not any("master" in picture for picture in drawn.values())
    assert "#ddd" in drawn["Fitness by agent, seed 0: 1 (dark) to 4 (bright); dots are elites"]  # of agent 1, unknown


def test_who_is_best_now_has_weights_that_came_a_way() -> None:
    records = [{**each, "fitness": [math.nan if f is None else f for f in each["fitness"]]} for each in LINEAGE]
    found = links(records, 3, has_master=False)
    # 0 is the best; it has the weights of 2, which had those of 0
    assert {link for link in found if link[3] == "line"} == {(2, 0, 0, "line"), (1, 2, 0, "line"), (0, 0, 2, "line")}
    assert (2, 1, 1, "stays") in found


def test_a_line_without_any_fitness_is_no_generation(tmp_path: Path) -> None:
    path = make_run(tmp_path / "a", algorithm="pbt", agents=3, lineage=[record(1, [2], [0], [None] * 3), *LINEAGE])
    assert len(read_run(path).lineage) == 3
