"""Runs as child processes: how many, which, and that whatever ends this process ends them, saved."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from epo_lightning.limits import Mistake
from epo_lightning.sweep.driver import alone
from tests.support.fake_runs import drive, make_run

ROOT = Path(__file__).parents[2]


def saved(out: Path, seed: int = 0) -> int:
    file = out / "slow" / f"seed{seed}" / "checkpoints" / "last.ckpt"
    return int(file.read_text() or 0) if file.exists() else 0


def wait_until(holds: Callable[[], object]) -> None:
    for _ in range(3000):
        if holds():
            return
        time.sleep(0.02)
    raise AssertionError("it did not come to that")


def children_of(process: subprocess.Popen[str]) -> list[int]:
    return [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def start(out: Path, runs: int, jobs: int) -> subprocess.Popen[str]:
    """A driver in a process of its own, all of whose first runs have saved."""
    command = [sys.executable, "-m", "tests.support.fake_runs", str(out), str(runs), str(jobs)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    wait_until(lambda: all(saved(out, seed) > 1 for seed in range(min(runs, jobs))))
    return process


def test_all_runs_are_made_once_and_what_is_done_is_skipped(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / name, seed) for name in ("one", "two") for seed in (0, 1)]
    assert drive(runs).failed == []
    assert [run.is_done() for run in runs] == [True] * 4
    assert [run.done_iterations() for run in runs] == [10] * 4
    assert drive(runs).failed == []
    assert [run.log.read_text().count("from ") for run in runs] == [1] * 4


def test_a_run_that_fails_is_told_in_its_own_words_and_the_others_go_on(tmp_path: Path) -> None:
    told: list[str] = []
    bad = make_run(tmp_path / "bad", end="model.x: too small; raise it")
    good = make_run(tmp_path / "good")
    assert drive([bad, good], 1, told.append).failed == [bad]
    assert good.is_done()
    assert told == [f"failed: bad/seed0: model.x: too small; raise it (see {tmp_path / 'bad' / 'seed0.log'})"]
    assert not bad.is_done()  # and the next sweep tries it again


def test_a_run_that_something_kills_goes_on_where_it_was(tmp_path: Path) -> None:
    told: list[str] = []
    run = make_run(tmp_path / "cut", end="killed")
    assert drive([run], told=told.append).failed == []
    assert told == ["cut/seed0 was cut by SIGKILL: it goes on"]
    assert [line for line in run.log.read_text().splitlines() if line.startswith("from")] == ["from 0", "from 5"]
    assert run.run.metrics.read_text().splitlines()[-1] == "100,10,10"


def test_a_run_that_is_killed_again_and_again_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run(tmp_path / "cut", 0, 10)
    dies = [sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"]
    monkeypatch.setattr(type(run), "training", property(lambda self: dies))
    told: list[str] = []
    assert drive([run], told=told.append).failed == [run]
    assert len(told) == 3
    assert told[-1].startswith("failed: cut/seed0: ended by SIGKILL, 3 times (see ")


def test_a_run_whose_folder_another_process_uses_comes_later(tmp_path: Path) -> None:
    used, free = make_run(tmp_path / "used"), make_run(tmp_path / "free")
    used.run.path.mkdir()
    script = f"import fcntl, os, time; fcntl.flock(os.open({str(used.run.path)!r}, 0), 2); print(); time.sleep(600)"
    with subprocess.Popen([sys.executable, "-u", "-c", script], stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        assert not used.is_free()
        shown: list[str] = []

        def show(line: str) -> None:
            if "waiting for" in line:
                shown.append(line)
                other.kill()

        assert drive([used, free], 1, shown=show).failed == []
    assert shown[0] == f"1 of 2 runs done, waiting for the process that trains in {used.run.path}, about 0 s left"
    assert used.is_done()
    assert free.is_done()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_lets_the_runs_save_and_end(tmp_path: Path, number: signal.Signals) -> None:
    process = start(tmp_path, 3, 2)
    children = children_of(process)
    assert len(children) == 2
    process.send_signal(number)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert f"{number.name}: 2 run(s) finish their iteration and save" in out
    assert not any(map(is_alive, children))
    assert saved(tmp_path, 2) == 0  # the third did not begin
    rows = (tmp_path / "slow" / "seed0" / "metrics.csv").read_text().splitlines()
    assert len(rows) == saved(tmp_path) + 1


def test_a_second_signal_ends_everything_at_once(tmp_path: Path) -> None:
    process = start(tmp_path, 1, 1)
    (child,) = children_of(process)
    os.kill(child, signal.SIGSTOP)  # it cannot answer
    process.send_signal(signal.SIGTERM)
    assert process.stdout is not None
    assert "again to stop at once" in process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 128 + signal.SIGTERM
    process.stdout.close()
    wait_until(lambda: not is_alive(child))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells children that their parent has died")
def test_runs_end_and_save_when_the_driver_is_killed(tmp_path: Path) -> None:
    process = start(tmp_path, 2, 2)
    children = children_of(process)
    process.kill()
    process.communicate()
    wait_until(lambda: not any(map(is_alive, children)))
    rows = (tmp_path / "slow" / "seed1" / "metrics.csv").read_text().splitlines()
    assert 1 < saved(tmp_path, 1) == len(rows) - 1 < 400


def test_one_driver_at_a_time(tmp_path: Path) -> None:
    with (
        alone(tmp_path / "new"),
        pytest.raises(Mistake, match=r"out: another sweep is at work in .*new"),
        alone(tmp_path / "new"),
    ):
        pass
    with alone(tmp_path / "new"):
        pass
    (tmp_path / "file").touch()
    with pytest.raises(Mistake, match="file cannot be written"), alone(tmp_path / "file"):
        pass
