"""Every agent's own numbers: read from the table, drawn as lines, and the map of the genes."""

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from epo_lightning.report.agents import read_agents, read_genes
from epo_lightning.report.genes import gene_map, plane
from epo_lightning.report.grouping import group
from epo_lightning.report.population import panels
from epo_lightning.report.reading import read_run
from epo_lightning.report.statistics import Array
from tests.support.run_folders import HEADER, make_run

GENERATIONS: list[dict[str, Any]] = [
    {"generation": g, "env_steps": 100 * g, "children": [1], "parents": [[2, 2]], "elites": [2], "fitness": [0, 1, 2]}
    for g in (1, 2, 3)
]


def told(columns: dict[str, list[object]], rows: int = 3) -> str:
    """A table of `rows` iterations with more columns."""
    header = HEADER.strip() + "".join(f",{name}" for name in columns)
    cells = ["".join(f",{values[row]}" for values in columns.values()) for row in range(rows)]
    lines = [f"{100 * (row + 1)},50,{float(row > 0)},{row}.5{cells[row]}" for row in range(rows)]
    return "".join(f"{line}\r\n" for line in (header, *lines))


def titles(path: Path) -> list[str]:
    (only,) = group([read_run(path)])
    return [title for title, _, _ in panels(only)]


class TestReading:
    def test_columns_of_agents_become_arrays_from_where_the_run_begins(self, tmp_path: Path) -> None:
        columns: dict[str, list[object]] = {
            "agents/return/0": [1, 2, 3],
            "agents/return/2": [7, "", 9],
            "agents/ess/1": ["", 0.5, "nan"],
            "agents/new": [0, 0, 0],
            "agents/return/x": [0, 0, 0],
        }
        found = read_agents(read_run(make_run(tmp_path / "a", agents=3, metrics=told(columns))))
        assert set(found) == {"return", "ess"}
        # the first iteration does not count: its coverage is 0
        np.testing.assert_equal(found["return"], [[2, math.nan, math.nan], [3, math.nan, 9]])
        np.testing.assert_equal(found["ess"], [[math.nan, 0.5, math.nan], [math.nan] * 3])

    def test_a_row_that_is_being_written_is_none_yet(self, tmp_path: Path) -> None:
        run = make_run(tmp_path / "a", agents=2, metrics=told({"agents/return/0": [1, 2, 3]}) + "400,50,1.0,9.5,4")
        assert read_agents(read_run(run))["return"].tolist() == [[2], [3]]

    def test_an_older_run_and_one_that_is_gone_tell_nothing(self, tmp_path: Path) -> None:
        run = read_run(make_run(tmp_path / "a", agents=2))
        assert read_agents(run) == {}
        (tmp_path / "a" / "metrics.csv").unlink()
        assert read_agents(run) == {}

    def test_genes_are_read_as_far_as_the_lineage_tells_of_them(self, tmp_path: Path) -> None:
        run = make_run(tmp_path / "a", agents=3, lineage=GENERATIONS[:2])
        genes = np.arange(4 * 3 * 2).reshape(4, 3, 2).astype(np.float16)
        np.save(run / "genes.npy", genes)
        found = read_genes(read_run(run))
        assert found is not None
        assert np.array_equal(found, genes[:3])

    @pytest.mark.parametrize("content", [b"", b"\x93NUMPY", b"something else", None])
    def test_what_is_no_history_of_genes_is_none(self, tmp_path: Path, content: bytes | None) -> None:
        run = make_run(tmp_path / "a", agents=3, lineage=GENERATIONS)
        if content is not None:
            (run / "genes.npy").write_bytes(content)
        assert read_genes(read_run(run)) is None
        np.save(run / "genes.npy", np.zeros((3, 3)))
        assert read_genes(read_run(run)) is None
        np.save(run / "genes.npy", np.array([["a"]]).reshape(1, 1, 1))
        assert read_genes(read_run(run)) is None


class TestPanels:
    def test_every_quantity_that_a_run_tells_of_has_one(self, tmp_path: Path) -> None:
        columns: dict[str, list[object]] = {
            "agents/return/0": [1, 2, 3],
            "agents/successes/0": [0, 0, 0],
            "agents/kl_to_master/1": ["", 0.5, 20],
            "agents/ess/1": ["", "", ""],
        }
        run = make_run(tmp_path / "a", agents=2, metrics=told(columns))
        # nobody succeeds, and no weight is known
        assert titles(run) == [
            "Master and best agent", "Return of every agent", "Distance of every follower from the master",
        ]  # fmt: skip

    def test_the_distance_is_on_a_logarithmic_scale_without_zeros(self, tmp_path: Path) -> None:
        columns: dict[str, list[object]] = {"agents/kl_to_master/1": [1, 0, 0], "agents/kl_to_master/2": [1, 0.01, 100]}
        (only,) = group([read_run(make_run(tmp_path / "a", agents=3, metrics=told(columns)))])
        picture = panels(only)[-1][1]
        assert len(re.findall("<polyline", picture)) == 1
        assert re.findall(r'"end">([^<]*)</text>', picture) == ["0.01", "0.1", "1", "10", "100"]

    def test_one_agent_has_none(self, tmp_path: Path) -> None:
        assert titles(make_run(tmp_path / "a", agents=1, metrics=told({"agents/return/0": [1, 2, 3]}))) == []

    def test_genes_are_on_a_map(self, tmp_path: Path) -> None:
        run = make_run(tmp_path / "a", agents=3, evolves=True, lineage=GENERATIONS)
        np.save(run / "genes.npy", np.random.default_rng(0).normal(size=(4, 3, 5)).astype(np.float16))
        assert titles(run)[-1].startswith("Genes, seed 0: their first two principal components, ")


class TestPlane:
    def test_the_first_component_is_where_genes_differ_most(self) -> None:
        # four points on the corners of 6 x 2 within a plane of three dimensions: variances 9 and 1
        genes = np.array([[[-3.0, 0.0, 1.0], [-3.0, 0.0, -1.0]], [[3.0, 0.0, 1.0], [3.0, 0.0, -1.0]]]) + 10
        seen = plane(genes)
        assert seen is not None
        assert seen.shares == pytest.approx([0.9, 0.1])
        assert seen.places.tolist() == [
            [pytest.approx([-3, 1]), pytest.approx([-3, -1])],
            [pytest.approx([3, 1]), pytest.approx([3, -1])],
        ]

    def test_generations_that_were_not_kept_are_not_known(self) -> None:
        genes = np.array([[[math.nan], [math.nan]], [[1.0], [3.0]]])
        seen = plane(genes)
        assert seen is not None
        assert seen.shares.tolist() == [1.0, 0.0]  # a single entry has one component
        np.testing.assert_equal(seen.places, np.array([[[math.nan] * 2] * 2, [[-1.0, 0.0], [1.0, 0.0]]]))

    @pytest.mark.parametrize("genes", [np.full((2, 2, 3), math.nan), np.ones((2, 2, 3)), np.full((1, 1, 2), 4.0)])
    def test_genes_that_do_not_differ_have_no_map(self, genes: Array) -> None:
        assert plane(genes) is None

    def test_the_map_tells_master_elites_children_and_others_apart(self) -> None:
        seen = plane(np.random.default_rng(0).normal(size=(4, 6, 3)))
        assert seen is not None
        records = [{"children": [1, 2], "elites": [3]}] * 3
        picture = gene_map(seen, records)
        assert re.findall(r"before the first|generation \d", picture) == [
            "before the first", "generation 1", "generation 2", "generation 3",
        ]  # fmt: skip
        marks = {"master": "<path d=", "child": 'r="3.2"', "elite": 'r="4"', "other": 'r="2.6"'}
        # four maps and the legend: before the first generation everybody but the master is an other
        assert {kind: picture.count(mark) for kind, mark in marks.items()} == {
            "master": 5, "child": 7, "elite": 4, "other": 5 + 3 * 2 + 1,
        }  # fmt: skip

    def test_of_many_generations_six_are_shown_the_first_and_the_last_among_them(self) -> None:
        seen = plane(np.random.default_rng(0).normal(size=(301, 6, 3)))
        assert seen is not None
        picture = gene_map(seen, [{"children": [1], "elites": [3]}] * 300)
        assert re.findall(r"generation (\d+)", picture) == ["60", "120", "180", "240", "300"]
        assert "before the first" in picture
