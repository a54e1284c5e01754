"""The agent of Weights & Biases: its own expansion of `configs/sweep.yaml` is a command that trains, and logs both."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
import yaml
from wandb.wandb_agent import Agent

from epo_lightning.cli.arguments import OF_WANDB
from tests.support.logged import wandb_offline

ROOT = Path(__file__).parents[2]
SWEEP = yaml.safe_load(OF_WANDB.read_text())
GIVEN = {"model.loss.entropy_scale": 0.4, "model.optimizer.learning_rate": 0.00025, "seed_everything": 2}


def expanded(monkeypatch: pytest.MonkeyPatch) -> tuple[list[str], dict[str, str]]:
    """The command that the agent starts for one point of the sweep, and its environment."""
    started: dict[str, Any] = {}
    monkeypatch.setattr("wandb.wandb_agent.AgentProcess", lambda **given: started.update(given) or SimpleNamespace())
    agent: Any = Agent(None, None, sweep_id="abc123")
    agent._sweep_command = SWEEP["command"]
    args = {key: {"value": value} for key, value in GIVEN.items()}
    agent._command_run({"run_id": "run1", "program": SWEEP["program"], "args": args})
    return started["command"], started["env"]


class Run(NamedTuple):
    """A run of the sweep: what the agent started, the run's configuration, and what W&B has of it."""

    command: list[str]
    config: dict[str, Any]
    id: str
    told: dict[str, Any]
    history: list[dict[str, Any]]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """As the agent starts it, and shorter."""
    folder = tmp_path_factory.mktemp("agent")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name, value in {"WANDB_MODE": "offline", "WANDB_SWEEP_ID": "abc123", "WANDB_RUN_ID": ""}.items():
            patch.setenv(name, value)
        command, environment = expanded(patch)
    (folder / "bin").mkdir()
    (folder / "bin" / "python").symlink_to(sys.executable)  # the agent's python is the first of the path
    site = next(path for path in sys.path if path.endswith("site-packages"))
    environment |= {
        "PATH": f"{folder / 'bin'}{os.pathsep}{environment['PATH']}",
        "PYTHONPATH": os.pathsep.join([str(ROOT), site]),
        "OMP_NUM_THREADS": "1",
    }
    shorter = [*command, "--trainer.max_epochs=2", "--data.num_envs=64", "--trainer.accelerator=cpu"]
    shorter += ["--data.env.init_args.max_steps=8"]  # episodes end within the first iteration
    done = subprocess.run(shorter, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    (config,) = folder.glob("runs/*/*/config.yaml")
    (written,) = folder.rglob("*.wandb")
    return Run(command, yaml.safe_load(config.read_text()), *wandb_offline(written))


def test_the_agent_starts_fit_with_a_flag_for_each_parameter(run: Run) -> None:
    assert run.command == [
        "/usr/bin/env", "python", "-m", "epo_lightning", "fit", "--config", "wall_maze",
        "--trainer.logger=lightning.pytorch.loggers.WandbLogger", "--model.loss.entropy_scale=0.4",
        "--model.optimizer.learning_rate=0.00025", "--seed_everything=2",
    ]  # fmt: skip
    assert {*SWEEP["parameters"]} == {*GIVEN}


def test_the_run_is_that_of_the_agent_with_its_settings(run: Run) -> None:
    assert run.id == "run1"
    assert run.config["seed_everything"] == 2
    assert run.config["model"]["loss"]["entropy_scale"] == 0.4
    assert run.config["model"]["optimizer"]["learning_rate"] == 0.00025


def test_the_offline_run_has_the_metrics(run: Run) -> None:
    metric = SWEEP["metric"]["name"]
    assert [row[metric] for row in run.history if metric in row] == [0, 0]  # nobody succeeds in two iterations
    assert {"charts/episodic_return", "charts/sps"} <= {key for row in run.history for key in row}


def test_the_offline_run_has_the_configuration(run: Run) -> None:
    assert run.told["model"]["loss"]["entropy_scale"] == 0.4
    assert run.told["model"]["network"]["hidden"] == [64, 64]  # also what no flag has said
    assert run.told["data"]["num_envs"] == 64
    assert {key: run.told[key] for key in GIVEN} == GIVEN  # the agent's own
