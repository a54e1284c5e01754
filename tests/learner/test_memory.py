"""What does not fit is refused with its number."""

import os
from pathlib import Path

import pytest
import torch

from epo_lightning.learner import memory
from epo_lightning.learner.memory import free_memory, require_memory
from epo_lightning.limits import Mistake

CPU, MIB = torch.device("cpu"), 2**20


def test_what_fits_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "free_memory", lambda device: 2000 * MIB)
    # 90 % of 2,000 MiB, to the byte
    assert require_memory(1800 * MIB, CPU, "a.key", 9) == "1,800 MiB on cpu, where 2,000 MiB are free"


@pytest.mark.parametrize(
    ("needed", "value", "remedy"),
    [
        (1801 * MIB, 1801, "lower it to at most 1800"),  # 1 MiB each
        (3600 * MIB, 1024, "lower it to at most 512"),
        (3601 * MIB, 1024, "lower it to at most 511"),  # 511.86
        (3600 * MIB, 1, "not even 1 fits"),
    ],
)
def test_what_does_not_fit_is_refused(monkeypatch: pytest.MonkeyPatch, needed: int, value: int, remedy: str) -> None:
    monkeypatch.setattr(memory, "free_memory", lambda device: 2000 * MIB)
    with pytest.raises(Mistake) as refused:
        require_memory(needed, CPU, "model.replay.capacity_per_env", value)
    expected = f"model.replay.capacity_per_env {value} needs {needed // MIB:,} MiB on cpu, where 2,000 MiB are free"
    assert str(refused.value) == f"{expected}: {remedy}"


@pytest.mark.parametrize("value", [7, 64, 1000, 4097])
def test_the_number_in_the_remedy_fits_and_the_next_one_does_not(monkeypatch: pytest.MonkeyPatch, value: int) -> None:
    each = 1_234_567
    monkeypatch.setattr(memory, "free_memory", lambda device: 5 * each)
    with pytest.raises(Mistake, match=r"at most 4$"):
        require_memory(value * each, CPU, "a.key", value)
    require_memory(4 * each, CPU, "a.key", 4)
    with pytest.raises(Mistake):
        require_memory(5 * each, CPU, "a.key", 5)


def test_free_memory_of_this_machine() -> None:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert 0 < free_memory(CPU) <= total


def test_where_nobody_tells_what_is_free_it_is_all_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def read_text(path: Path) -> str:
        raise FileNotFoundError(path)

    monkeypatch.setattr(Path, "read_text", read_text)
    assert free_memory(CPU) == os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def test_of_a_gpu_the_driver_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (123, 456))
    assert free_memory(torch.device("cuda", 0)) == 123


def test_where_the_system_does_not_tell_nothing_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(memory, "Path", lambda name: tmp_path / "no proc")
    monkeypatch.delattr(os, "sysconf")  # Windows
    assert require_memory(2**50, CPU, "a.key", 9).startswith("1,073,741,824 MiB")
