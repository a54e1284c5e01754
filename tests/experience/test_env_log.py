"""The mean of what an environment reports is over the steps in which it does."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from epo_lightning.envs.base import StepResult
from epo_lightning.envs.check import check_env
from epo_lightning.envs.classic import Probe
from epo_lightning.experience.env_log import EnvLog
from tests.support.command_line import Cli, Rows

CPU = torch.device("cpu")


def mean_of(*steps: dict[str, Any]) -> dict[str, float]:
    log = EnvLog(CPU)
    for step in steps:
        log.add(step)
    return {name: value.item() for name, value in log.means().items()}


def test_ten_in_two_of_ten_steps_is_ten() -> None:
    nothing: dict[str, Any] = {}
    told = {"x": torch.tensor(10.0)}
    assert mean_of(*[nothing] * 4, told, *[nothing] * 4, told) == {"x": 10.0}


def test_every_name_has_its_own_steps() -> None:
    steps = {"a": 1.0}, {"a": 3.0, "b": torch.tensor([4.0, 6.0])}, {"b": torch.tensor([7.0, 9.0]), "c": True}
    assert mean_of(*steps) == {"a": 2.0, "b": 6.5, "c": 1.0}


@pytest.mark.parametrize(
    ("value", "mean"),
    [
        (torch.tensor([True, False, False, True]), 0.5),
        (torch.tensor(True), 1.0),
        (torch.tensor([1, 2, 3, 4]), 2.5),
        (torch.tensor([1, 2], dtype=torch.uint8), 1.5),
        (torch.tensor([0.5, 1.0], dtype=torch.float64), 0.75),
        (torch.tensor([0.5, 1.0], dtype=torch.float16), 0.75),
        (3, 3.0),
        (0.25, 0.25),
        (False, 0.0),
        (np.float32(1.5), 1.5),
        (np.int64(2), 2.0),
        (np.bool_(True), 1.0),
    ],
    ids=repr,
)
def test_every_kind_of_number(value: float | Tensor, mean: float) -> None:
    assert mean_of({"x": value}) == {"x": mean}
    assert mean_of({"x": value}, {"x": torch.tensor(1.0)}) == {"x": (mean + 1.0) / 2}


def test_nan_is_no_report() -> None:
    means = mean_of({"x": math.nan, "y": torch.tensor([1.0, math.nan])}, {"x": 4.0, "y": math.nan})
    assert means["x"] == 4.0
    assert math.isnan(means["y"])


def test_the_environment_may_overwrite_its_tensor() -> None:
    log, mine = EnvLog(CPU), torch.tensor(1.0)
    log.add({"x": mine})
    mine.fill_(9.0)
    assert log.means()["x"].item() == 1.0


def test_nothing_reported() -> None:
    assert mean_of({}, {}) == {}


class Reports(Probe):
    """Tells something of every kind, each in steps of its own."""

    clock = 0

    def step(self, actions: torch.Tensor) -> StepResult:
        result, self.clock = super().step(actions), self.clock + 1
        log: dict[str, Any] = {"number": 3, "numpy": np.float64(0.5), "flags": result.truncated | True}
        if self.clock % 2:
            log |= {"seldom": torch.tensor(10.0), "count": torch.full_like(result.reward, 7).long()}
        log["odd"] = float("nan") if self.clock % 2 else 1.0
        return result._replace(log=log)


def test_training_and_checker_take_the_same(cli: Cli, rows: Rows) -> None:
    check_env(Reports(4, CPU, 0, max_steps=3))
    args = ("--data.env", f"{__name__}.Reports", "--data.env.init_args.max_steps=3", "--run_dir", "run")
    assert cli("fit", "--config", "tiny.yaml", *args).code == 0
    for row in rows(Path("run")):
        found = {name: float(row[f"env/{name}"]) for name in ("number", "numpy", "flags", "seldom", "count", "odd")}
        assert found == {"number": 3.0, "numpy": 0.5, "flags": 1.0, "seldom": 10.0, "count": 7.0, "odd": 1.0}


class ReportsOnce(Probe):
    """Tells something in its very first step only."""

    clock = 0

    def step(self, actions: torch.Tensor) -> StepResult:
        result, self.clock = super().step(actions), self.clock + 1
        return result._replace(log={"once": 5.0} if self.clock == 1 else {})


def test_what_was_not_reported_in_an_iteration_is_not_in_its_row(cli: Cli, rows: Rows) -> None:
    args = ("--data.env", f"{__name__}.ReportsOnce", "--data.env.init_args.max_steps=3", "--run_dir", "run")
    assert cli("fit", "--config", "tiny.yaml", *args).code == 0
    assert [row["env/once"] for row in rows(Path("run"))] == ["5", ""]
