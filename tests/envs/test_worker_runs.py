"""Runs whose environments are a worker's: begun from the command line, saved, and continued."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from epo_lightning.envs.worker import WorkerEnv
from epo_lightning.envs.worker.process import WorkerError, WorkerProcess
from epo_lightning.envs.worker.remote.mistakes import Mistake
from epo_lightning.envs.worker.remote.state import pack, unpack
from tests.support.command_line import Cli, Rows
from tests.support.workers import closed_workers, write_case

make = pytest.fixture(closed_workers)


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
