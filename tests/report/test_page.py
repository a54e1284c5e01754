"""The whole path: folders in, a page and its numbers out."""

import csv
import json
import re
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from epo_lightning.report import plot
from epo_lightning.report.study_names import StudyNames, as_text
from tests.support.command_line import Cli
from tests.support.run_folders import HEADER, evaluate, make_run, table

GENERATIONS = [
    {
        "generation": g,
        "env_steps": 100 * g,
        "children": [1],
        "parents": [[2, 2]],
        "elites": [2],
        "fitness": [g, 0.1, 0.9],
    }
    for g in (1, 2, 3)
]


def make_study(folder: Path) -> None:
    for seed in range(3):
        make_run(folder / f"epo-{seed}", [1.0, 5.0 + seed], seed, agents=3, evolves=True, lineage=GENERATIONS)
        make_run(folder / f"ppo-{seed}", [1.0, 2.0 + seed], seed)


def test_a_report_is_a_page_a_table_results_and_a_picture(cli: Cli, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    make_study(tmp_path / "runs")
    outcome = cli("report", "runs", "--out", "made")
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out == "6 run(s) of 2 method(s): made/report.html, .csv, .json and .png\n"
    assert sorted(path.name for path in (tmp_path / "made").iterdir()) == [
        "report.csv",
        "report.html",
        "report.json",
        "report.png",
        "runs.csv",
    ]
    assert (tmp_path / "made" / "report.png").read_bytes().startswith(b"\x89PNG")


def test_the_page_needs_nothing_else(cli: Cli, tmp_path: Path) -> None:
    make_study(tmp_path / "runs")
    assert cli("report", "runs").code == 0
    page = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"<script|<link|<img|src=|href=|url\(|@import|https?:", page)
    assert not re.search(r"\b(nan|inf|None)\b", page)
    assert (
        page.count('<svg class="picture"') == 2 + 1 + 1 + 2
    )  # returns twice; the profile; the master; heat map and family tree
    assert "Generations by seed: 3, 3, 3." in page
    assert "No run of this task had a success, or tells of any." in page
    assert "<b>6.00 ± 0.58</b>" in page  # 5 6 7: s = 1
    assert "≈ 3.00 ± 0.58" in page  # 4.303 standard errors are 2.48: up to 5.48, and down to 3.52


def test_the_same_runs_give_the_same_page(cli: Cli, tmp_path: Path) -> None:
    make_study(tmp_path / "runs")
    cli("report", "runs", "--out", "one")
    cli("report", "runs", "--out", "two")
    for name in ("report.html", "report.csv", "report.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_the_numbers_are_those_of_the_runs(cli: Cli, tmp_path: Path) -> None:
    make_study(tmp_path / "runs")
    cli("report", "runs")
    with (tmp_path / "report" / "report.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["metric"] == "charts/episodic_return"]
    assert len(rows) == 12
    assert rows[1] == {
        "task": "WallMaze",
        "method": "epo, 3 agents",
        "run": "runs/epo-0",
        "seed": "0",
        "metric": "charts/episodic_return",
        "env_steps": "200",
        "seconds": "4.0",
        "value": "5.0",
    }
    content = json.loads((tmp_path / "report" / "report.json").read_text())
    (task,) = content["tasks"]
    assert (content["layout"], task["task"], task["source"]) == (1, "WallMaze", "metrics.csv")
    epo, ppo = task["methods"]
    assert (epo["return"]["mean"], epo["is_best"], epo["return"]["runs"]) == (6.0, True, 3)
    assert (ppo["return"]["mean"], ppo["is_best"], ppo["ties_with_best"]) == (3.0, False, True)
    run = ppo["runs"][2]
    assert (run["folder"], run["seed"], run["env_steps"], run["seconds"]) == ("runs/ppo-2", 2, 200, 4.0)
    assert (run["return"], run["successes"], run["mean_return"], run["code"]) == (4.0, None, 2.5, [])
    assert ppo["efficiency"]["env_steps"] == [100, 200]
    assert ppo["efficiency"]["mean_return"]["mean"] == 2.0  # of 1.5, 2 and 2.5
    assert task["improvements"][0]["method"] == "epo, 3 agents"
    assert task["improvements"][0]["probability"] == 1.0


def test_how_soon_is_on_the_page_and_in_the_numbers(cli: Cli, tmp_path: Path) -> None:
    for seed, successes in enumerate(((0.2, 0.6), (0, 0), (0.5, 0.95))):
        metrics = "".join(f"{100 * n},50,1,{n},{value}\r\n" for n, value in enumerate(successes, 1))
        header = f"{HEADER.strip()},charts/episodic_successes\r\n"
        make_run(tmp_path / "runs" / str(seed), seed=seed, metrics=header + metrics)
    assert cli("report", "runs").code == 0
    page = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    assert "<td>200<br><small>1 of 3 never</small></td><td>4.0</td>" in page
    assert "<td>–<br><small>2 of 3 never</small></td><td>–</td>" in page
    content = json.loads((tmp_path / "report" / "report.json").read_text())
    assert content["tasks"][0]["methods"][0]["efficiency"]["reached"] == [
        {"successes": 0.5, "median_env_steps": 200, "median_seconds": 4, "runs": 3, "never": 1},
        {"successes": 0.9, "median_env_steps": None, "median_seconds": None, "runs": 3, "never": 2},
    ]
    with (tmp_path / "report" / "runs.csv").open(newline="") as file:
        rows = [*csv.DictReader(file)]
    assert [row["env_steps_to_0.5_successes"] for row in rows] == ["200", "", "100"]
    assert [row["mean_successes"] for row in rows] == ["0.4", "0.0", "0.725"]


def test_several_tasks_are_put_on_one_scale(cli: Cli, tmp_path: Path) -> None:
    for task, scale in (("WallMaze", 1.0), ("Probe", 100.0)):
        for agents in (1, 2):
            for seed in range(3):
                make_run(tmp_path / "runs" / f"{task}{agents}{seed}", [scale * (agents + seed)], seed,
                         agents=agents, task=task)  # fmt: skip
    outcome = cli("report", "runs")
    assert outcome.out.startswith("12 run(s) of 2 method(s): ")
    page = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    assert "12 runs, 2 methods on 2 tasks" in page
    assert page.count("<figcaption>Performance profile") == 3  # of each task, and of both
    # of 1 2 3 and 2 3 4 on the scale from 1 to 4, twice: the middle four of 0 0 1/3 1/3 2/3 2/3
    content = json.loads((tmp_path / "report" / "report.json").read_text())
    one, two = content["overall"]
    assert (one["method"], two["method"]) == ("ppo (1 agent)", "sapg, 2 agents")
    assert one["normalized_interquartile_mean"]["value"] == pytest.approx(1 / 3)
    assert two["normalized_interquartile_mean"]["value"] == pytest.approx(2 / 3)
    assert "<td>ppo (1 agent)</td><td>0.3333</td>" in page
    profile = two["normalized_performance_profile"]
    assert set(profile) == {"scores", "shares", "low", "high"}
    assert (profile["scores"][0], profile["shares"][0], profile["shares"][-1]) == (0.0, 1.0, 0.0)
    assert all(len(values) == 101 for values in profile.values())


def test_other_metrics_are_drawn_when_they_are_named(cli: Cli, tmp_path: Path) -> None:
    metrics = f"{HEADER.strip()},env/lifted\r\n100,50,0.5,1.0,0.125\r\n200,50,1.0,1.0,0.25\r\n300,50,1.0,2.0,0.75\r\n"
    make_run(tmp_path / "runs" / "a", metrics=metrics)
    make_run(tmp_path / "runs" / "b", agents=2)  # does not have it
    assert cli("report", "runs", "--metric", "env/lifted", "--metric", "charts/sps").code == 0
    page = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    assert page.count("<figcaption>env/lifted over env steps") == 1
    assert "Without a value in env/lifted: 1 of 1 runs of sapg, 2 agents." in page
    assert "Without a value in charts/sps" not in page
    with (tmp_path / "report" / "report.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["metric"] == "env/lifted"]
    assert [(row["run"], row["env_steps"], row["value"]) for row in rows] == [
        ("runs/a", "200", "0.25"), ("runs/a", "300", "0.75"),
    ]  # fmt: skip


def test_of_many_methods_the_columns_of_the_matrix_have_numbers(cli: Cli, tmp_path: Path) -> None:
    for agents in range(2, 8):
        make_run(tmp_path / "runs" / str(agents), agents=agents)
    cli("report", "runs")
    page = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    assert "<th></th><th>1</th><th>2</th><th>3</th><th>4</th><th>5</th><th>6</th>" in page
    assert "<td>6 sapg, 7 agents</td>" in page


def test_names_are_text_and_not_markup(cli: Cli, tmp_path: Path) -> None:
    make_run(tmp_path / "runs" / "<i>a&b", algorithm="mine.<b>Bold</b>")
    cli("report", "runs")
    page = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    assert "<i>" not in page
    assert "&lt;i&gt;a&amp;b" in page
    assert "&lt;b&gt;Bold" in page


def test_a_run_that_cannot_be_used_is_a_notice_and_stands_on_the_page(cli: Cli, tmp_path: Path) -> None:
    make_study(tmp_path / "runs")
    make_run(tmp_path / "runs" / "young", metrics=table([1.0], [0.5]))
    outcome = cli("report", "runs")
    assert outcome.code == 0
    (line,) = outcome.err.splitlines()
    assert line.startswith("notice: left out: runs/young/metrics.csv: charts/episodic_coverage has not reached 1")
    assert "runs/young/metrics.csv" in (tmp_path / "report" / "report.html").read_text(encoding="utf-8")


def test_a_method_of_a_study_without_a_run_is_a_notice_and_stands_on_the_page(cli: Cli, tmp_path: Path) -> None:
    make_run(tmp_path / "runs" / "epo" / "seed0", agents=4)
    for method in ("epo", "ppo"):
        (tmp_path / "runs" / method).mkdir(exist_ok=True)
        (tmp_path / "runs" / method / "study.json").write_text(as_text(StudyNames("", method)))
    outcome = cli("report", "runs")
    assert (outcome.code, outcome.err) == (0, "notice: left out: runs/ppo: no run of this method has begun\n")
    page = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    assert "<li>runs/ppo: no run of this method has begun</li>" in page


def test_numbers_beside_an_axis_are_short(cli: Cli, tmp_path: Path) -> None:
    make_run(tmp_path / "runs" / "a", [-1208.0, -1216.0])
    make_run(tmp_path / "runs" / "b", [-1210.0, -1211.0], seed=1)
    cli("report", "runs")
    page = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    told = re.findall(r'text-anchor="end">([^<]*)</text>', page)
    assert "-1210" in told
    assert max(map(len, told)) <= 6


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ([], "name run folders"),
        (["nowhere"], "nowhere is not a folder"),
        (["."], "there is no run"),
        (["empty"], "no run can be used: empty/a/metrics.csv: empty (and 1 more)"),
        (["empty", "--nonsense"], "--nonsense means nothing here"),
        (["good", "--metric", "charts/sp"], "--metric charts/sp: no run has it (did you mean charts/sps?)"),
        (["good", "--out", "tiny.yaml"], "tiny.yaml cannot be written: File exists"),
    ],
)
def test_a_mistake_is_one_line(cli: Cli, tmp_path: Path, args: list[str], words: str) -> None:
    if "." not in args:
        make_run(tmp_path / "good" / "a")
        make_run(tmp_path / "empty" / "a", metrics="")
        make_run(tmp_path / "empty" / "b", metrics="")
    outcome = cli("report", *args)
    assert outcome.code == 2
    assert words in outcome.err.splitlines()[-1]
    assert outcome.err.splitlines()[-1].startswith("error: ")
    assert not (tmp_path / "report").exists()


def test_without_matplotlib_the_rest_is_there(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    make_study(tmp_path / "runs")
    outcome = cli("report", "runs")
    assert outcome.code == 0
    assert outcome.err == "notice: report/report.png needs matplotlib: pip install 'epo-lightning[report]'\n"
    assert outcome.out == "6 run(s) of 2 method(s): report/report.html, .csv and .json\n"


def test_whatever_lies_in_run_folders_a_page_comes_of_it(cli: Cli, tmp_path: Path) -> None:
    runs, more = (
        tmp_path / "all my runs",
        "charts/env_steps,charts/episodic_return,agents/return/0,agents/kl_to_master/1",
    )
    make_run(runs / "one iteration", [1.0])
    make_run(runs / "sac", [3.0, 4.0], algorithm="sac")
    make_run(runs / "half", agents=3, metrics=f"{more}\r\n100,1,nan,0\r\n200,2,inf,-1\r\n300,3,,x\r\n400,4")
    gone = make_run(runs / "folders", agents=4, evolves=True)
    for name in ("genes.npy", "lineage.jsonl"):
        (gone / name).mkdir()
    for number, genes in enumerate((np.full((5, 9, 2), np.nan), np.zeros((1, 2, 1)), np.full((3, 6, 4), np.inf))):
        evolved = make_run(runs / f"genes {number}", seed=number, agents=3, evolves=True, lineage=GENERATIONS)
        np.save(evolved / "genes.npy", genes)
    make_run(runs / "huge", agents=5, metrics=table([1e308, -1e308]))
    (make_run(runs / "binary") / "metrics.csv").write_bytes(b"\xff\x00" * 50)
    outcome = cli("report", str(runs))
    assert outcome.code == 0, outcome.err
    assert [line.split(":")[2].rsplit("/", 2)[1] for line in outcome.err.splitlines()] == ["binary", "huge"]
    page = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"\b(nan|inf|None)\b", page)
    for path in sorted(runs.iterdir()):  # each one alone, too
        code = cli("report", str(path), "--out", "alone").code
        assert code == (2 if path.name in ("binary", "huge") else 0), path


def test_a_report_says_whose_numbers_it_shows(cli: Cli, tmp_path: Path) -> None:
    evaluate(make_run(tmp_path / "runs" / "a"), 123.25, difficulty={"tolerance": 0.0125, "words": "none"})
    cli("report", "runs")
    page = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    assert (
        "from every run&#x27;s checkpoints/last.test.json (the command test; 64 episodes a run, tolerance 0.0125)"
        in page
    )
    assert "<td>123.2</td>" in page


def test_what_a_training_and_its_test_leave_is_what_a_report_reads(cli: Cli, tmp_path: Path) -> None:
    evolution = "{class_path: epo_lightning.callbacks.GeneticEvolution, init_args: {every_n_env_steps: 64, "
    evolution += "warmup_env_steps: 0, num_elites: 1, spread_threshold: 0}}"
    for seed in (0, 1):
        flags = [f"--seed_everything={seed}", "--trainer.max_epochs=6", f"--trainer.callbacks=[{evolution}]"]
        assert cli("fit", "--config", "tiny.yaml", f"--run_dir=runs/{seed}", *flags).code == 0
        assert cli("test", f"--ckpt_path=runs/{seed}").code == 0
    outcome = cli("report", "runs")
    assert (outcome.code, outcome.err) == (0, "")
    (task,) = json.loads((tmp_path / "report" / "report.json").read_text())["tasks"]
    assert (task["task"], task["source"]) == ("Probe", "last.test.json")
    (method,) = task["methods"]
    assert (method["method"], [run["seed"] for run in method["runs"]]) == ("epo, 4 agents", [0, 1])
    told = [json.loads((tmp_path / f"runs/{s}/checkpoints/last.test.json").read_text()) for s in (0, 1)]
    assert [run["return"] for run in method["runs"]] == [one["return"]["mean"] for one in told]
    page = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    panels = ["Master and best agent", "Spread of the followers", "Weight of the followers", "Fitness by agent, seed 0"]
    assert all(f"<figcaption>{panel}" in page for panel in [*panels, "Parents and children, seed 0"])


def test_a_report_loads_neither_torch_nor_lightning(tmp_path: Path) -> None:
    make_study(tmp_path / "runs")
    code = (
        "import sys; from epo_lightning.cli.entry import main; main(['report', 'runs'])\n"
        "print([name for name in ('torch', 'lightning', 'jsonargparse', 'mujoco') if name in sys.modules])"
    )
    root = str(Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {root!r})\n{code}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_hundred_runs_of_a_thousand_iterations_fit_into_memory(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plot, "draw", lambda *_: False)
    other = ",".join(f"env/{number}" for number in range(30))
    numbers = ",".join(["0.123456789"] * 30)
    rows = "".join(f"{100 * (i + 1)},50,1.0,{i % 7}.5,{numbers}\r\n" for i in range(1000))
    metrics = f"{HEADER.strip()},{other}\r\n{rows}"
    for number in range(100):
        make_run(tmp_path / "runs" / f"{number}", seed=number // 5, entropy=number % 5, metrics=metrics)
    tracemalloc.start()
    try:
        assert cli("report", "runs").code == 0
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2**28
    assert (tmp_path / "report" / "report.html").stat().st_size < 3_000_000
