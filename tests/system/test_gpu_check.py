"""`make gpu` at toy sizes on Warp's CPU device, and that no stage that fails or hangs costs another one."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.gpu_check import learner
from benchmarks.gpu_check.__main__ import STAGES
from benchmarks.gpu_check.sizes import FULL
from benchmarks.gpu_check.stage import ROOT, Report, run_stage
from epo_lightning.modules.epo import EPOModule

Run = Callable[[str, float], dict[str, Any]]


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_check_runs_to_its_end(tmp_path: Path) -> None:
    pytest.importorskip("mujoco_warp")
    command = [sys.executable, "-m", "benchmarks.gpu_check", "--device", "cpu", "--toy", "--minutes", "55"]
    ended = subprocess.run([*command, "--out", str(tmp_path)], capture_output=True, text=True, cwd=ROOT, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    check = json.loads((tmp_path / "gpu_check.json").read_text())
    stages = check["stages"]
    assert {name: found["status"] for name, found in stages.items()} == dict.fromkeys(STAGES, "ok")
    assert [row["task"] for row in stages["parity"]["tasks"]] == ["single_arm_regrasp"]
    assert [(row["engine"], row["worlds"]) for row in stages["physics"]["speeds"]] == [
        ("mujoco", 8), ("warp", 4), ("warp", 8)
    ]  # fmt: skip
    assert stages["training"]["iterations"] == 2
    assert stages["resume"]["iterations"] == 3
    assert stages["resume"]["env_steps"] == 3 * 16 * 4
    assert len(stages["learner"]["times"]) == 2
    assert [(row["run"], row["iterations"]) for row in stages["algorithms"]["runs"]] == [("epo", 5)]
    table = (tmp_path / "gpu_check.md").read_text()
    assert table.startswith("# Warp's CPU device\n")
    for words in (
        "At toy sizes",
        "| parity | ok |",
        "| single_arm_regrasp | warp | 8 |",
        "| framework |",
        "| eager |",
    ):
        assert words in table


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_without_a_card_it_says_so_and_tries_nothing_else(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.gpu_check", "--out", str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert ended.returncode == 1
    stages = json.loads((tmp_path / "gpu_check.json").read_text())["stages"]
    assert stages.pop("driver")["faults"] == [
        "ended with 1: no card that torch can use; --device cpu --toy shows that the check itself runs"
    ]
    assert {found["status"] for found in stages.values()} == {"skipped"}
    assert "| parity | skipped | 0 | no card to run it on |" in ended.stdout


def test_on_a_card_the_learner_is_timed_as_fit_would_run_it() -> None:
    ways = learner.ways(FULL, torch.device("cuda"))
    assert ways == {"eager": {"cuda_graphs": False}, "CUDA graph": {}, "compiled": {"compile": "always"}}
    for settings in ways.values():
        EPOModule(4, **settings)


def test_what_could_not_be_compiled_is_no_time_of_compiled_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda *_, **__: _refuse)
    with pytest.raises(RuntimeError, match="it could not be compiled"), pytest.warns(UserWarning, match="refused"):
        learner.milliseconds((16, 4, (8,), 0), {"compile": "always"}, torch.device("cpu"), 1)


def _refuse(*_: Any, **__: Any) -> None:
    raise RuntimeError("refused")


class TestStages:
    @pytest.fixture
    def run(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
        """Runs a script in the place of a stage."""

        def run(script: str, seconds: float) -> dict[str, Any]:
            file = tmp_path / "python"
            file.write_text(f"#!/bin/sh\n{script}\n")
            file.chmod(0o755)
            monkeypatch.setattr(sys, "executable", str(file))
            return run_stage("driver", [], tmp_path, seconds)

        return run

    def test_one_that_hangs_is_ended_with_its_children_and_keeps_what_it_found(self, run: Run, tmp_path: Path) -> None:
        Report(tmp_path / "kept.json").row("speeds", worlds=4)
        found = run(f"cp {tmp_path}/kept.json {tmp_path}/driver.json; sleep 77.125 & sleep 77.125", 1)
        assert (found["status"], found["speeds"], found["faults"]) == (
            "out of time",
            [{"worlds": 4}],
            ["not done after 1 s"],
        )
        time.sleep(0.2)
        assert "77.125" not in subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout

    def test_one_that_dies_says_its_last_line(self, run: Run) -> None:
        found = run("echo first; echo CUDA error: out of memory >&2; exit 3", 60)
        assert found["status"] == "failed"
        assert found["faults"] == ["ended with 3: CUDA error: out of memory"]
        assert found["output"] == ["first", "CUDA error: out of memory"]

    def test_a_fault_is_a_failure_and_the_rest_goes_on(self, tmp_path: Path) -> None:
        report = Report(tmp_path / "x.json")
        report.fault("wrong")
        report.row("rows", number=1)
        assert json.loads((tmp_path / "x.json").read_text()) == {"faults": ["wrong"], "rows": [{"number": 1}]}
