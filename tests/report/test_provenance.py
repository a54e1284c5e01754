"""Which code made the runs of a page."""

import json
from pathlib import Path
from typing import Any

from epo_lightning.report.grouping import group
from epo_lightning.report.provenance import Provenance, provenance
from epo_lightning.report.reading import read_run
from epo_lightning.report.results import tables
from tests.support.command_line import Cli
from tests.support.run_folders import evaluate, make_run


def told(commit: str, *, dirty: bool = False, sources: str = "5ef1", **more: Any) -> dict[str, Any]:
    git = {"package": {"commit": commit * 40, "dirty": dirty}}
    return {"versions": {"epo_lightning": "0.1.0"}, "git": git, "sources": sources, **more}


def make(folder: Path, seed: int, record: dict[str, Any] | None, **more: Any) -> Path:
    run = make_run(folder, [1.0, 2.0], seed, **more)
    if record is not None:
        (run / "run.json").write_text(json.dumps(record))
    return run


def found(folder: Path) -> Provenance:
    return provenance(tables(group([read_run(path) for path in sorted(folder.iterdir())])))


def test_one_code_is_one_line(tmp_path: Path) -> None:
    make(tmp_path / "a", 0, told("a"))
    make(tmp_path / "b", 0, told("a"), agents=4)
    assert found(tmp_path) == (["All runs were made by epo_lightning 0.1.0, commit aaaaaaaa."], False)


def test_a_dirty_tree_is_told_where_everything_is_of_it(tmp_path: Path) -> None:
    make(tmp_path / "a", 0, told("a", dirty=True))
    (line,), differs = found(tmp_path)
    assert not differs
    assert "commit aaaaaaaa with uncommitted changes (sources 5ef1). What was changed is in no commit" in line


def test_without_a_record_nobody_knows(tmp_path: Path) -> None:
    make(tmp_path / "a", 0, None)
    assert found(tmp_path) == (["All runs were made by code that no run.json tells of."], False)


def test_every_method_says_which_seeds_are_of_which_code(tmp_path: Path) -> None:
    make(tmp_path / "a0", 0, told("a"))
    make(tmp_path / "a1", 1, told("a", dirty=True, sources="77"))
    make(tmp_path / "a2", 2, told("b", sources="88", earlier=[told("a")], lineage=[{}]))
    make(tmp_path / "a3", 3, None)
    make(tmp_path / "b0", 0, told("a"), agents=4)
    make(tmp_path / "b1", 1, told("a"), agents=4)
    name = "epo_lightning 0.1.0, commit"
    assert found(tmp_path) == (
        [
            f"ppo (1 agent): seed 0 by {name} aaaaaaaa; seed 1 by {name} aaaaaaaa with uncommitted changes"
            f" (sources 77); seed 2 by {name} aaaaaaaa, continued by {name} bbbbbbbb; seed 3 by code that no run.json"
            " tells of.",
            f"sapg, 4 agents: seeds 0, 1 by {name} aaaaaaaa.",
        ],
        True,
    )


def test_a_run_that_other_code_continued_is_marked_even_when_it_is_alone(tmp_path: Path) -> None:
    make(tmp_path / "a", 0, told("b", earlier=[told("a")], lineage=[{}]))
    lines, differs = found(tmp_path)
    assert differs
    assert "commit aaaaaaaa, continued by epo_lightning 0.1.0, commit bbbbbbbb." in lines[0]
    assert lines[1].startswith("The modules of the package are the same in all of them")


def test_who_evaluated_is_told_where_it_is_another(tmp_path: Path) -> None:
    evaluate(make(tmp_path / "a", 0, told("a")), 1.0, **told("b"))
    evaluate(make(tmp_path / "b", 1, told("a")), 1.0, **told("a"))
    lines, differs = found(tmp_path)
    assert differs
    assert "seed 0 by epo_lightning 0.1.0, commit aaaaaaaa, evaluated by epo_lightning 0.1.0, commit bbb" in lines[0]


def test_who_evaluated_agent_by_agent_is_told_beside_who_tested(tmp_path: Path) -> None:
    run = make(tmp_path / "a", 0, told("a"), agents=2)
    agents = [{"agent": agent, "return": {"mean": 1.0, "standard_error": 0.5}} for agent in (0, 1)]
    standing = {"champion": 0, "env_steps": 150, "mean": {"best": None, "agents": agents}}
    evaluate(run, 1.0, "last.evaluation.json", agents=standing, **told("c"))
    made = "All runs were made by epo_lightning 0.1.0, commit aaaaaaaa, evaluated by epo_lightning 0.1.0, commit"
    assert found(tmp_path) == ([f"{made} cccccccc."], False)
    evaluate(run, 1.0, "last.test.json", **told("b"))  # which the scores are from now
    assert found(tmp_path) == ([f"{made} bbbbbbbb, evaluated by epo_lightning 0.1.0, commit cccccccc."], False)


def test_it_stands_on_the_page_in_the_numbers_and_in_a_notice(cli: Cli, tmp_path: Path) -> None:
    make(tmp_path / "runs" / "a", 0, told("a", sources="1"))
    make(tmp_path / "runs" / "b", 1, told("b", sources="2"))
    outcome = cli("report", "runs")
    assert outcome.code == 0
    line = (
        "ppo (1 agent): seed 0 by epo_lightning 0.1.0, commit aaaaaaaa; seed 1 by epo_lightning 0.1.0, commit bbbbbbbb."
    )
    assert outcome.err == "notice: the runs were made by different code: report/report.html says which\n"
    assert f"<h3>Made by different code</h3><ul><li>{line}</li></ul>" in Path("report/report.html").read_text()
    content = json.loads(Path("report/report.json").read_text())
    assert content["code"] == {"differs": True, "lines": [line]}
    one = content["tasks"][0]["methods"][0]["runs"][1]["code"]
    assert one == [{"version": "0.1.0", "commit": "b" * 40, "dirty": False, "sources": "2"}]
