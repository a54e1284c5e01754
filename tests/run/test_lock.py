"""The lock of a folder, by what each system has."""

import os
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from epo_lightning.run.folder import RunFolder
from epo_lightning.run.lock import FolderLock


class Windows(ModuleType):
    """`msvcrt`, as far as it is needed: a locked byte is refused to everybody else."""

    LK_NBLCK = 2

    def __init__(self) -> None:
        super().__init__("msvcrt")
        self.held: dict[int, int] = {}

    def locking(self, descriptor: int, mode: int, nbytes: int) -> None:
        """Lock, without waiting."""
        assert (mode, nbytes) == (self.LK_NBLCK, 1)
        file = os.fstat(descriptor).st_ino
        if file in self.held:
            raise PermissionError(13, "Permission denied")
        self.held[file] = descriptor


@pytest.fixture(params=["linux", "windows"])
def _system(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "windows":
        monkeypatch.setitem(sys.modules, "fcntl", None)
        monkeypatch.setitem(sys.modules, "msvcrt", Windows())


@pytest.mark.usefixtures("_system")
def test_a_held_folder_is_refused_and_nothing_is_left_of_the_lock(tmp_path: Path) -> None:
    lock = FolderLock(tmp_path)
    with pytest.raises(BlockingIOError):
        FolderLock(tmp_path)
    lock.release()
    lock.release()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("_system")
def test_two_trainings_do_not_write_into_one_folder(tmp_path: Path) -> None:
    first, second = RunFolder(tmp_path / "run"), RunFolder(tmp_path / "run")
    first.claim()
    with pytest.raises(ValueError, match="run_dir: another process is training in"):
        second.claim()
    second.release()
    assert first.path.is_dir()
    first.release()
    assert list(tmp_path.iterdir()) == []


def test_a_system_without_locks_trains_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fcntl", None)
    monkeypatch.setitem(sys.modules, "msvcrt", None)
    FolderLock(tmp_path).release()
    assert list(tmp_path.iterdir()) == []


def test_a_file_system_without_locks_is_used_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(descriptor: int, mode: int) -> None:
        raise OSError(95, f"Operation not supported: {descriptor} {mode}")

    stands = SimpleNamespace(flock=refuse, LOCK_EX=2, LOCK_NB=4)
    monkeypatch.setitem(sys.modules, "fcntl", stands)
    FolderLock(tmp_path).release()
