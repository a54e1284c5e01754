"""What Windows and macOS get: all of it imports and trains, and what needs more says so in one line.

There is neither of them here: a process of Linux loses what they lack of the standard library.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.command_line import TINY

ROOT = Path(__file__).parents[2]
PROGRAM = """
import sys
from tests.support.other_system import become, import_everything

become(sys.argv[1])
print("cannot be imported:", import_everything())

import torch
from epo_lightning.cli.entry import main
from epo_lightning.envs.allegro_kuka import AllegroKuka

for words in sys.argv[2:]:
    print("$", words)
    print("ends with", main(words.split()))
robot = AllegroKuka(1, torch.device("cpu"), 0, threads=1)
robot.reset()
print("reward of the robot:", float(robot.step(torch.zeros(1, robot.spec.act_dim)).reward))
"""
COMMANDS = (
    "fit --config tiny.yaml --config evolving.yaml --run_dir run",
    "fit --ckpt_path run --trainer.max_epochs 4",
    "validate --ckpt_path run",
    "report run",
    "doctor",
    "fit --config tiny.yaml --config worker.yaml --run_dir far",
)
EVOLVING = """
trainer:
  callbacks:
    - class_path: epo_lightning.callbacks.GeneticEvolution
      init_args: {every_n_env_steps: 64, warmup_env_steps: 0, num_elites: 2}
    - class_path: epo_lightning.callbacks.NetworkScaleProfiler
      init_args: {start_iteration: 0, num_iterations: 1}
"""
WORKER = """
data:
  env:
    class_path: epo_lightning.envs.worker.WorkerEnv
    init_args: {python: PYTHON, factory: "my_sim.py:make"}
"""


@pytest.fixture(scope="module", params=["win32", "darwin"])
def system(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path, str]:
    """The system, the folder, and what the commands said there."""
    folder = tmp_path_factory.mktemp(request.param)
    (code,) = re.findall(r"^```python\n(.*?)^```$", (ROOT / "docs/worker.md").read_text(), re.DOTALL | re.MULTILINE)
    (folder / "my_sim.py").write_text(code)
    (folder / "tiny.yaml").write_text(TINY)
    (folder / "evolving.yaml").write_text(EVOLVING)
    (folder / "worker.yaml").write_text(WORKER.replace("PYTHON", sys.executable))
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", PROGRAM, request.param, *COMMANDS]
    result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return request.param, folder, result.stdout + result.stderr


def said(output: str, command: str) -> str:
    """What a command said, and how it ended."""
    return output.partition(f"$ {command}\n")[2].partition("\n$ ")[0]


def test_every_module_can_be_imported(system: tuple[str, Path, str]) -> None:
    assert "cannot be imported: []" in system[2]


def test_trainings_begin_go_on_and_are_evaluated(system: tuple[str, Path, str]) -> None:
    _, folder, output = system
    assert [said(output, command).count("ends with 0") for command in COMMANDS[:4]] == [1, 1, 1, 1]
    assert "iteration 4/4" in said(output, COMMANDS[1])
    assert len((folder / "run" / "metrics.csv").read_text().splitlines()) == 5
    # `.lock` of Windows, and parts of files, are gone
    assert not [path for path in (folder / "run").rglob(".*")]
    assert (folder / "report" / "report.html").is_file()
    assert "reward of the robot:" in output


def test_the_signature_of_a_run_needs_no_owner(system: tuple[str, Path, str]) -> None:
    # of somebody else's checkpoint the second training would have told
    assert "signature" not in system[2]
    assert "trust" not in system[2]


def test_doctor_says_that_the_system_was_never_tried(system: tuple[str, Path, str]) -> None:
    name, _, output = system
    assert "ends with 0" in said(output, "doctor")
    assert f"on {name}, where it has never been tried" in said(output, "doctor")


def test_workers_run_on_macos_and_are_one_line_on_windows(system: tuple[str, Path, str]) -> None:
    name, _, output = system
    if name == "darwin":
        assert "ends with 0" in said(output, COMMANDS[-1])
    else:
        assert "ends with 2" in said(output, COMMANDS[-1])
        assert output.count("error: data.env.class_path: WorkerEnv needs Linux") == 1


def test_macos_trains_on_the_processor_unless_told_otherwise(system: tuple[str, Path, str]) -> None:
    name, folder, _ = system
    kept = (folder / "far" / "config.yaml") if name == "darwin" else folder / "run" / "config.yaml"
    assert "accelerator: cpu" in kept.read_text()
