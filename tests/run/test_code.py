"""Which code made a run: told where it is known, never an error, and differences that count."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch

from epo_lightning.run import code
from epo_lightning.run.code import (
    Code,
    code_of,
    fingerprint,
    git_state,
    git_states,
    made_by,
    names_of,
    sessions_of,
    versions,
)


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


def test_versions_are_those_that_run() -> None:
    found = versions()
    assert found["torch"] == torch.__version__
    assert found["python"] is not None
    assert list(found)[:6] == ["epo_lightning", "python", "torch", "lightning", "mujoco", "numpy"]


def told(commit: str = "a" * 40, *, dirty: bool = False, **more: Any) -> dict[str, Any]:
    numbers = {"epo_lightning": "0.1.0", "torch": "2.5", "wandb": more.pop("wandb", "1")}
    git = {"package": {"commit": commit, "dirty": dirty}, "working_folder": {"commit": commit, "dirty": dirty}}
    return {"versions": numbers, "git": git, "sources": "5ef1", **more}


def test_what_is_told_of_the_code_that_runs_is_read_again() -> None:
    here = code_of(json.loads(json.dumps(made_by())))
    assert here == code_of(made_by())
    assert here.version == versions()["epo_lightning"]
    assert here.sources == fingerprint()
    assert dict(here.libraries)["torch"] == torch.__version__


def test_the_fingerprint_is_of_names_and_contents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(code, "_PACKAGE", tmp_path)
    (tmp_path / "a.py").write_text("1")
    found = [fingerprint()]
    (tmp_path / "notes.txt").write_text("no module")
    assert fingerprint() == found[0]
    for change in (lambda: (tmp_path / "a.py").write_text("2"), lambda: (tmp_path / "a.py").rename(tmp_path / "b.py")):
        change()
        found.append(fingerprint())
    assert len({*found}) == 3


def test_sessions_are_told_in_order_and_without_repetitions(tmp_path: Path) -> None:
    record = tmp_path / "run.json"
    a, b = told(), told("b" * 40, dirty=True)

    def write(content: object) -> None:
        record.write_text(json.dumps(content))

    write({**b, "earlier": [a, a], "lineage": [{}]})
    assert [(one.commit, one.dirty) for one in sessions_of(record)] == [("a" * 40, False), ("b" * 40, True)]
    write({**b, "earlier": [a], "lineage": []})  # what was before never saved
    assert [one.commit for one in sessions_of(record)] == ["b" * 40]
    damaged: list[object] = [[], 3, {}, {"versions": [], "git": 3, "earlier": 3, "lineage": 3}, {"git": {"package": 3}}]
    for content in damaged:
        write(content)
        assert sessions_of(record) == ()
    record.write_text("{")
    assert sessions_of(record) == ()
    assert sessions_of(tmp_path / "gone") == ()


def test_what_no_number_depends_on_makes_no_difference() -> None:
    assert code_of(told(wandb="1")) == code_of(told(wandb="2"))


def test_a_working_folder_counts_where_classes_come_from_it() -> None:
    record = told()
    record["git"]["working_folder"] = {"commit": "c" * 40, "dirty": True}
    packaged = {"data": {"env": {"class_path": "epo_lightning.envs.classic.WallMaze"}}, "algorithm": "sac"}
    assert code_of(record, packaged).own is None
    mine = {"trainer": {"callbacks": [{"class_path": "mine.Spread"}]}}
    assert code_of(record, mine).own == "c" * 40 + "+"
    assert code_of(told(), mine).own is None  # it is the repository of the package


def test_names_tell_what_differs() -> None:
    clean, dirty = code_of(told()), code_of(told(dirty=True))
    new = Code("0.2.0", None, None, "77", (("torch", "2.6"),))
    assert names_of([clean]) == {clean: "epo_lightning 0.1.0, commit aaaaaaaa"}
    assert list(names_of([clean, dirty, new]).values()) == [
        "epo_lightning 0.1.0, commit aaaaaaaa, torch 2.5",
        "epo_lightning 0.1.0, commit aaaaaaaa with uncommitted changes (sources 5ef1), torch 2.5",
        "epo_lightning 0.2.0, sources 77, torch 2.6",
    ]
    same = clean._replace(sources="f00d")  # a new file that is not tracked
    assert [*names_of([clean, same]).values()] == [
        "epo_lightning 0.1.0, commit aaaaaaaa (sources 5ef1)", "epo_lightning 0.1.0, commit aaaaaaaa (sources f00d)",
    ]  # fmt: skip
