"""Tasks of Gymnasium by their ids: those that are registered, what they draw, and a line for what is none."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from epo_lightning.envs.check import check_env

pytest.importorskip("gymnasium")
import gymnasium
from gymnasium.envs.classic_control import PendulumEnv
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv

from epo_lightning.envs.gymnasium import GymnasiumEnv
from epo_lightning.envs.gymnasium.vectors import Vectorization
from tests.support.counters import CPU, Counter, Drawn, Make, Vectorised, closed_counters, counted, run

HERE = __name__

make = pytest.fixture(closed_counters)


class TestRegisteredTasks:
    @pytest.mark.parametrize(
        ("id", "way", "args", "sizes"),
        [
            ("CartPole-v1", "sync", {}, (4, 2, True, 500, 0.02)),
            ("CartPole-v1", "async", {}, (4, 2, True, 500, 0.02)),
            ("CartPole-v1", "own", {}, (5, 2, True, 501, 0.02)),
            ("Pendulum-v1", "sync", {"max_episode_steps": 40}, (3, 1, False, 40, 0.05)),
            ("FrozenLake-v1", "sync", {"is_slippery": False}, (16, 4, True, 100, 0.25)),
            ("HalfCheetah-v5", "sync", {"max_episode_steps": 40}, (17, 6, False, 40, 0.05)),
            ("HalfCheetah-v5", "async", {"max_episode_steps": 40}, (17, 6, False, 40, 0.05)),
        ],
    )
    def test_the_contract_is_kept(
        self, id: str, way: Vectorization, args: dict[str, Any], sizes: tuple[Any, ...]
    ) -> None:
        env = GymnasiumEnv(3, CPU, 0, id, way, args)
        try:
            spec = env.spec
            found = (spec.obs_dim, spec.act_dim, spec.discrete, spec.max_episode_steps, spec.step_seconds)
            assert found == pytest.approx(sizes)
            assert spec.name == id
            check_env(env, 60)
        finally:
            env.close()

    @pytest.mark.parametrize("id", ["Ant-v5", "Hopper-v5", "Humanoid-v5", "Walker2d-v5", "Swimmer-v5", "Reacher-v5"])
    def test_the_mujoco_tasks_run_with_the_installed_mujoco(self, id: str) -> None:
        env = GymnasiumEnv(2, CPU, 0, id)
        check_env(env, 10)
        env.close()

    def test_pendulum_is_gymnasium_s_own_step_by_step(self) -> None:
        """The same torques in the bare task give the same rewards; the learner's 1 is 2 N m."""
        env = GymnasiumEnv(1, CPU, 0, "Pendulum-v1")
        env.reset()
        bare = gymnasium.make("Pendulum-v1")
        bare.reset()
        assert isinstance(env.vector, SyncVectorEnv)
        mine, other = bare.unwrapped, env.vector.envs[0].unwrapped
        assert isinstance(mine, PendulumEnv)
        assert isinstance(other, PendulumEnv)
        mine.state = other.state.copy()
        for action in (1.0, -0.5, 0.25):
            result = env.step(torch.tensor([[action]]))
            obs, reward, *_ = bare.step(np.array([2.0 * action], dtype=np.float32))
            assert float(result.reward) == pytest.approx(reward, rel=1e-6)
            assert result.obs[0].tolist() == pytest.approx(obs.tolist(), rel=1e-6)
        env.close()

    def test_nothing_is_written_to_the_working_directory(self, tmp_path: Path) -> None:
        """MuJoCo tells its warnings (half cheetah: a deprecated attribute) in a file there, and on the terminal."""
        code = "import torch; from epo_lightning.envs.gymnasium import GymnasiumEnv\n"
        code += "for way in ('sync', 'async'): GymnasiumEnv(2, torch.device('cpu'), 0, 'HalfCheetah-v5', way).close()"
        result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120)
        assert (result.returncode, result.stderr) == (0, "")
        assert list(tmp_path.iterdir()) == []


class TestPictures:
    def test_they_are_the_task_s_fitted_into_the_size(self, make: Make) -> None:
        pytest.importorskip("PIL")
        env = make(2, "sync", "Drawn", render_mode="rgb_array")
        env.reset()
        run(env, [0.0])
        pictures = env.render([1], 40, 40)
        assert pictures.shape == (1, 40, 40, 3)
        assert pictures[0, 20].tolist() == [[50, 50, 50]] * 40  # 20 x 10 becomes 40 x 20, in the middle
        assert pictures[0, 5].tolist() == [[0, 0, 0]] * 40
        assert env.render([0, 1], 20, 10).tolist() == np.full((2, 10, 20, 3), 50).tolist()

    def test_registered_tasks_are_made_with_theirs(self) -> None:
        env = GymnasiumEnv(1, CPU, 0, "Pendulum-v1")
        assert env.vector.render_mode == "rgb_array"
        env.close()

    def test_processes_do_not_draw(self, make: Make) -> None:
        env = make(1, "async", "Drawn", render_mode="rgb_array")
        with pytest.raises(ValueError, match=r"pictures of Drawn need data\.env\.init_args\.vectorization sync"):
            env.render([0], 20, 10)

    def test_mujoco_draws_without_a_display(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Gymnasium would try a window first; and nobody else finds `MUJOCO_GL` changed."""
        from epo_lightning.physics.drawing import offscreen_context

        monkeypatch.delenv("MUJOCO_GL", raising=False)
        try:
            offscreen_context(8, 8).free()
        except ValueError as error:
            pytest.skip(str(error))
        env = GymnasiumEnv(2, CPU, 0, "InvertedPendulum-v5")
        env.reset()
        picture = env.render([1], 64, 64)
        assert picture.shape == (1, 64, 64, 3)
        assert picture.std() > 10
        assert "MUJOCO_GL" not in os.environ
        env.close()

    def test_a_task_without_says_so(self, make: Make) -> None:
        env = make()
        env.reset()
        with pytest.raises(ValueError, match="Counter has no pictures: it was made with render_mode None"):
            env.render([0], 20, 10)

    def test_what_fails_while_drawing_is_one_line(self, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(_: Drawn) -> None:
            raise gymnasium.error.DependencyNotInstalled("pygame is not installed,\nrun `pip install pygame`")

        monkeypatch.setattr(Drawn, "render", fail)
        env = make(1, "sync", "Drawn", render_mode="rgb_array")
        with pytest.raises(ValueError, match="Drawn cannot be drawn here: pygame is not installed, run `pip install"):
            env.render([0], 20, 10)


def make_larger(num_envs: int) -> VectorEnv:
    return Vectorised(num_envs + 1, AutoresetMode.SAME_STEP)


def make_without_mode(num_envs: int) -> VectorEnv:
    env = Vectorised(num_envs, AutoresetMode.SAME_STEP)
    env.metadata = {}
    return env


class TestMistakes:
    @pytest.mark.parametrize(
        ("id", "way", "args", "line"),
        [
            ("Cartpole-v1", "sync", {}, r"init_args\.id: Gymnasium knows no Cartpole-v1; did you mean CartPole-v1 or "),
            ("xyz", "sync", {}, r"init_args\.id: Gymnasium knows no xyz; a package that registers it is named"),
            ("no_such_package:Task-v0", "sync", {}, r"init_args\.id: .*No module named 'no_such_package'"),
            ("phys2d/CartPole-v1", "sync", {}, r"init_args\.id: phys2d/CartPole-v1: .*jax"),
            ("Hopper-v3", "sync", {}, r"init_args\.id: Hopper-v3: .*moved to the gymnasium-robotics"),
            ("Pendulum-v1", "own", {}, r"init_args\.vectorization: Pendulum-v1 has no vector environment of its own"),
            ("CartPole-v1", "sync", {"gravity": 3}, r"init_args\.env_args: CartPole-v1: .*'gravity'"),
            ("CartPole-v1", "own", {"gravity": 3}, r"init_args\.env_args: CartPole-v1: .*'gravity'"),
            (f"{HERE}:make_larger", "own", {}, r"data\.num_envs must be 3, as .*make_larger has it; got 2"),
            (f"{HERE}:make_without_mode", "own", {}, r"autoreset_mode'\] of .*make_without_mode must be"),
            (f"{HERE}:make_larger", "sync", {"num_envs": 2}, r"must return a gymnasium\.Env, got Vectorised"),
            ("builtins:list", "own", {}, r"init_args\.env_args: builtins:list: .*argument"),
        ],
    )
    def test_they_are_one_line(self, id: str, way: Vectorization, args: dict[str, Any], line: str) -> None:
        with pytest.raises(ValueError, match=line) as error:
            GymnasiumEnv(2, CPU, 0, id, way, args)
        assert "\n" not in str(error.value)

    def test_a_missing_library_of_a_task_comes_with_gymnasium_s_advice(self) -> None:
        if "Box2D" in sys.modules or _is_installed("Box2D"):
            pytest.skip("Box2D is installed")
        with pytest.raises(ValueError, match=r"LunarLander-v3: Box2D is not installed.*pip install") as error:
            GymnasiumEnv(2, CPU, 0, "LunarLander-v3")
        assert "\n" not in str(error.value)

    def test_without_gymnasium_the_extra_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "gymnasium", None)
        with pytest.raises(ValueError, match=r"pip install 'epo-lightning\[gymnasium\]'"):
            GymnasiumEnv(2, CPU, 0, "CartPole-v1")

    def test_a_mistake_inside_the_task_is_not_hidden(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(_: Counter) -> None:
            raise TypeError("a bug")

        monkeypatch.setattr(Counter, "__init__", fail)
        with pytest.raises(TypeError, match="a bug"):
            counted()

    def test_the_command_line_says_it(self, cli: Callable[..., Any]) -> None:
        env = "--data.env.class_path=epo_lightning.envs.gymnasium.GymnasiumEnv"
        outcome = cli("fit", "--config", "tiny.yaml", env, "--data.env.init_args.id=Cartpole-v1")
        assert outcome.code == 2
        assert "error: data.env.init_args.id: Gymnasium knows no Cartpole-v1; did you mean CartPole-v1" in outcome.err


def _is_installed(name: str) -> bool:
    from importlib.util import find_spec

    return find_spec(name) is not None
