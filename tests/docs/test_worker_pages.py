"""The page on simulators in another Python: its factory runs, keeps the contract, and its YAML names what exists."""

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from epo_lightning.envs.check import check_env
from epo_lightning.envs.worker import WorkerEnv

ROOT = Path(__file__).parents[2]


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", (ROOT / "docs" / page).read_text(), re.DOTALL | re.MULTILINE)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (code,) = blocks("worker.md", "python")
    (tmp_path / "my_sim.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_command_of_the_page_works(folder: Path) -> None:
    (command,) = blocks("worker.md", "bash")
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
    environ = {**os.environ, "PATH": path}
    done = subprocess.run(["bash", "-c", command], cwd=folder, env=environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == ("epo_lightning.envs.worker.WorkerEnv keeps the contract: 8 environments, 100 steps")


@pytest.mark.usefixtures("folder")
def test_the_yaml_of_the_page_makes_it() -> None:
    (text,) = blocks("worker.md", "yaml")
    env = yaml.safe_load(text)["data"]["env"]
    module, _, name = env["class_path"].rpartition(".")
    assert getattr(importlib.import_module(module), name) is WorkerEnv
    made = WorkerEnv(4, torch.device("cpu"), 0, **{**env["init_args"], "python": sys.executable})
    assert made.spec.restores
    check_env(made, steps=220)  # beyond the time limit
    made.close()


def test_the_page_on_isaac_gym_shows_the_packaged_configuration() -> None:
    (text,) = blocks("isaac_gym.md", "yaml")
    packaged = yaml.safe_load((ROOT / "epo_lightning" / "configs" / "two_arm_isaacgym.yaml").read_text())
    assert yaml.safe_load(text) == packaged
