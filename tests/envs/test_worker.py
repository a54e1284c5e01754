"""`WorkerEnv`: the same numbers as in process, nothing left behind, and a line for whatever goes wrong over there."""

import ast
import contextlib
import gc
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from epo_lightning.envs.check import check_env
from epo_lightning.envs.worker import WorkerEnv, remote
from epo_lightning.envs.worker.process import WorkerError, WorkerProcess
from epo_lightning.envs.worker.remote import channel
from epo_lightning.envs.worker.remote.factories import FACTORIES
from epo_lightning.envs.worker.remote.memory import layout
from epo_lightning.envs.worker.remote.mistakes import Mistake
from epo_lightning.envs.worker.remote.state import pack, unpack
from tests.support.command_line import Cli, Rows

STAND_IN = Path(__file__).parent / "stand_in"
CART = str(STAND_IN / "adapters" / "cart.py")
REMOTE = remote.__path__[0]
REMOTE_FILES = sorted(Path(REMOTE).glob("[!_]*.py"))
CPU = torch.device("cpu")
WORKER = "epo_lightning.envs.worker.WorkerEnv"


def cart_module() -> ModuleType:
    """The adapters, in this process."""
    spec = importlib.util.spec_from_file_location("cart", CART)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def make() -> Iterator[Callable[..., WorkerEnv]]:
    """`make(callable, n, **options)`: environments of `cart.py`, closed in the end."""
    made: list[WorkerEnv] = []

    def build(name: str, n: int = 4, *, seed: int = 3, python: str = sys.executable, **options: Any) -> WorkerEnv:
        factory = name if name in FACTORIES or ":" in name else f"{CART}:{name}"
        timeouts = {key: options.pop(key) for key in ("start_timeout", "step_timeout") if key in options}
        made.append(WorkerEnv(n, CPU, seed, python, factory, options, **timeouts))
        return made[-1]

    yield build
    for env in made:
        env.close()


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


class TestTheSameNumbers:
    def test_bit_for_bit_those_of_the_adapter_in_process(self, make: Callable[..., WorkerEnv]) -> None:
        here, there = cart_module().cart(16, 3, limit=9), make("cart", 16, limit=9)
        assert np.array_equal(there.reset().numpy(), here.reset())
        ended = 0
        actions = torch.rand(60, 16, 1, generator=torch.Generator().manual_seed(0)) * 2 - 1
        for row in actions:
            obs, reward, terminated, truncated, extras = here.step(row.numpy())
            result = there.step(row)
            truncated &= ~terminated
            assert np.array_equal(result.obs.numpy(), obs)
            assert np.array_equal(result.reward.numpy(), reward)
            assert np.array_equal(result.terminated.numpy(), terminated)
            assert np.array_equal(result.truncated.numpy(), truncated)
            assert np.array_equal(result.successes.numpy(), extras["successes"].astype(np.float32))
            assert result.final_obs is not None
            assert np.array_equal(result.final_obs.numpy()[truncated], extras["final_obs"][truncated])
            assert float(result.log["speed"]) == pytest.approx(extras["log"]["speed"].mean(), rel=1e-6)
            ended += int((terminated | truncated).sum())
        assert ended > 20

    def test_the_contract_is_kept(self, make: Callable[..., WorkerEnv]) -> None:
        env = make("cart", 8)
        assert (env.spec.name, env.spec.num_envs, env.spec.obs_dim, env.spec.act_dim) == ("Cart", 8, 2, 1)
        assert (env.spec.max_episode_steps, env.spec.step_seconds) == (20, 0.05)
        assert (env.spec.discrete, env.spec.restores) == (False, True)
        check_env(env)

    def test_whatever_looks_like_an_array_is_taken(self, make: Callable[..., WorkerEnv]) -> None:
        env = make("varied")
        result = env.step(torch.full((4, 1), 0.5))
        assert result.obs.tolist() == [[0.5, 0.5]] * 4
        assert result.final_obs is not None
        assert result.reward.tolist() == [0.5] * 4
        assert result.terminated.all()
        assert not result.truncated.any()  # both at once: terminated wins
        assert result.successes.tolist() == [0.0] * 4
        assert {name: float(value) for name, value in result.log.items()} == {"always": 0.5, "first": 7.0}
        result = env.step(torch.full((4, 1), -0.5))
        assert result.final_obs is None
        assert result.truncated.all()
        # a name that is not told this time keeps its value: its mean over a rollout stays a mean
        assert {k: float(v) for k, v in result.log.items()} == {"always": 2.0, "first": 7.0, "later": 1.5}

    def test_tensors_of_the_other_torch(self, make: Callable[..., WorkerEnv]) -> None:
        tensors, arrays = make("tensors", 8), make("forgetful", 8, limit=4)
        assert torch.equal(tensors.reset(), arrays.reset())
        for _ in range(9):
            a, b = tensors.step(torch.ones(8, 1)), arrays.step(torch.ones(8, 1))
            assert torch.equal(a.obs, b.obs)
            assert torch.equal(a.reward, b.reward)
            assert torch.equal(a.terminated, b.terminated)
            assert torch.equal(a.truncated, b.truncated)
            assert a.final_obs is not None
            assert b.final_obs is not None
            assert torch.equal(a.final_obs[a.truncated], b.final_obs[a.truncated])
        assert float(a.log["speed"]) == 1.0

    def test_final_observations_are_those_of_the_rows_that_were_cut(self, make: Callable[..., WorkerEnv]) -> None:
        env = make("cart", 2, limit=1)
        first = env.reset().clone()
        result = env.step(torch.zeros(2, 1))
        assert result.final_obs is not None
        assert result.truncated.all()
        assert torch.equal(result.final_obs[:, 0], first[:, 0] + 0.2 * first[:, 1])
        assert not torch.equal(result.obs, result.final_obs)

    def test_a_discrete_task(self, make: Callable[..., WorkerEnv]) -> None:
        env = make("discrete", 3)
        assert (env.spec.discrete, env.spec.act_dim, env.spec.restores) == (True, 3, False)
        env.reset()
        assert env.step(torch.tensor([2, 0, 1])).reward.tolist() == [2.0, 0.0, 1.0]
        check_env(env)

    def test_the_worker_is_another_process_without_this_package(self, make: Callable[..., WorkerEnv]) -> None:
        device, pid, has_package = make("where").spec.name.split()
        assert device == "cpu"
        assert int(pid) != os.getpid()
        assert has_package == "False"

    def test_a_factory_of_a_module_in_the_working_folder(
        self, make: Callable[..., WorkerEnv], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        shutil.copy(CART, tmp_path / "my_cart.py")
        monkeypatch.chdir(tmp_path)
        assert make("my_cart:cart").spec.name == "Cart"
        monkeypatch.setenv("PYTHONSAFEPATH", "1")
        assert make("my_cart:cart").spec.name == "Cart"

    def test_modules_named_like_its_files_are_the_users(
        self, make: Callable[..., WorkerEnv], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        shutil.copy(CART, tmp_path / "my_cart.py")
        for file in REMOTE_FILES:
            (tmp_path / file.name).write_text("from my_cart import cart as make")
        monkeypatch.chdir(tmp_path)
        for name in ("state", "isaacgym", "main"):
            assert make(f"{name}:make").spec.name == "Cart"

    def test_its_files_are_nowhere_to_be_imported(self, make: Callable[..., WorkerEnv]) -> None:
        names = [file.stem for file in REMOTE_FILES]
        seen = make("places", names=names).spec.name
        assert REMOTE not in seen
        assert "_epo_lightning_remote" in seen

    def test_the_arrays_do_not_overlap(self) -> None:
        placed = layout(5, 3, 2, discrete=False)
        ends = [start + int(np.prod(shape)) * np.dtype(dtype).itemsize for _, dtype, shape, start in placed]
        starts = [start for *_, start in placed]
        assert all(end <= start for end, start in zip(ends, starts[1:], strict=False))
        assert all(start % 64 == 0 for start in starts)


class TestResume:
    def test_an_adapter_with_a_state_continues_to_the_bit(self, cli: Cli, rows: Rows) -> None:
        write_case("cart", {})
        command = ("fit", "--config", "tiny.yaml", "--config", "case.yaml", "--checkpoint.every_n_iterations", 1)
        assert cli(*command, "--run_dir", "whole", "--trainer.max_epochs", 3).code == 0
        assert cli(*command, "--run_dir", "parts", "--trainer.max_epochs", 1).code == 0
        torch.manual_seed(99)
        assert cli("fit", "--ckpt_path", "parts", "--trainer.max_epochs", 3).code == 0
        assert len(rows(Path("whole"))) == 3
        assert rows(Path("whole")) == rows(Path("parts"))

    def test_without_one_the_difficulty_is_kept(self, make: Callable[..., WorkerEnv]) -> None:
        env = make("schooled")
        assert not env.spec.restores
        env.reset()
        env.step(torch.zeros(4, 1))
        state = env.state_dict()
        assert "episodes" not in state
        assert state["curriculum"] == {"difficulty": 0.625}
        other = make("schooled")
        other.load_state_dict(state)
        assert other.curriculum() == {"difficulty": 0.625}
        other.reset()
        other.step(torch.zeros(4, 1))
        assert other.curriculum() == {"difficulty": 0.75}  # goes on by itself

    def test_an_evaluation_holds_the_difficulty(self, make: Callable[..., WorkerEnv]) -> None:
        env = make("schooled")
        env.set_curriculum({"difficulty": 0.25})
        for _ in range(2):
            env.step(torch.zeros(4, 1))
            assert env.curriculum() == {"difficulty": 0.25}
        other = make("schooled")
        other.load_state_dict(env.state_dict())
        other.step(torch.zeros(4, 1))
        assert other.curriculum() == {"difficulty": 0.25}

    def test_a_run_without_one_goes_on_with_new_episodes(self, cli: Cli, rows: Rows) -> None:
        write_case("forgetful", {})
        command = ("fit", "--config", "tiny.yaml", "--config", "case.yaml", "--run_dir", "run")
        assert cli(*command, "--trainer.max_epochs", 1).code == 0
        assert cli("fit", "--ckpt_path", "run", "--trainer.max_epochs", 2).code == 0
        assert [row["charts/env_steps"] for row in rows(Path("run"))] == ["64", "128"]

    def test_another_task_s_state_is_refused(self, make: Callable[..., WorkerEnv]) -> None:
        state = make("cart", limit=20).state_dict()
        with pytest.raises(ValueError, match=r'init_args.options must be {"limit": 20}, as in the saved state; got {}'):
            make("cart").load_state_dict(state)
        with pytest.raises(ValueError, match=r"init_args.factory must be .*:cart, as in the saved state; got .*:forg"):
            make("forgetful", limit=20).load_state_dict(state)
        with pytest.raises(ValueError, match="lacks factory, options"):
            make("cart").load_state_dict({})

    def test_any_tree_of_plain_values_and_arrays_can_be_saved(self) -> None:
        state = {
            "none": None,
            "plain": [True, 1, 2**127, 0.1, "text", b"\x00by\x00tes\x00"],
            "nested": {"a": np.arange(3), "b": ({"c": np.float32(2.5)}, [])},
            "empty": b"",
        }
        again = unpack(pack(state))
        assert again["none"] is None
        assert again["plain"] == state["plain"]
        assert np.array_equal(again["nested"]["a"], np.arange(3))
        assert again["nested"]["b"][0]["c"] == np.float32(2.5)
        assert again["nested"]["b"][1] == []
        assert again["empty"] == b""
        with pytest.raises(Mistake, match=r"keys of state\(\)\['x'\] must be strings"):
            pack({"x": {1: 2}})

    def test_what_is_neither_is_refused(self, make: Callable[..., WorkerEnv]) -> None:
        with pytest.raises(WorkerError, match=r"state\(\)\['random'\]\[0\] must be an array, .* not Resumable"):
            make("pickled").state_dict()


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


def write_case(name: str, options: dict[str, Any], factory: str = "", python: str = sys.executable) -> None:
    args = {"python": python, "factory": factory or f"{CART}:{name}", "options": options}
    Path("case.yaml").write_text(yaml.safe_dump({"data": {"env": {"class_path": WORKER, "init_args": args}}}))


class TestCommandLine:
    def test_trains_and_evaluates(self, cli: Cli, rows: Rows) -> None:
        write_case("forgetful", {"limit": 5})
        assert cli("fit", "--config", "tiny.yaml", "--config", "case.yaml", "--run_dir", "run").code == 0
        assert len(rows(Path("run"))) == 2
        assert float(rows(Path("run"))[-1]["env/speed"]) > 0.0
        outcome = cli("validate", "--ckpt_path", "run")
        assert outcome.code == 0
        assert "Cart" in outcome.out

    def test_a_worker_that_dies_is_one_line_and_the_checkpoint_stays(self, cli: Cli) -> None:
        write_case("trouble", {"what": "exit on request"})
        command = ("fit", "--config", "tiny.yaml", "--config", "case.yaml", "--run_dir", "run")
        assert cli(*command, "--trainer.max_epochs", 1).code == 0
        last = Path("run/checkpoints/last.ckpt")
        saved = last.read_bytes()
        Path("die").touch()
        outcome = cli("fit", "--ckpt_path", "run", "--trainer.max_epochs", 3)
        assert outcome.code == 2
        assert outcome.err.count("\n") == 1
        assert "ended with exit code 7 during step; it said last: the last words of the simulator" in outcome.err
        assert last.read_bytes() == saved

    def test_help_and_print_config_start_nothing(self, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(WorkerProcess, "__init__", lambda *args: pytest.fail("started"))
        write_case("cart", {})
        with pytest.raises(SystemExit, match="0"):
            cli("fit", "--config", "tiny.yaml", "--config", "case.yaml", "--print_config")

    def test_an_unknown_interpreter_is_one_line(self, cli: Cli) -> None:
        write_case("cart", {}, python="/nowhere/python")
        outcome = cli("fit", "--config", "tiny.yaml", "--config", "case.yaml")
        assert outcome.code == 2
        assert outcome.err == (
            "error: data.env.init_args.python: /nowhere/python does not exist; name the simulator's interpreter, such"
            " as ~/envs/rlgpu/bin/python\n"
        )


# Python 3.8 ---------------------------------------------------------------------------------------------------------


def runs_as_38(python: str) -> bool:
    code = "import sys; sys.exit(sys.version_info[:2] != (3, 8))"
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        return subprocess.run([python, "-c", code], capture_output=True, timeout=20).returncode == 0
    return False


@pytest.fixture(scope="session")
def python38(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A Python 3.8 with numpy and Isaac Gym's configuration library."""
    named = os.environ.get("EPO_PYTHON38")
    candidates = [named] if named else []
    candidates += ["python3.8", *map(str, sorted(Path.home().glob(".pyenv/versions/3.8*/bin/python")))]
    found = next((python for python in candidates if runs_as_38(python)), None)
    if found is None:
        pytest.skip("no Python 3.8 here: set EPO_PYTHON38 to one")
    folder = tmp_path_factory.mktemp("python38")
    python = str(folder / "bin" / "python")
    install = [python, "-m", "pip", "install", "-q", "--retries", "1", "numpy", "hydra-core"]
    for command in ([found, "-m", "venv", str(folder)], install):
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            said = (done.stderr or done.stdout).strip().splitlines()[-1:]
            pytest.skip(f"{found} could not make an environment with numpy and hydra-core: {said}")
    return python


@pytest.fixture
def gym(make: Callable[..., WorkerEnv], python38: str, monkeypatch: pytest.MonkeyPatch) -> Callable[..., WorkerEnv]:
    """`gym(task, n, ...)`: the stand-in for Isaac Gym under Python 3.8."""
    monkeypatch.setenv("PYTHONPATH", str(STAND_IN))
    return lambda task, n=4, **options: make("isaacgym", n, python=python38, task=task, **options)


@pytest.mark.parametrize("file", sorted(Path(REMOTE).glob("*.py")), ids=lambda file: file.stem)
def test_a_file_of_the_remote_side_needs_python_3_8_and_numpy(file: Path) -> None:
    tree = ast.parse(file.read_text(), feature_version=(3, 8))
    known = sys.stdlib_module_names - {"graphlib", "tomllib", "zoneinfo"} | {"numpy"}
    for node in tree.body:  # simulators are imported inside functions
        if isinstance(node, ast.Import):
            assert {alias.name.partition(".")[0] for alias in node.names} <= known
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            assert str(node.module).partition(".")[0] in known
    for inner in ast.walk(tree):
        assert not isinstance(inner, ast.ImportFrom) or inner.level < 2
        names = [alias.name for alias in inner.names] if isinstance(inner, ast.Import) else []
        names += [str(inner.module)] if isinstance(inner, ast.ImportFrom) else []
        assert not any(name.partition(".")[0] == "epo_lightning" for name in names)


def test_under_python_3_8_all_is_the_same(make: Callable[..., WorkerEnv], python38: str) -> None:
    old, new = make("cart", 6, python=python38), make("cart", 6)
    assert torch.equal(old.reset(), new.reset())
    for _ in range(25):
        a, b = old.step(torch.ones(6, 1)), new.step(torch.ones(6, 1))
        assert torch.equal(a.obs, b.obs)
        assert torch.equal(a.truncated, b.truncated)
    check_env(old)


def test_late_beginnings_are_the_adapter_s(make: Callable[..., WorkerEnv]) -> None:
    env = make("cart", 4, limit=8)
    first = make("cart", 4, limit=8).reset().clone()
    assert torch.equal(env.reset_late(torch.tensor([0.0, 0.25, 0.5, 0.875])), first)
    ended = [env.step(torch.zeros(4, 1)).truncated.nonzero().flatten().tolist() for _ in range(4)]
    assert ended == [[3], [], [], [2]]
    other = make("discrete")
    with pytest.raises(ValueError, match=r"staggered_starts: .* cannot set its clock: its adapter has no reset_late"):
        other.reset_late(torch.zeros(4))


GROUPED = """
import numpy as np

class Grouped:
    obs_dim, act_dim, max_episode_steps = 8, 1, 3
    groups = [("pose", 1, False), ("camera", [1, 2, 3], False), ("mass", 1, True)]

    def __init__(self, num_envs, lacks):
        self.num_envs, self.lacks, self.clock = num_envs, lacks, 0

    def look(self):
        rows = np.full((self.num_envs, 1), self.clock, np.float32)
        camera = np.arange(6).reshape(1, 1, 2, 3).repeat(self.num_envs, 0)
        seen = {"mass": rows + 10, "camera": camera, "pose": rows}
        return {name: value for name, value in seen.items() if name != self.lacks or not self.clock}

    def reset(self):
        self.clock = 0
        return self.look()

    def step(self, actions):
        self.clock += 1
        cut, last = np.full(self.num_envs, self.clock == 3), self.look()
        if self.clock == 3:
            self.clock = 0
        return self.look(), actions[:, 0], cut & False, cut, {"final_obs": last}

def make(num_envs, seed, lacks=""):
    return Grouped(num_envs, lacks)
"""


def test_groups_of_an_adapter_are_columns_by_name(tmp_path: Path) -> None:
    file = tmp_path / "grouped.py"
    file.write_text(GROUPED)
    env = WorkerEnv(2, CPU, 0, sys.executable, f"{file}:make")
    assert ", ".join(map(str, env.spec.groups)) == "pose 1, camera 1 x 2 x 3, mass 1 (privileged)"
    check_env(env, 10)
    assert env.reset().tolist() == [[0, 0, 1, 2, 3, 4, 5, 10]] * 2
    result = [env.step(torch.zeros(2, 1)) for _ in range(3)][-1]
    assert result.obs.tolist() == [[0, 0, 1, 2, 3, 4, 5, 10]] * 2
    assert result.final_obs is not None
    assert result.final_obs.tolist() == [[3, 0, 1, 2, 3, 4, 5, 13]] * 2
    env.close()
    lacking = WorkerEnv(2, CPU, 0, sys.executable, f"{file}:make", {"lacks": "mass"})
    lacking.reset()
    with pytest.raises(ValueError, match=r"obs lacks the group 'mass', it has camera, pose$"):
        lacking.step(torch.zeros(2, 1))
    lacking.close()


class TestIsaacGym:
    """The stand-in's observation: clock, goals reached in this episode, first action, a number of this episode."""

    def test_sizes_and_names(self, gym: Callable[..., WorkerEnv]) -> None:
        env = gym("AllegroKukaTwoArms")
        assert env.spec.name == "IsaacGym/AllegroKukaTwoArms"
        assert (env.spec.num_envs, env.spec.obs_dim, env.spec.act_dim) == (4, 4, 2)
        assert env.spec.max_episode_steps == 3 * 6
        assert env.spec.step_seconds == pytest.approx(0.1)
        assert not env.spec.restores
        assert env.versions == {"isaacgym": "1.0.stand-in", "isaacgymenvs": "1.5.stand-in", "torch": "0.stand-in"}

    def test_states_are_for_the_critic_alone(self, gym: Callable[..., WorkerEnv]) -> None:
        env = gym("Stated", 2, privileged=True)
        assert ", ".join(map(str, env.spec.groups)) == "obs 4, states 2 (privileged)"
        assert env.reset()[:, [0, 1, 2, 4, 5]].tolist() == [[1, 0, 0, 1, 7]] * 2
        assert env.step(torch.zeros(2, 2)).obs[:, [0, 1, 2, 4, 5]].tolist() == [[2, 0, 0, 2, 7]] * 2
        assert gym("Stated", 2).spec.groups == ()
        with pytest.raises(ValueError, match=r"options\.privileged: Cartpole has no states, set it to false$"):
            gym("Cartpole", 2, privileged=True)

    def test_time_goals_and_falls_of_a_kuka_task(self, gym: Callable[..., WorkerEnv]) -> None:
        env = gym("AllegroKuka", 3)
        assert env.reset()[:, :3].tolist() == [[1, 0, 0]] * 3  # after one step with the action 0
        g, o, f = [1.0, 0.0], [0.0, 0.0], [0.0, -1.0]  # reach a goal, do nothing, fall
        # environment 0 reaches a goal in steps 1 and 7, 1 three in a row from step 2, 2 falls in step 1
        script = [[g, o, f], [o, g, o], [o, g, o], [o, g, o], [o, g, o], [o, o, o], [g, o, o], [o, o, o]]
        successes, terminated, truncated, clocks = [], [], [], []
        for row in script:
            result = env.step(torch.tensor(row))
            assert result.final_obs is not None
            assert torch.equal(result.final_obs[result.truncated], result.obs[result.truncated])
            successes.append(result.successes.tolist())
            terminated.append(result.terminated.tolist())
            truncated.append(result.truncated.tolist())
            clocks.append(result.obs[:, 0].tolist())
        assert [s[0] for s in successes] == [1, 0, 0, 0, 0, 0, 1, 0]
        # the goal set the clock back: it is over at 5, in step 6; step 7 is the first of the next episode
        assert [c[0] for c in clocks] == [2, 1, 2, 3, 4, 5, 1, 1]
        assert [t[0] for t in truncated] == [False] * 5 + [True] + [False] * 2
        # three goals end the episode; the fourth is the first of the next one
        assert [s[1] for s in successes] == [0, 1, 1, 1, 1, 0, 0, 0]
        assert [t[1] for t in truncated] == [False] * 3 + [True] + [False] * 4
        assert [t[2] for t in terminated] == [True] + [False] * 7
        assert [t[2] for t in truncated] == [False] * 5 + [True, False, False]
        assert not any(t[0] or t[1] for t in terminated)

    def test_what_is_logged(self, gym: Callable[..., WorkerEnv]) -> None:
        env = gym("AllegroKuka", 2)
        env.reset()
        env.step(torch.tensor([[1.0, -1.0], [0.0, 0.0]]))  # a goal, and the episode ends
        log = env.step(torch.zeros(2, 2)).log
        # the tolerance began with 0.08 and is halved in every step; the objective is that of the last episodes
        assert {name: pytest.approx(float(value)) for name, value in log.items()} == {
            "successes": 0.25,
            "tolerance": 0.01,
            "true_objective": 0.005,
        }

    def test_the_tolerance_is_taken_over_and_held(self, gym: Callable[..., WorkerEnv]) -> None:
        env = gym("AllegroKuka", 2)
        env.reset()
        state = env.state_dict()
        assert state["curriculum"] == {"tolerance": pytest.approx(0.04)}
        evaluation = gym("AllegroKuka", 2)
        evaluation.set_curriculum({"tolerance": 0.02})
        evaluation.reset()
        assert evaluation.curriculum() == {"tolerance": 0.02}
        for each in (env, evaluation):  # whose state was not held: it goes on
            each.load_state_dict(state | {"curriculum": {"tolerance": 0.02}})
            each.reset()
            assert each.curriculum() == {"tolerance": 0.01}

    def test_a_plain_task(self, gym: Callable[..., WorkerEnv]) -> None:
        env = gym("Cartpole", 1)
        assert env.spec.max_episode_steps == 4
        env.reset()
        results = [env.step(torch.zeros(1, 2)) for _ in range(2)]
        assert bool(results[-1].truncated)  # after reset() and two steps the clock is at 3
        assert env.step(torch.zeros(1, 2)).obs[0, 0] == 1
        assert env.step(torch.zeros(1, 2)).obs[0, 0] == 2
        assert env.reset()[0, 0] == 1  # in mid-episode
        assert set(env.step(torch.zeros(1, 2)).log) == set()

    @pytest.mark.parametrize("task", ["Cartpole", "AnymalTerrain"])
    def test_late_beginnings(self, gym: Callable[..., WorkerEnv], task: str) -> None:
        env = gym(task, 2)
        env.reset_late(torch.tensor([0.0, 0.7]))  # after the first step the clocks are at 1 and int(0.7 * 3) = 2
        assert env.step(torch.zeros(2, 2)).truncated.tolist() == [False, True]
        assert env.step(torch.zeros(2, 2)).truncated.tolist() == [True, False]

    def test_a_release_that_does_not_tell_time_outs(self, gym: Callable[..., WorkerEnv]) -> None:
        env = gym("Old", 2)
        env.reset()
        result = env.step(torch.tensor([[0.0, 0.0], [0.0, -1.0]]))
        assert result.terminated.tolist() == [False, True]
        result = env.step(torch.zeros(2, 2))
        assert result.truncated.tolist() == [True, False]

    def test_the_task_that_resets_at_once(self, gym: Callable[..., WorkerEnv]) -> None:
        env = gym("AnymalTerrain", 2)
        assert env.reset()[:, 0].tolist() == [1, 1]
        result = env.step(torch.tensor([[0.0, 0.0], [0.0, -1.0]]))
        assert (result.terminated.tolist(), result.truncated.tolist()) == ([False, True], [False, False])
        assert result.obs[:, 0].tolist() == [2, 0]
        result = env.step(torch.zeros(2, 2))
        assert (result.terminated.tolist(), result.truncated.tolist()) == ([False, False], [True, False])
        assert result.final_obs is None  # nobody has kept it
        assert result.obs[:, 0].tolist() == [0, 1]

    def test_seeds(self, gym: Callable[..., WorkerEnv]) -> None:
        first, again, other = (gym("Cartpole", seed=seed).reset()[:, 3].clone() for seed in (5, 5, 6))
        assert torch.equal(first, again)
        assert not torch.equal(first, other)

    def test_sub_tasks_and_overrides(self, gym: Callable[..., WorkerEnv]) -> None:
        assert gym("AllegroKuka", sub_task="regrasping").spec.max_episode_steps == 3 * 4
        changed = gym("AllegroKukaTwoArmsLSTM", overrides=["task/env=regrasping", "task.env.episodeLength=400"])
        assert changed.spec.max_episode_steps == 3 * 400

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"task": "AllegroKuca"}, "options.task: this IsaacGymEnvs has AllegroKuka, .*; got 'AllegroKuca'"),
            (
                {"task": "AllegroKuka", "sub_task": "juggling"},
                "options.sub_task: this IsaacGymEnvs has .*regrasping.*; got 'juggling'",
            ),
            ({"task": "Cartpole", "sub_task": "regrasping"}, "options: Could not override 'task/env'"),
            ({"task": "Cartpole", "overrides": ["task.env.gravity=1"]}, "options: Could not override 'task.env.grav"),
            ({"task": "HumanoidAMP"}, "options.task: HumanoidAMP needs a learner that resets it"),
            ({"task": "FactoryBase"}, "options.task: FactoryBase is what other tasks"),
            (
                {"task": "Cartpole", "tusk": 1},
                "isaacgym knows the options task, sub_task, overrides, privileged; got 'tusk'",
            ),
        ],
    )
    def test_mistakes(self, gym: Callable[..., WorkerEnv], options: dict[str, Any], message: str) -> None:
        with pytest.raises(WorkerError, match=message) as error:
            gym(**options)
        assert "\n" not in str(error.value)

    def test_trains_through_the_command_line(
        self, cli: Cli, rows: Rows, python38: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PYTHONPATH", str(STAND_IN))
        write_case("", {"task": "AllegroKukaTwoArms", "sub_task": "regrasping"}, "isaacgym", python38)
        outcome = cli("fit", "--config", "tiny.yaml", "--config", "case.yaml", "--run_dir", "run")
        assert outcome.code == 0
        assert outcome.err == ""
        assert len(rows(Path("run"))) == 2
        assert "env/true_objective" in rows(Path("run"))[-1]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA")
class TestOnAGPU:
    def test_the_same_numbers(self) -> None:
        here, there = (
            WorkerEnv(512, torch.device(device), 0, sys.executable, f"{CART}:cart", {}) for device in ("cpu", "cuda:0")
        )
        assert torch.equal(here.reset(), there.reset().cpu())
        for _ in range(50):
            actions = torch.rand(512, 1) * 2 - 1
            a, b = here.step(actions), there.step(actions.cuda())
            for x, y in zip(a[:5], b[:5], strict=True):
                assert y.device.type == "cuda"
                assert torch.equal(x, y.cpu())
        here.close()
        there.close()

    def test_the_contract_is_kept(self) -> None:
        env = WorkerEnv(64, torch.device("cuda:0"), 0, sys.executable, f"{CART}:cart", {})
        check_env(env)
        env.close()
