"""Signals that reach a training in other ways: with nohup, by a terminal that closes, on one rank of two."""

import fcntl
import os
import pty
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from torch import Tensor

from epo_lightning.run.checkpoint import read_checkpoint
from epo_lightning.run.interruption import GracefulStop
from tests.support.command_line import ENDLESS, Rows, wait_for_rows

FOREVER = ("fit", "--config", "tiny.yaml", *ENDLESS, "--run_dir", "run")


@contextmanager
def training(*args: str, **kwargs: Any) -> Iterator[subprocess.Popen[str]]:
    """A run without an end in a process of its own, some iterations old."""
    command = [sys.executable, "-u", "-m", "epo_lightning", *FOREVER, *args]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    kwargs = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **kwargs}
    with subprocess.Popen(command, env=environment, text=True, **kwargs) as process:
        try:
            wait_for_rows(Path("run/metrics.csv"), 7, process)
            yield process
        finally:
            process.kill()


def saved_iterations() -> int:
    return int(read_checkpoint(Path("run/checkpoints/last.ckpt"))["epoch"]) + 1


@pytest.mark.usefixtures("cli")
def test_nohup_is_respected(rows: Rows) -> None:
    def ignore() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    with training(preexec_fn=ignore) as process:
        process.send_signal(signal.SIGHUP)
        wait_for_rows(Path("run/metrics.csv"), len(rows(Path("run"))) + 20, process)
        process.send_signal(signal.SIGUSR1)
        err = process.communicate(timeout=200)[1]
    assert process.returncode == 128 + signal.SIGUSR1
    assert "SIGHUP" not in err
    assert saved_iterations() == len(rows(Path("run")))


@pytest.mark.usefixtures("cli")
def test_a_terminal_that_closes_does_not_cost_the_iteration(rows: Rows) -> None:
    """Printing fails from then on."""
    ours, theirs = pty.openpty()

    def take_terminal() -> None:
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    terminal = {"stdin": theirs, "stdout": theirs, "stderr": theirs}
    with training(start_new_session=True, preexec_fn=take_terminal, **terminal) as process:
        os.close(theirs)
        os.close(ours)
        assert process.wait(timeout=200) == 128 + signal.SIGHUP
    assert saved_iterations() == len(rows(Path("run")))


def test_a_second_sigterm_ends_at_once_but_not_one_after_a_warning() -> None:
    stop, before = GracefulStop(), {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        stop._note(signal.SIGUSR1, None)
        assert {number: signal.getsignal(number) for number in before} == before
        stop._note(signal.SIGTERM, None)
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
        assert signal.getsignal(signal.SIGINT) == signal.default_int_handler
        assert stop.signal == signal.SIGUSR1
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_a_signal_that_comes_while_the_ranks_agree_is_not_lost() -> None:
    stop = GracefulStop()

    def reduce(number: Tensor, reduce_op: str) -> Tensor:  # noqa: ARG001
        stop._note(signal.SIGUSR1, None)
        return number

    strategy = SimpleNamespace(root_device="cpu", reduce=reduce)
    trainer: Any = SimpleNamespace(strategy=strategy, should_stop=False)
    module: Any = None
    stop.on_train_epoch_end(trainer, module)
    assert (stop.signal, trainer.should_stop) == (signal.SIGUSR1, False)
    stop.on_train_epoch_end(trainer, module)
    assert (stop.signal, trainer.should_stop) == (signal.SIGUSR1, True)


@pytest.mark.usefixtures("cli")
def test_a_signal_to_one_rank_stops_both(rows: Rows) -> None:
    with training("--trainer.devices", "2", "--data.num_envs", "16") as process:
        (other,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        os.kill(int(other), signal.SIGUSR1)
        out, err = process.communicate(timeout=100)
    assert process.returncode == 128 + signal.SIGUSR1, err
    assert "Traceback" not in err
    assert "Continue:  python -m epo_lightning fit" in out
    assert saved_iterations() == len(rows(Path("run")))
    assert len(read_checkpoint(Path("run/checkpoints/last.ckpt"))["ranks"]) == 2


@pytest.mark.usefixtures("cli")
@pytest.mark.parametrize(
    ("number", "words"),
    [(signal.SIGKILL, "died: killed by SIGKILL"), (signal.SIGSTOP, "is stuck: it has given no sign of life for 5 s")],
)
def test_a_rank_that_is_lost_ends_both_in_one_line(
    number: signal.Signals, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EPO_RANK_SILENCE", "5")
    with training("--trainer.devices", "2", "--data.num_envs", "16") as process:
        (other,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        os.kill(int(other), number)
        out, err = process.communicate(timeout=100)
    assert process.returncode == 1
    assert [line for line in err.splitlines() if "rank 1" in line] == [
        line for line in err.splitlines() if line.startswith(f"error: rank 1 (process {other} on ") and words in line
    ]
    assert err.count("all ranks end") == 1
    assert "Traceback" not in err
    assert "Continue:  python -m epo_lightning fit" in out
    until = time.monotonic() + 20
    while has_not_ended(int(other)) and time.monotonic() < until:
        time.sleep(0.05)
    assert not has_not_ended(int(other))


def has_not_ended(process: int) -> bool:
    """Whether it is there, and not only waits for somebody to ask what became of it."""
    try:
        return "State:\tZ" not in Path(f"/proc/{process}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


HANGS = """
import time
import lightning as L

class Hangs(L.Callback):
    def on_train_epoch_start(self, trainer, pl_module):
        if trainer.global_rank == 1 and trainer.current_epoch == 8:
            time.sleep(10_000)
"""


@pytest.mark.usefixtures("cli")
def test_a_rank_whose_own_thread_hangs_ends_both(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EPO_RANK_LAG", "5")
    Path("hangs.py").write_text(HANGS)
    more = ("--trainer.devices", "2", "--data.num_envs", "16", "--trainer.callbacks+=hangs.Hangs")
    with training(*more) as process:
        (other,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        err = process.communicate(timeout=100)[1]
    assert process.returncode == 1
    (line,) = [line for line in err.splitlines() if line.startswith("error:")]
    assert line.startswith(f"error: rank 1 (process {other} on ")
    assert line.endswith("s for it in a collective call: all ranks end (what was saved stays)")
    assert "Traceback" not in err
