"""`WorkerEnv`: the same numbers as in process, on a GPU, too; late beginnings and groups are those of the adapter."""

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from epo_lightning.envs.check import check_env
from epo_lightning.envs.worker import WorkerEnv
from epo_lightning.envs.worker.remote.memory import layout
from tests.support.workers import CART, CPU, REMOTE, cart_module, closed_workers

REMOTE_FILES = sorted(Path(REMOTE).glob("[!_]*.py"))

make = pytest.fixture(closed_workers)


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
