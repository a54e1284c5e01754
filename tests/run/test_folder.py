"""Run folders: names, exclusive use, and which checkpoint is meant."""

import os
from pathlib import Path

import pytest

from epo_lightning.run.folder import RunFolder, find_checkpoint


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def touch(path: Path, age: float = 0.0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("")
    os.utime(path, (1e9 - age, 1e9 - age))
    return path


def test_new_folders_never_meet() -> None:
    folders = [RunFolder.new("task", seed=1) for _ in range(5)]
    assert len({folder.path for folder in folders}) == 5
    assert all(folder.path.is_dir() for folder in folders)


def test_an_unused_folder_disappears_with_its_parents() -> None:
    folder = RunFolder.new("task", seed=1)
    folder.claim()
    folder.release()
    assert list(Path().iterdir()) == []


def test_a_folder_that_was_there_before_stays() -> None:
    Path("mine").mkdir()
    folder = RunFolder(Path("mine"))
    folder.claim()
    folder.release()
    assert Path("mine").is_dir()


def test_two_processes_do_not_write_into_one_folder() -> None:
    first, second = RunFolder(Path("run")), RunFolder(Path("run"))
    first.claim()
    with pytest.raises(ValueError, match="run_dir: another process is training in run"):
        second.claim()
    second.release()
    first.release()
    third = RunFolder(Path("run"))
    third.claim()
    third.release()


def test_last_means_the_newest_run_and_best_is_of_the_same_run() -> None:
    old = RunFolder(Path("runs/a/1"))
    new = RunFolder(Path("runs/b/1"))
    touch(old.last, age=10)
    touch(old.best, age=10)
    touch(new.last)
    assert find_checkpoint("last", None) == new.last
    assert find_checkpoint("last", "runs/a/1") == old.last
    assert find_checkpoint("runs/a/1", None) == old.last
    assert find_checkpoint(str(old.best), None) == old.best
    with pytest.raises(ValueError, match=r"no runs/b/1/checkpoints/best\.ckpt"):
        find_checkpoint("best", None)


@pytest.mark.parametrize("name", ["last", "nothing.ckpt", "empty"])
def test_what_does_not_exist_is_named(name: str) -> None:
    Path("empty").mkdir()
    with pytest.raises(ValueError, match=r"^ckpt_path: "):
        find_checkpoint(name, None)


def test_a_checkpoint_knows_its_folder() -> None:
    folder = RunFolder(Path("run"))
    touch(folder.last)
    assert RunFolder.of_checkpoint(folder.last) is None
    touch(folder.config)
    assert folder.same_as(RunFolder.of_checkpoint(folder.last))
    assert RunFolder.of_checkpoint(touch(Path("elsewhere/last.ckpt"))) is None
