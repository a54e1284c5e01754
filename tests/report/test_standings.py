"""Master and best follower on the page, in the table and in the JSON, of runs that were evaluated agent by agent."""

import csv
import json
import os
from pathlib import Path
from typing import Any

import pytest

from epo_lightning.report.grouping import group
from epo_lightning.report.reading import read_run
from epo_lightning.report.standings import standings
from tests.support.command_line import Cli
from tests.support.run_folders import evaluate, make_run


def agent(number: int, value: float, error: float | None = 0.5, successes: float = 0.0) -> dict[str, Any]:
    return {
        "agent": number,
        "return": {"mean": value, "standard_error": error},
        "successes": {"mean": successes, "standard_error": 0.25},
    }


def side_by_side(master: float, best: float, *, successes: float = 0.0, **kinds: Any) -> dict[str, Any]:
    """As `validate --agents all` writes it: the best one's own row has its return over all episodes."""
    rows = [agent(0, master), agent(1, best + 3), agent(2, -50.0)]
    mean = {"best": agent(1, best, successes=successes), "agents": rows}
    return {"env_steps": 150, "champion": 0, "episodes": 64, "envs": 32, "mean": mean, **kinds}


def test_the_page_has_them_by_seed_and_over_seeds(cli: Cli, tmp_path: Path) -> None:
    drawn = {"best": agent(2, 1.0), "agents": [agent(0, 2.0), agent(2, 1.5), agent(1, 0.0)]}
    for seed, told in enumerate([side_by_side(4.0, 6.0, successes=1.0, drawn=drawn), side_by_side(6.0, 10.0), None]):
        run = make_run(tmp_path / "runs" / f"epo-{seed}", seed=seed, agents=3, evolves=True)
        evaluate(run, 5.0, "last.evaluation.json", **({"agents": told} if told else {}))
    checkpoint = tmp_path / "runs" / "epo-1" / "checkpoints" / "last.ckpt"
    checkpoint.touch()
    later = checkpoint.stat().st_mtime + 100
    os.utime(checkpoint, (later, later))
    make_run(tmp_path / "runs" / "ppo")
    assert cli("report", "runs").code == 0
    page = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    rows = ["".join(f"<td>{cell}</td>" for cell in row).replace("<td>m", '<td class="words">m') for row in (
        ["0", "mean actions", "4.00 ± 0.50", "6.00 ± 0.50 <small>(1)</small>", "0.00 ± 0.25", "1.00 ± 0.25"],
        ["1", "mean actions", "6.00 ± 0.50", "10.00 ± 0.50 <small>(1)</small>", "0.00 ± 0.25", "0.00 ± 0.25"],
        ["all", "mean actions", "5.0 ± 1.0", "8.0 ± 2.0", "0.000 ± 0", "0.50 ± 0.50"],
    )]  # fmt: skip
    for row in rows:
        assert row in page
    assert '<td>0</td><td class="words">drawn actions</td><td>2.00 ± 0.50</td>' in page
    assert '<td>all</td><td class="words">drawn actions</td>' not in page  # of one seed
    assert page.count("<th>master, return ± s.e.</th><th>best follower, return ± s.e.</th>") == 1
    assert "The best of 2 was chosen by half of its episodes; the numbers are those of the other half." in page
    assert "Not evaluated so: seed 2." in page
    assert "Evaluated before the checkpoint was written again: runs/epo-1." in page

    with (tmp_path / "report" / "report.csv").open(newline="") as file:
        table = [row for row in csv.DictReader(file) if row["metric"].startswith("evaluated/")]
    assert [(row["seed"], row["metric"].partition("/")[2], row["value"]) for row in table][:4] == [
        ("0", "mean/champion_return", "4.0"),
        ("0", "mean/champion_successes", "0.0"),
        ("0", "mean/best_other_return", "6.0"),
        ("0", "mean/best_other_successes", "1.0"),
    ]
    assert {(row["method"], row["env_steps"], row["seconds"]) for row in table} == {("epo, 3 agents", "150", "")}
    epo, ppo = json.loads((tmp_path / "report" / "report.json").read_text())["tasks"][0]["methods"]
    assert ppo["agents"] == []
    assert [(one["seed"], one["actions"], one["source"]) for one in epo["agents"]] == [
        (0, "mean", "last.evaluation.json"), (1, "mean", "last.evaluation.json"), (0, "drawn", "last.evaluation.json"),
    ]  # fmt: skip
    assert epo["agents"][0]["champion"] == agent(0, 4.0)
    assert epo["agents"][0]["best_other"] == {**agent(1, 6.0, successes=1.0), "of": 2}


def test_what_drawn_actions_return_stands_beside_where_every_run_tells_it(cli: Cli, tmp_path: Path) -> None:
    for agents, returns in ((1, [3.0, 7.0]), (3, [1.0, None])):
        for seed, value in enumerate(returns):
            run = make_run(tmp_path / "runs" / f"{agents}-{seed}", seed=seed, agents=agents)
            told = {"champion": 0, "drawn": {"best": None, "agents": [agent(0, value)]}} if value is not None else None
            evaluate(run, 5.0, "last.evaluation.json", **({"agents": told} if told else {}))
            other = {"champion": 0, "drawn": {"best": None, "agents": [agent(0, 99.0)]}}
            evaluate(run, 6.0, "best.evaluation.json", agents=other)  # of another checkpoint than the scores
    evaluate(tmp_path / "runs" / "1-0", 7.0, "last.test.json", agents=side_by_side(1.0, 2.0))  # which not all runs have
    assert cli("report", "runs").code == 0
    page = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    assert "<th>by drawn actions: interquartile mean</th><th>95 % interval</th>" in page
    ppo, sapg = json.loads((tmp_path / "report" / "report.json").read_text())["tasks"][0]["methods"]
    assert [run["return"] for run in ppo["runs"]] == [5.0, 5.0]
    assert [run["drawn_return"] for run in ppo["runs"]] == [3.0, 7.0]
    assert ppo["drawn_interquartile_mean"] == {"value": 5.0, "interval": [3.0, 7.0]}
    assert [run["drawn_return"] for run in sapg["runs"]] == [None, None]
    assert sapg["drawn_interquartile_mean"] is None


def test_without_a_master_there_is_a_champion_and_the_protocol_comes_first(cli: Cli, tmp_path: Path) -> None:
    run = make_run(tmp_path / "runs" / "pbt", algorithm="pbt", agents=3)
    evaluate(run, 5.0, "last.evaluation.json", agents=side_by_side(7.0, 7.0))
    evaluate(run, 5.0, "last.test.json", agents={**side_by_side(1.0, 2.0), "champion": 2})
    assert cli("report", "runs").code == 0
    page = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    assert "<th>champion, return ± s.e.</th><th>best other agent, return ± s.e.</th></tr>" in page  # nobody succeeds
    assert "<td>-50.00 ± 0.50</td><td>2.00 ± 0.50 <small>(1)</small></td></tr>" in page
    assert "from checkpoints/last.test.json." in page


def test_of_a_single_policy_there_is_no_column_for_others(cli: Cli, tmp_path: Path) -> None:
    run = make_run(tmp_path / "runs" / "ppo")
    rows = {"best": None, "agents": [agent(0, 3.0)]}
    evaluate(run, 3.0, "last.evaluation.json", agents={"champion": 0, "mean": rows, "drawn": rows})
    assert cli("report", "runs").code == 0
    page = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    assert '<th class="words">actions</th><th>master, return ± s.e.</th></tr>' in page
    assert "The master, from checkpoints/last.evaluation.json." in page


@pytest.mark.parametrize(
    "told",
    [
        None,
        [],
        {"champion": 0},
        {"champion": 0, "mean": {"agents": "all"}},
        {"champion": 0, "mean": {"agents": [{"agent": 0}, 3]}},
        {"champion": "master", "mean": {"agents": [agent(0, 1.0)]}},
        {"champion": 0, "mean": {"agents": [agent(0, float("nan"))]}},
    ],
)
def test_what_does_not_read_as_an_evaluation_is_none(tmp_path: Path, told: object) -> None:
    run = make_run(tmp_path / "run", agents=3)
    evaluate(run, 5.0, agents=told)
    assert standings(group([read_run(run)])[0]) == []


def test_of_one_other_agent_nobody_had_to_choose(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", agents=3)
    evaluate(run, 5.0, agents={"champion": 0, "mean": {"best": None, "agents": [agent(2, 3.0, None)]}})
    (one,) = standings(group([read_run(run)])[0])
    assert (one.champion, one.others, one.env_steps) == (None, 1, None)
    assert one.best is not None
    assert (one.best.agent, one.best.quantities["return"].value) == (2, 3.0)
