"""A run in tasks of Gymnasium: what its seed says, how its episodes begin, and how its processes end."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

pytest.importorskip("gymnasium")
from epo_lightning.envs.gymnasium import GymnasiumEnv
from epo_lightning.envs.gymnasium.vectors import Vectorization
from tests.support.counters import CPU, Counter, run

HERE = Counter.__module__


class TestSeeds:
    def first(self, seed: int, id: str = "Pendulum-v1", way: Vectorization = "sync") -> Tensor:
        env = GymnasiumEnv(4, CPU, seed, id, way)
        first = env.reset().clone()
        env.close()
        return first

    @pytest.mark.parametrize(("id", "way"), [("Pendulum-v1", "sync"), ("CartPole-v1", "own"), ("Pendulum-v1", "async")])
    def test_a_seed_says_everything(self, id: str, way: Vectorization) -> None:
        assert torch.equal(self.first(3, id, way), self.first(3, id, way))
        rows = torch.cat([self.first(3, id, way), self.first(4, id, way)])
        assert len(torch.unique(rows, dim=0)) == 8

    def test_sync_and_async_are_the_same_task(self) -> None:
        results = []
        for way in ("sync", "async"):
            env = GymnasiumEnv(3, CPU, 7, "Pendulum-v1", way, {"max_episode_steps": 5})
            env.reset()
            results.append(run(env, [0.3] * 12))
            env.close()
        for one, other in zip(*results, strict=True):
            for name in ("obs", "reward", "truncated", "final_obs"):
                assert torch.equal(getattr(one, name), getattr(other, name)), name

    def test_another_reset_begins_other_episodes(self) -> None:
        env = GymnasiumEnv(2, CPU, 0, "Pendulum-v1")
        assert not torch.equal(env.reset().clone(), env.reset())
        env.close()

    def test_a_resumed_run_begins_episodes_of_its_own(self) -> None:
        env = GymnasiumEnv(2, CPU, 0, "Pendulum-v1")
        at_first = env.reset().clone()
        run(env, [0.0] * 3)
        saved = env.state_dict()
        assert saved == {"task": "Pendulum-v1", "steps": 3}
        env.close()
        starts = []
        for _ in range(2):
            again = GymnasiumEnv(2, CPU, 0, "Pendulum-v1")
            again.load_state_dict(saved)
            starts.append(again.reset().clone())
            again.close()
        assert torch.equal(starts[0], starts[1])
        assert not torch.equal(starts[0], at_first)

    def test_a_state_of_another_task_is_refused(self) -> None:
        env = GymnasiumEnv(1, CPU, 0, "Pendulum-v1")
        with pytest.raises(ValueError, match=r"data\.env\.init_args\.id must be CartPole-v1"):
            env.load_state_dict({"task": "CartPole-v1", "steps": 3})
        env.close()


class TestLateBeginnings:
    """Of gymnasium's own pendulum, whose `TimeLimit` ends an episode after 8 steps here."""

    def build(self, vectorization: Vectorization, id: str = "Pendulum-v1", **env_args: Any) -> GymnasiumEnv:
        return GymnasiumEnv(4, CPU, 0, id, vectorization, env_args)

    @pytest.mark.parametrize("vectorization", ["sync", "async"])
    def test_the_time_limit_comes_early_and_nothing_else_changes(self, vectorization: Vectorization) -> None:
        late, whole = (self.build(vectorization, max_episode_steps=8) for _ in range(2))
        assert torch.equal(late.reset_late(torch.tensor([0.0, 0.25, 0.5, 0.875])), whole.reset())
        ended = []
        for step in range(8):
            result, other = run(late, [0.3])[0], run(whole, [0.3])[0]
            if step == 0:
                assert torch.equal(result.reward, other.reward)
                assert result.final_obs is not None
                assert torch.equal(result.final_obs[3], other.obs[3])
            ended.append(result.truncated.nonzero().flatten().tolist())
        assert ended == [[3], [], [], [2], [], [1], [], [0]]  # 8, 6, 4 and 1 steps are left
        assert run(late, [0.0])[0].truncated.nonzero().flatten().tolist() == [3]  # whole: it began in step 1
        for env in (late, whole):
            env.close()

    @pytest.mark.parametrize(
        ("vectorization", "id", "env_args"),
        [
            ("sync", f"{HERE}:Counter", {}),
            ("async", f"{HERE}:Counter", {}),
            ("own", f"{HERE}:make_library_vector", {"mode": "SameStep"}),
            ("own", f"{HERE}:make_library_vector", {"mode": "SameStep", "processes": True}),
            ("own", f"{HERE}:make_vectorised", {"mode": "SameStep"}),
        ],
    )
    def test_a_task_without_a_clock_that_can_be_set_is_one_line(
        self, vectorization: Vectorization, id: str, env_args: dict[str, Any]
    ) -> None:
        env = self.build(vectorization, id, **env_args)
        with pytest.raises(ValueError, match=r"^model\.rollout\.staggered_starts: \w+ cannot set its clock"):
            env.reset_late(torch.zeros(4))
        run(env, [0.0])  # it has begun all the same
        env.close()


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="signals of POSIX")
def test_processes_leave_ctrl_c_to_the_training_and_die_with_it() -> None:
    """The whole group gets SIGINT; the training steps on. A SIGTERM handler that it installed is not for its copies."""
    code = """
import os, signal, sys, torch
from epo_lightning.envs.gymnasium import GymnasiumEnv
signal.signal(signal.SIGTERM, lambda *_: None)
env = GymnasiumEnv(2, torch.device("cpu"), 0, "Pendulum-v1", "async")
env.reset()
signal.signal(signal.SIGINT, lambda *_: None)
os.killpg(0, signal.SIGINT)
env.step(torch.zeros(2, 1))
print(*[process.pid for process in env.vector.processes], flush=True)
if sys.argv[1] == "exit":
    sys.exit(0)
os.kill(os.getpid(), signal.SIGKILL)
"""
    for end in ("exit", "kill"):
        result = subprocess.run(
            [sys.executable, "-c", code, end], capture_output=True, text=True, timeout=60, start_new_session=True
        )
        assert result.returncode == (0 if end == "exit" else -signal.SIGKILL), result.stderr
        pids = [int(pid) for pid in result.stdout.split()]
        assert len(pids) == 2
        deadline = time.monotonic() + 20
        while (left := [pid for pid in pids if _runs(pid)]) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert left == []


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")
    return not status.exists() or status.read_text().rpartition(")")[2].split()[0] != "Z"


def test_a_tiny_training_runs_resumes_and_is_evaluated(cli: Callable[..., Any]) -> None:
    """Discrete actions, a pause between episodes, and a simulator that cannot be restored."""
    env = [
        "--data.env.class_path=epo_lightning.envs.gymnasium.GymnasiumEnv",
        "--data.env.init_args.id=CartPole-v1",
        "--data.env.init_args.vectorization=own",
    ]
    outcome = cli("fit", "--config", "tiny.yaml", "--run_dir", "run", *env, "--model.rollout.horizon", "16")
    assert outcome.code == 0, outcome.err
    outcome = cli("fit", "--ckpt_path", "run", "--trainer.max_epochs", "4")
    assert outcome.code == 0, outcome.err
    outcome = cli("validate", "--ckpt_path", "run")
    assert outcome.code == 0, outcome.err
    assert "length" in outcome.out
