"""`metrics.csv`: one row per iteration, in the order in which it is read, exact where a run goes on."""

import csv
from pathlib import Path

import pytest
import torch

from epo_lightning.run.columns import FIRST, place, told
from epo_lightning.run.metrics_table import MetricsTable


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def table() -> MetricsTable:
    return MetricsTable(Path("metrics.csv"), clock=lambda: "12:00")


def lines() -> list[dict[str, str]]:
    """The filled cells of each row."""
    with Path("metrics.csv").open(newline="") as file:
        return [{name: value for name, value in row.items() if value} for row in csv.DictReader(file)]


def test_metrics_gain_columns_and_lose_the_rows_after_a_checkpoint() -> None:
    first = table()
    first.log_metrics({"charts/iteration": 1, "a": 1.0}, step=10)
    first.log_metrics({"charts/iteration": 2, "a": 0.1 + 0.2, "b": 5.0}, step=20)
    first.log_metrics({"charts/iteration": 3, "b": 6.0}, step=30)
    text = ",".join([*FIRST, "a", "b"]) + "\r\n10,1,,,,,,12:00,,1,\r\n20,2,,,,,,12:00,,0.3,5\r\n30,3,,,,,,12:00,,,6\r\n"
    assert Path("metrics.csv").read_bytes().decode() == text
    with Path("metrics.csv").open("a") as file:
        file.write("40,4,1.")  # killed while writing
    again = table()
    again.rewind(30)
    assert Path("metrics.csv").read_bytes().decode() == text
    again.rewind(20)
    again.log_metrics({"charts/iteration": 3, "a": 3.0, "b": 7.0}, step=30)
    assert Path("metrics.csv").read_text().splitlines()[2:] == ["20,2,,,,,,12:00,,0.3,5", "30,3,,,,,,12:00,,3,7"]
    assert [row["a"] for row in again.rows()] == ["1", "0.3", "3"]


def test_what_others_log_stands_in_the_row_of_the_iteration_that_ends_next() -> None:
    mine = table()
    mine.log_metrics({"lr": 0.5}, step=0)
    assert not Path("metrics.csv").exists()
    mine.log_metrics({"lr": 0.25, "memory": torch.tensor(3.0)}, step=10)
    mine.log_metrics({"charts/iteration": 1}, step=10)
    mine.log_metrics({"lr": 0.125}, step=10)
    mine.log_metrics({"charts/iteration": 2}, step=20)
    same = {"time/utc": "12:00"}
    assert lines() == [
        {"charts/env_steps": "10", "charts/iteration": "1", "lr": "0.25", "memory": "3", **same},
        {"charts/env_steps": "20", "charts/iteration": "2", "lr": "0.125", **same},
    ]


@pytest.mark.parametrize(("status", "final"), [("success", "7"), ("failed", None)])
def test_what_is_logged_at_the_end_of_a_training_belongs_to_its_last_row(status: str, final: str | None) -> None:
    mine = table()
    mine.log_metrics({"charts/iteration": 1}, step=10)
    mine.log_metrics({"score": 7}, step=10)
    mine.finalize(status)
    assert [row.get("score") for row in lines()] == [final]
    assert [row["charts/env_steps"] for row in table().rows()] == ["10"]


def test_columns_stand_as_they_are_read() -> None:
    names = ["agents/kl_to_master/0", "agents/return/10", "agents/return/2", "agents/ess/1", "agents/successes/0",
             "hyper_parameters/clip/0", "lr-Adam", "DeviceStatsMonitor.x/y", "time/env", "env/tolerance",
             "losses/total", "losses/entropy", "population/gene_spread", "charts/learning_rate", "charts/sps",
             "time/utc", "time/elapsed", "charts/episodic_successes", "charts/episodic_return", "charts/iteration",
             "charts/env_steps"]  # fmt: skip
    assert sorted(names, key=place) == [
        "charts/env_steps", "charts/iteration", "charts/episodic_return", "charts/episodic_successes", "time/elapsed",
        "time/utc", "charts/sps", "charts/learning_rate", "population/gene_spread", "losses/entropy", "losses/total",
        "env/tolerance", "time/env", "DeviceStatsMonitor.x/y", "lr-Adam", "hyper_parameters/clip/0",
        "agents/return/2", "agents/return/10", "agents/successes/0", "agents/ess/1", "agents/kl_to_master/0",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (3, "3"), (3.0, "3"), (10_000_000_000, "10000000000"), (1e10, "10000000000"), (True, "True"), ("x", "x"),
        (1 / 3, "0.333333"), (-12.3456789, "-12.3457"), (0.0003, "0.0003"), (1.23456789e-7, "1.23457e-07"),
        (39839.9775, "39840"), (0.9999999, "0.9999999"), (1e300, "1e+300"), (float("inf"), "inf"), (None, ""),
    ],
)  # fmt: skip
def test_numbers_have_six_digits_and_whole_ones_are_whole(value: object, text: str) -> None:
    assert told(value) == text
