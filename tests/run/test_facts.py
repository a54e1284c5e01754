"""Versions, commit, machine: told where they are known, and never an error."""

import subprocess
from pathlib import Path

import pytest
import torch

from epo_lightning.run.facts import facts, git_state, git_states, versions


def git(folder: Path, *words: str) -> str:
    settings = ("-c", "user.name=me", "-c", "user.email=me@example.org", "-c", "commit.gpgsign=false")
    command = ["git", "-C", str(folder), *settings, *words]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.strip()


def test_the_state_of_a_repository(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    assert git_state(tmp_path) is None, "without a commit"
    (tmp_path / "a").write_text("1")
    git(tmp_path, "add", "a")
    git(tmp_path, "commit", "-q", "-m", "one")
    commit = git(tmp_path, "rev-parse", "HEAD")
    (tmp_path / "untracked").write_text("a run folder, for example")
    assert git_state(tmp_path) == {"commit": commit, "dirty": False}
    (tmp_path / "a").write_text("2")
    assert git_state(tmp_path) == {"commit": commit, "dirty": True}
    assert git_state(tmp_path / "gone") is None


def test_without_git_there_is_no_commit_and_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git_states() == {"working_folder": None, "package": None}


def test_the_environment_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_API_KEY", "a-secret-of-mine")
    told = facts(torch.device("cpu"), 2, ["epo-lightning", "fit"], {})
    assert "a-secret-of-mine" not in str(told)
    assert told["device"]["kind"] == "cpu"
    assert told["device"]["ranks"] == 2
    assert told["command"] == ["epo-lightning", "fit"]


def test_versions_are_those_that_run() -> None:
    found = versions()
    assert found["torch"] == torch.__version__
    assert found["python"] is not None
    assert list(found)[:6] == ["epo_lightning", "python", "torch", "lightning", "mujoco", "numpy"]
