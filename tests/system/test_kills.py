"""kill -9 before every single file operation of a run loses nothing: the same command ends in the same files."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def kill_everywhere(folder: Path, case: str) -> dict[str, Any]:
    """What `killed_runs` tells of a case: nothing must differ from the run that nobody killed."""
    command = [sys.executable, "-m", "tests.support.killed_runs", str(folder), case]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=550, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert told["faults"] == {}
    return told


def test_a_replay_outlives_kills(tmp_path: Path) -> None:
    """At every fourth operation: files are written as those of any other algorithm, only their contents are others."""
    told = kill_everywhere(tmp_path, "replay")
    assert told["replay"] == {"rows": 12}, "three iterations of four steps are remembered"
    assert told["scenarios"] >= 5
    assert told["best"] == 3


def test_networks_and_hyper_parameters_of_a_population_outlive_kills(tmp_path: Path) -> None:
    """At every fifth operation."""
    told = kill_everywhere(tmp_path, "population")
    assert told["generations"] >= 1
    assert told["scenarios"] >= 5


def test_a_distribution_outlives_kills(tmp_path: Path) -> None:
    """At every eighth operation, as above: another callback than the genetic algorithm's logs its generations."""
    told = kill_everywhere(tmp_path, "cem_rl")
    assert told["replay"] == {"rows": 12, "waiting": 0}, "three generations of four steps are remembered"
    assert told["generations"] == 3
    assert told["scenarios"] >= 4
    assert told["best"] == 3


def test_steps_that_wait_for_their_return_outlive_kills(tmp_path: Path) -> None:
    """Parallel Q-Learning, at every eighth operation."""
    told = kill_everywhere(tmp_path, "waiting")
    assert told["replay"] == {"rows": 10, "waiting": 2}, "the last two of twelve steps wait for the third"
    assert told["scenarios"] >= 3
    assert told["best"] == 3


def test_a_run_killed_before_any_of_its_file_operations_ends_as_if_it_had_not_been(tmp_path: Path) -> None:
    told = kill_everywhere(tmp_path, "evolution")
    assert told["best"] == 3, "the best checkpoint must be written twice"
    assert told["generations"] >= 1
    assert told["operations"] >= 25
    assert told["scenarios"] > told["operations"]
    assert {f"checkpoints/{name}.ckpt" for name in ("last", "best", "best_master")} <= set(told["files"])
    assert {"config.yaml", "lineage.jsonl", "metrics.csv"} <= set(told["files"])
    assert not [name for name in told["files"] if name.endswith(".part")]
