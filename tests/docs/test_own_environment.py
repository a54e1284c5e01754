"""The page on own environments: its code runs, keeps the contract and is found by the command line."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "own_environment.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE.read_text(), flags=re.DOTALL | re.MULTILINE)


def run(folder: Path, command: str) -> "subprocess.CompletedProcess[str]":
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
    environ = {**os.environ, "PATH": path}
    done = subprocess.run(["bash", "-c", command], cwd=folder, env=environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "my_pkg.py").write_text(blocks("python")[0])
    return tmp_path


def test_the_classes_of_the_page_keep_the_contract() -> None:
    scope: dict[str, object] = {"__name__": "my_pkg"}
    for code in blocks("python"):  # the last block calls check_env
        exec(code, scope)
    assert "check_env" in scope


def test_the_command_of_the_page_works(folder: Path) -> None:
    done = run(folder, blocks("bash")[0])
    assert done.stdout.strip() == "my_pkg.MyEnv keeps the contract: 8 environments, 100 steps"


def test_what_the_page_says_trains_by_epo(folder: Path) -> None:
    """Until after the first generation."""
    (configuration,) = blocks("yaml")
    (folder / "my_run.yaml").write_text(configuration)
    done = run(folder, f"{blocks('bash')[1].strip()} --trainer.max_epochs 40 --trainer.accelerator cpu")
    assert done.stdout.startswith("EPO: 16 agents, evolved by GeneticEvolution\n")
    (generation,) = (folder / "runs/mine/lineage.jsonl").read_text().splitlines()
    assert len(json.loads(generation)["children"]) == 11


def test_the_yaml_of_the_page_names_options_that_exist(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(folder))
    (text,) = blocks("yaml")
    env = yaml.safe_load(text)["data"]["env"]
    module, _, name = env["class_path"].rpartition(".")
    made = getattr(__import__(module), name)(4, torch.device("cpu"), 0, **env["init_args"])
    assert made.spec.max_episode_steps == 300
    made.reset()
    assert made.step(torch.ones(4, 1)).obs.shape == (4, 2)


def test_the_class_stays_short() -> None:
    code = blocks("python")[0]
    lines = [line for line in code[code.index("class MyEnv") :].splitlines() if line.strip()]
    assert len(lines) <= 45
