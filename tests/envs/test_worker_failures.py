"""What goes wrong in a worker: a line for each mistake and each trouble over there, and nothing left behind."""

import gc
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from epo_lightning.envs.worker import WorkerEnv
from epo_lightning.envs.worker.process import WorkerError
from epo_lightning.envs.worker.remote import channel
from tests.support.workers import CART, CPU, cart_module, closed_workers

make = pytest.fixture(closed_workers)


def shared_files() -> set[str]:
    return set(os.listdir("/dev/shm")) if os.path.isdir("/dev/shm") else set()


def is_running(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


def gone(pid: int, seconds: float = 10.0) -> bool:
    end = time.monotonic() + seconds
    while is_running(pid) and time.monotonic() < end:
        time.sleep(0.02)
    return not is_running(pid)


class TestMistakes:
    @pytest.mark.parametrize(
        ("factory", "options", "message"),
        [
            ("isaacgymm", {}, "init_args.factory must be module:callable, file.py:callable, or one of isaacgym, "),
            (f"{CART}:nothing", {}, f"factory: what {CART}:nothing returns must have obs_dim, see docs/worker.md"),
            (f"{CART}:not_callable", {}, "has nothing callable named not_callable"),
            (f"{CART}:gone", {}, "has nothing callable named gone"),
            ("no_such_module:make", {}, "has no package no_such_module, which data.env.init_args.factory"),
            (f"{CART}:needs_package", {}, "has no package a_simulator_that_nobody_has, which"),
            ("no_such_file.py:make", {}, "No such file or directory"),
            (f"{CART}:fewer", {}, "data.num_envs: .* made 3 environments, not the 4 asked for"),
            (f"{CART}:cart", {"limi": 3}, "init_args.options: .*:cart knows the options limit; got 'limi'"),
            (f"{CART}:trouble", {}, "init_args.options.what must be given for .*:trouble"),
            (f"{CART}:cart", {"limit": {1, 2}}, "init_args.options must hold plain values only"),
            (
                "isaacgym",
                {"task": "Ant"},
                f"{sys.executable} has no package isaacgym, which the factory isaacgym needs",
            ),
        ],
    )
    def test_of_the_user_are_one_line(self, factory: str, options: dict[str, Any], message: str) -> None:
        with pytest.raises(ValueError, match=message) as error:
            WorkerEnv(4, CPU, 0, sys.executable, factory, options)
        assert "\n" not in str(error.value)
        assert "data." in str(error.value)

    def test_no_such_interpreter(self, make: Callable[..., WorkerEnv], tmp_path: Path) -> None:
        with pytest.raises(ValueError, match=r"init_args.python: /nowhere/python does not exist; name the simulator's"):
            make("cart", python="/nowhere/python")
        with pytest.raises(ValueError, match=r"init_args.python: .* is not an executable file"):
            make("cart", python=str(tmp_path))
        with pytest.raises(
            WorkerError, match=r"ended with exit code 1 during start \(it must be Python 3.8 or newer, w"
        ):
            make("cart", python=shutil.which("false") or "false")

    def test_not_a_python_at_all(self, make: Callable[..., WorkerEnv], tmp_path: Path) -> None:
        script = tmp_path / "python"
        script.write_text("#!/bin/sh\necho no python here >&2\nexit 3\n")
        script.chmod(0o755)
        with pytest.raises(WorkerError, match=r"ended with exit code 3 during start .*; it said last: no python here"):
            make("cart", python=str(script))

    def test_a_script_that_starts_python(self, make: Callable[..., WorkerEnv], tmp_path: Path) -> None:
        script = tmp_path / "python.sh"
        script.write_text(f'#!/bin/sh\n"{sys.executable}" "$@"\nexit $?\n')
        script.chmod(0o755)
        env = make("where", python=str(script))
        pid = int(env.spec.name.split()[1])
        assert pid != env.worker.pid  # that is the script's
        env.close()
        assert not is_running(env.worker.pid)
        assert gone(pid)
        hanging = make("trouble", python=str(script), what="hang")
        for _ in range(2):
            hanging.step(torch.zeros(4, 1))
        hanging.worker.step_timeout = 0.3
        with pytest.raises(WorkerError, match="has not answered"):
            hanging.step(torch.zeros(4, 1))
        assert not is_running(hanging.worker.pid)

    def test_timeouts_are_checked(self, make: Callable[..., WorkerEnv]) -> None:
        with pytest.raises(ValueError, match=r"init_args.step_timeout must be greater than 0, got 0"):
            make("cart", step_timeout=0)
        with pytest.raises(ValueError, match=r"init_args.start_timeout must be greater than 0, got -1"):
            make("cart", start_timeout=-1)

    def test_two_versions_of_the_protocol(
        self, make: Callable[..., WorkerEnv], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(channel, "PROTOCOL", 7)
        with pytest.raises(WorkerError, match=r"remote speaks protocol 1, this package 7: .* install it anew"):
            make("cart")


class TestTrouble:
    @pytest.mark.parametrize(
        ("what", "message"),
        [
            ("exit", "ended with exit code 7 during step; it said last: the last words of the simulator"),
            ("orphan", "ended with exit code 7 during step"),  # though a child of it still holds what it inherited
            ("kill", "was killed by SIGKILL during step; it said last: the last words of the simulator"),
            ("raise", r"raised ZeroDivisionError: the physics exploded \(.*cart.py:\d+ in step\) during step; it said"),
            ("quit", r"raised SystemExit: no GPU found \(.*cart.py:\d+ in step\)"),
            ("grow", r"obs must have shape \(4, 2\), but the simulator's has \(4, 9\)"),
            ("log", r"extras\['log'\] may have 256 names at most; one more is 255"),
        ],
    )
    def test_is_told_and_leaves_nothing(self, make: Callable[..., WorkerEnv], what: str, message: str) -> None:
        before = shared_files()
        env = make("trouble", what=what, step_timeout=20.0)
        pid = env.worker.pid
        env.reset()
        for _ in range(2):
            env.step(torch.zeros(4, 1))
        with pytest.raises(WorkerError, match=message) as error:
            env.step(torch.zeros(4, 1))
        assert "\n" not in str(error.value)
        assert not is_running(pid)
        with pytest.raises(WorkerError, match="the worker has ended; make the environment anew"):
            env.step(torch.zeros(4, 1))
        env.close()
        assert shared_files() == before

    def test_a_hang_is_ended_by_its_timeout(self, make: Callable[..., WorkerEnv]) -> None:
        """Of the step: the start may take ten minutes, and so does the hang."""
        env = make("trouble", what="hang", step_timeout=20.0)
        pid = env.worker.pid
        for _ in range(2):
            env.step(torch.zeros(4, 1))
        assert env.worker.step_timeout == 20.0
        env.worker.step_timeout = 0.3  # from here on: a busy machine may need longer for the other steps
        with pytest.raises(WorkerError, match=r"has not answered to step for 0.3 s: killed \(.*step_timeout\)"):
            env.step(torch.zeros(4, 1))
        assert not is_running(pid)

    def test_a_start_that_takes_too_long(self, make: Callable[..., WorkerEnv]) -> None:
        with pytest.raises(WorkerError, match=r"has not answered to make for 3 s: killed \(.*start_timeout\)"):
            make("never", start_timeout=3.0)

    def test_prints_of_every_kind_disturb_nothing(self, make: Callable[..., WorkerEnv]) -> None:
        env, quiet = make("trouble", what="chatter"), make("forgetful")
        env.reset()
        quiet.reset()
        for _ in range(30):  # 6 MB: more than any pipe holds
            result, wanted = env.step(torch.ones(4, 1)), quiet.step(torch.ones(4, 1))
            assert torch.equal(result.obs, wanted.obs)

    def test_ctrl_c_is_for_the_learner(self, make: Callable[..., WorkerEnv]) -> None:
        env = make("cart")
        for number in (signal.SIGINT, signal.SIGTERM):
            os.kill(env.worker.pid, number)
        env.reset()
        assert torch.isfinite(env.step(torch.zeros(4, 1)).obs).all()

    def test_a_thread_that_started_it_may_end(self, make: Callable[..., WorkerEnv]) -> None:
        made: list[WorkerEnv] = []
        thread = threading.Thread(target=lambda: made.append(make("cart")))
        thread.start()
        thread.join()
        time.sleep(0.2)
        made[0].reset()

    def test_a_system_without_memory_files(
        self, make: Callable[..., WorkerEnv], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delattr(os, "memfd_create")
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
        env = make("cart")
        assert torch.equal(env.reset(), torch.from_numpy(cart_module().cart(4, 3).reset()))
        assert str(tmp_path) in Path("/proc/self/maps").read_text()
        assert list(tmp_path.iterdir()) == []

    def test_close_may_be_called_twice(self, make: Callable[..., WorkerEnv]) -> None:
        env = make("cart")
        pid = env.worker.pid
        obs = env.reset()
        env.close()
        env.close()
        assert not is_running(pid)
        assert torch.isfinite(obs).all()  # what it gave stays readable

    def test_debugging_shows_what_it_prints(
        self, make: Callable[..., WorkerEnv], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
    ) -> None:
        make("trouble", what="chatter").step(torch.zeros(4, 1))
        assert capfd.readouterr() == ("", "")
        monkeypatch.setenv("EPO_DEBUG", "1")
        env = make("trouble", what="chatter")
        env.step(torch.zeros(4, 1))
        env.close()
        end = time.monotonic() + 5.0
        seen = ""
        while "and from Python" not in seen and time.monotonic() < end:
            seen += capfd.readouterr().err
        assert "and from Python" in seen

    def test_who_is_forgotten_is_closed(self, make: Callable[..., WorkerEnv]) -> None:
        descriptors, maps = set(os.listdir("/proc/self/fd")), Path("/proc/self/maps")
        env = WorkerEnv(4, CPU, 0, sys.executable, f"{CART}:cart", {})
        pid = env.worker.pid
        assert "epo_lightning worker" in maps.read_text()
        del env
        assert gone(pid)
        gc.collect()
        assert "epo_lightning worker" not in maps.read_text()
        assert set(os.listdir("/proc/self/fd")) <= descriptors

    def test_ctrl_c_in_mid_step_ends_it(self, make: Callable[..., WorkerEnv]) -> None:
        env = make("trouble", what="hang")
        pid = env.worker.pid
        for _ in range(2):
            env.step(torch.zeros(4, 1))
        ours = signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
        timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
        timer.start()
        try:
            with pytest.raises(KeyboardInterrupt):
                env.step(torch.zeros(4, 1))
        finally:
            signal.signal(signal.SIGINT, ours)
        assert not is_running(pid)
        with pytest.raises(WorkerError, match="the worker has ended"):
            env.state_dict()

    @pytest.mark.parametrize("how", ["stepping", "hanging", "made in a thread"])
    def test_a_parent_that_is_killed_takes_it_along(self, tmp_path: Path, how: str) -> None:
        before = shared_files()
        what = "hang" if how == "hanging" else "no"
        # from a thread that lives on the kernel cannot help: its socket has to tell the worker
        start = "thread = threading.Thread(target=main); thread.start(); thread.join()" if "thread" in how else "main()"
        code = f"""
            import sys, threading, torch
            from epo_lightning.envs.worker import WorkerEnv
            def main():
                env = WorkerEnv(4, torch.device("cpu"), 0, sys.executable, {CART + ":trouble"!r}, {{"what": {what!r}}})
                print(env.worker.pid, flush=True)
                while True:
                    env.step(torch.zeros(4, 1))
            {start}
        """
        lines = "\n".join(line[12:] for line in code.splitlines())
        with subprocess.Popen([sys.executable, "-c", lines], stdout=subprocess.PIPE, text=True) as parent:
            assert parent.stdout is not None
            pid = int(parent.stdout.readline())
            time.sleep(0.5)
            assert is_running(pid)
            parent.kill()
        assert gone(pid)
        assert shared_files() == before
