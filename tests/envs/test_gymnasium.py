"""`GymnasiumEnv` under every moment of reset, on tasks that count their own steps."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from epo_lightning.envs.base import StepResult
from epo_lightning.envs.check import check_env

pytest.importorskip("gymnasium")
import gymnasium
from gymnasium import spaces
from gymnasium.envs.classic_control import PendulumEnv
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv

from epo_lightning.envs.gymnasium import GymnasiumEnv
from epo_lightning.envs.gymnasium.actions import ActionMap
from epo_lightning.envs.gymnasium.observations import ObservationRows
from epo_lightning.envs.gymnasium.vectors import Vectorization

CPU = torch.device("cpu")
HERE = __name__
Make = Callable[..., GymnasiumEnv]


class Counter(gymnasium.Env[np.ndarray, np.ndarray]):
    """Observes (episodes begun, steps of this one); the reward is 10 x episode + step + action.

    The first episode terminates after 2 steps, which are also the time limit; the second is truncated after 3; and so
    on: 2, 3, 2, 3. It is successful from step `success` on, and says so of its start, too, which is no step.
    """

    observation_space = spaces.Box(0.0, 100.0, (2,))
    action_space = spaces.Box(-1.0, 1.0, (1,))

    def __init__(self, success: int = 2) -> None:
        self.episode = self.clock = 0
        self.success = success

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.episode, self.clock = self.episode + 1, 0
        return self.look(), {"is_success": True}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.clock += 1
        reward = 10.0 * self.episode + self.clock + float(action[0])
        odd = self.episode % 2 == 1
        terminated, truncated = odd and self.clock == 2, self.clock == (2 if odd else 3)
        return self.look(), reward, terminated, truncated, {"is_success": self.clock >= self.success}

    def look(self) -> np.ndarray:
        return np.array([self.episode, self.clock], dtype=np.float32)


class Vectorised(VectorEnv):
    """N counters written as one task, in any of the three modes; copy 1 begins one episode ahead.

    It returns its own arrays, and changes them in the next step, as the contract of Gymnasium allows.
    """

    single_observation_space, single_action_space = Counter.observation_space, Counter.action_space

    def __init__(self, num_envs: int, mode: AutoresetMode, tells_final: bool = True) -> None:
        self.num_envs, self.metadata, self.tells_final = num_envs, {"autoreset_mode": mode}, tells_final
        self.mode = mode
        self.copies = [Counter() for _ in range(num_envs)]
        for env, copy in enumerate(self.copies):
            copy.episode = env
        self.obs = np.zeros((num_envs, 2), dtype=np.float32)
        self.done = np.zeros(num_envs, dtype=bool)
        self.ignored: list[tuple[int, float]] = []

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        mask = (options or {}).get("reset_mask", np.ones(self.num_envs, dtype=bool))
        assert "reset_mask" not in (options or {}) or self.mode is AutoresetMode.DISABLED
        for env in np.flatnonzero(mask).tolist():
            self.obs[env] = self.copies[env].reset()[0]
        self.done[mask] = False
        return np.where(mask[:, None], self.obs, -1.0), {}

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        assert self.mode is AutoresetMode.NEXT_STEP or not self.done.any(), "an episode went on after its end"
        reward = np.zeros(self.num_envs)
        terminated, truncated = np.zeros((2, self.num_envs), dtype=bool)
        final = np.zeros_like(self.obs)
        for env, copy in enumerate(self.copies):
            if self.done[env]:
                self.obs[env] = copy.reset()[0]
                reward[env] = 7.0  # what tasks return here is of no episode: JAX's pendulum returns a cost, too
                self.ignored.append((env, float(actions[env, 0])))
                continue
            self.obs[env], reward[env], terminated[env], truncated[env], _ = copy.step(actions[env])
        self.done = terminated | truncated
        final[:] = self.obs
        infos: dict[str, Any] = {}
        if self.mode is AutoresetMode.SAME_STEP:
            for env in np.flatnonzero(self.done).tolist():
                self.obs[env] = self.copies[env].reset()[0]
            self.done = np.zeros_like(self.done)
            if self.tells_final:
                infos["final_obs"] = final
        return self.obs, reward, terminated, truncated, infos


def make_vectorised(num_envs: int, mode: str, tells_final: bool = True) -> VectorEnv:
    return Vectorised(num_envs, AutoresetMode(mode), tells_final)


def make_library_vector(num_envs: int, mode: str, processes: bool = False) -> VectorEnv:
    """Gymnasium's own vector environments in any mode."""
    return (AsyncVectorEnv if processes else SyncVectorEnv)([Counter] * num_envs, autoreset_mode=mode)


def make_larger(num_envs: int) -> VectorEnv:
    return Vectorised(num_envs + 1, AutoresetMode.SAME_STEP)


def make_without_mode(num_envs: int) -> VectorEnv:
    env = Vectorised(num_envs, AutoresetMode.SAME_STEP)
    env.metadata = {}
    return env


def counted(
    num_envs: int = 1, vectorization: Vectorization = "sync", id: str = "Counter", **env_args: dict[str, Any]
) -> GymnasiumEnv:
    return GymnasiumEnv(num_envs, CPU, 0, f"{HERE}:{id}", vectorization, env_args)


@pytest.fixture
def make() -> Iterator[Make]:
    """`counted`, closed at the end."""
    made: list[GymnasiumEnv] = []

    def build(*args: Any, **kwargs: Any) -> GymnasiumEnv:
        made.append(counted(*args, **kwargs))
        return made[-1]

    yield build
    for env in made:
        env.close()


def run(env: GymnasiumEnv, actions: list[float]) -> list[StepResult]:
    """Steps with the same action everywhere; copies of what they return."""
    results = []
    for action in actions:
        result = env.step(torch.full((env.spec.num_envs, 1), action))
        parts: dict[str, Any] = {
            name: value.clone() for name, value in result._asdict().items() if isinstance(value, Tensor)
        }
        results.append(StepResult(**parts))
    return results


class TestEveryModeWithoutAPause:
    WAYS: tuple[tuple[Vectorization, str, dict[str, Any]], ...] = (
        ("sync", "Counter", {}),
        ("async", "Counter", {}),
        ("own", "make_library_vector", {"mode": "SameStep"}),
        ("own", "make_library_vector", {"mode": "SameStep", "processes": True}),
        ("own", "make_library_vector", {"mode": "Disabled"}),
        ("own", "make_library_vector", {"mode": "Disabled", "processes": True}),
        ("own", "make_vectorised", {"mode": "SameStep"}),
        ("own", "make_vectorised", {"mode": "Disabled"}),
    )

    @pytest.mark.parametrize(("way", "id", "args"), WAYS, ids=lambda value: str(value).replace(" ", ""))
    def test_every_transition_is_the_task_s(
        self, make: Make, way: Vectorization, id: str, args: dict[str, Any]
    ) -> None:
        env = make(2, way, id, **args)
        assert torch.equal(env.reset()[0], torch.tensor([1.0, 0.0]))
        results = run(env, [0.5, -0.5, 0.25, 0.0, -1.0, 1.0])
        # copy 0 by hand: episode 1 terminates after two steps, episode 2 is truncated after three, then episode 3
        obs = [[1, 1], [2, 0], [2, 1], [2, 2], [3, 0], [3, 1]]
        rewards = [11.5, 11.5, 21.25, 22.0, 22.0, 32.0]
        assert [result.obs[0].tolist() for result in results] == obs
        assert [float(result.reward[0]) for result in results] == rewards
        assert [bool(result.terminated[0]) for result in results] == [False, True, False, False, False, False]
        assert [bool(result.truncated[0]) for result in results] == [False, False, False, False, True, False]
        assert results[1].final_obs is not None
        assert results[4].final_obs is not None
        assert results[1].final_obs[0].tolist() == [1, 2]
        assert results[4].final_obs[0].tolist() == [2, 3]

    def test_copies_end_one_by_one(self, make: Make) -> None:
        """Copy 1 is an episode ahead: its truncation in step 3 must leave copy 0 alone."""
        for mode in ("SameStep", "Disabled"):
            env = make(2, "own", "make_vectorised", mode=mode)
            assert env.reset().tolist() == [[1, 0], [2, 0]]
            results = run(env, [0.0] * 4)
            assert [result.obs.tolist() for result in results] == [
                [[1, 1], [2, 1]],
                [[2, 0], [2, 2]],
                [[2, 1], [3, 0]],
                [[2, 2], [3, 1]],
            ]
            assert results[2].truncated.tolist() == [False, True]
            assert results[2].final_obs is not None
            assert results[2].final_obs[1].tolist() == [2, 3]

    def test_an_end_that_nobody_tells_is_not_made_up(self, make: Make) -> None:
        env = make(1, "own", "make_vectorised", mode="SameStep", tells_final=False)
        env.reset()
        results = run(env, [0.0] * 5)
        assert [result.final_obs is None for result in results] == [False, True, False, False, True]


class TestThePauseOfNextStep:
    WAYS = (
        ("make_library_vector", {"mode": "NextStep"}),
        ("make_library_vector", {"mode": "NextStep", "processes": True}),
        ("make_vectorised", {"mode": "NextStep"}),
    )

    @pytest.mark.parametrize(("id", "args"), WAYS, ids=lambda value: str(value).replace(" ", ""))
    def test_the_end_comes_with_its_own_step_and_the_pause_is_told(
        self, make: Make, id: str, args: dict[str, Any]
    ) -> None:
        env = make(1, "own", id, **args)
        assert env.spec.obs_dim == 3
        assert env.reset().tolist() == [[1, 0, 0]]
        results = run(env, [0.5, -0.5, 0.25, 0.0, -1.0, 1.0, 0.5, 0.0])
        # the third and the seventh action lead nowhere
        obs = [[1, 1, 0], [1, 2, 1], [2, 0, 0], [2, 1, 0], [2, 2, 0], [2, 3, 1], [3, 0, 0], [3, 1, 0]]
        assert [result.obs[0].tolist() for result in results] == obs
        assert [float(result.reward[0]) for result in results] == [11.5, 11.5, 0.0, 21.0, 21.0, 24.0, 0.0, 31.0]
        assert [bool(result.terminated[0]) for result in results] == [step == 1 for step in range(8)]
        assert [bool(result.truncated[0]) for result in results] == [step == 5 for step in range(8)]
        assert results[1].final_obs is not None
        assert results[5].final_obs is not None
        assert results[1].final_obs[0].tolist() == [1, 2, 0]
        assert results[5].final_obs[0].tolist() == [2, 3, 0]  # what is bootstrapped is no pause

    def test_only_the_copy_that_ended_pauses(self, make: Make) -> None:
        env = make(2, "own", "make_vectorised", mode="NextStep")
        env.reset()
        results = run(env, [0.1, 0.2, 0.3, 0.4])
        assert [result.obs[:, -1].tolist() for result in results] == [[0, 0], [1, 0], [0, 1], [0, 0]]
        assert results[2].reward.tolist() == pytest.approx([0.0, 23.3])
        assert isinstance(env.vector, Vectorised)
        copies, actions = zip(*env.vector.ignored, strict=True)
        assert copies == (0, 1)
        assert actions == pytest.approx((0.3, 0.4))

    def test_a_reset_ends_the_pause(self, make: Make) -> None:
        env = make(1, "own", "make_vectorised", mode="NextStep")
        env.reset()
        run(env, [0.0, 0.0])
        assert env.reset().tolist() == [[2, 0, 0]]
        assert run(env, [0.0])[0].reward.tolist() == [21.0]

    def test_the_longest_episode_counts_it(self) -> None:
        env = GymnasiumEnv(2, CPU, 0, "CartPole-v1", "own", {"max_episode_steps": 30})
        assert env.spec.max_episode_steps == 31
        check_env(env, 100)
        env.close()


class TestSuccesses:
    @pytest.mark.parametrize(
        ("way", "id", "args", "counted"),
        [
            ("sync", "Counter", {}, [0, 1, 0, 1, 0, 0]),
            ("async", "Counter", {}, [0, 1, 0, 1, 0, 0]),
            ("own", "make_library_vector", {"mode": "Disabled"}, [0, 1, 0, 1, 0, 0]),
            ("own", "make_library_vector", {"mode": "NextStep"}, [0, 1, 0, 0, 1, 0]),
            ("own", "make_vectorised", {"mode": "SameStep"}, [0, 0, 0, 0, 0, 0]),
        ],
    )
    def test_reaching_counts_once(
        self, make: Make, way: Vectorization, id: str, args: dict[str, Any], counted: list[int]
    ) -> None:
        """An episode is successful from its second step on: staying so is no further goal."""
        env = make(1, way, id, **args)
        env.reset()
        assert [int(result.successes[0]) for result in run(env, [0.0] * 6)] == counted

    def test_an_episode_does_not_take_over_the_success_of_the_one_before(self, make: Make) -> None:
        env = make(1, "sync", success=1)
        env.reset()
        assert [int(result.successes[0]) for result in run(env, [0.0] * 6)] == [1, 0, 1, 0, 0, 1]


class TestSpaces:
    @pytest.mark.parametrize(
        "space",
        [
            spaces.Box(-1, 1, (2, 3)),
            spaces.Box(0, 255, (2, 2, 3), np.uint8),
            spaces.Box(-1, 1, (), np.float64),
            spaces.Discrete(4, start=-1),
            spaces.MultiBinary((2, 2)),
            spaces.MultiDiscrete(np.array([[3, 2], [2, 4]])),
            spaces.MultiDiscrete([3, 2], start=[5, -1]),
            spaces.Dict({"b": spaces.Discrete(3), "a": spaces.Box(-1, 1, (2,)), "c": spaces.MultiDiscrete([2, 3])}),
            spaces.Tuple((spaces.Discrete(2), spaces.Dict(x=spaces.Box(0, 1, (2, 1)), y=spaces.MultiBinary(3)))),
        ],
        ids=str,
    )
    def test_rows_are_gymnasium_s_flatten(self, space: spaces.Space[Any]) -> None:
        from gymnasium.vector.utils import batch_space, iterate

        batched = batch_space(space, 5)
        batched.seed(0)
        rows = ObservationRows(space)
        for _ in range(3):
            batch = batched.sample()
            out = np.full((5, rows.size + 1), 9.0, dtype=np.float32)
            rows.write(batch, out)
            flat = [np.asarray(spaces.flatten(space, each)) for each in iterate(batched, batch)]
            expected = np.stack(flat).astype(np.float32)
            np.testing.assert_array_equal(out[:, :-1], expected)
            assert (out[:, -1] == 9.0).all()

    def test_box_actions_reach_from_bound_to_bound(self) -> None:
        space = spaces.Box(np.array([-3.0, 0.0], dtype=np.float32), np.array([1.0, 10.0], dtype=np.float32))
        scaled = ActionMap(space)(torch.tensor([[-1.0, -1.0], [1.0, 1.0], [0.5, 0.0]]))
        assert scaled.tolist() == [[-3.0, 0.0], [1.0, 10.0], [0.0, 5.0]]
        assert scaled.dtype == np.float32

    def test_without_two_bounds_an_entry_is_passed_through(self) -> None:
        low, high = np.array([-np.inf, 0.0, -np.inf]), np.array([np.inf, np.inf, 0.5])
        scaled = ActionMap(spaces.Box(low, high, dtype=np.float64))(torch.tensor([[-0.75, -0.75, 0.75]]))
        assert scaled.tolist() == [[-0.75, 0.0, 0.5]]
        assert scaled.dtype == np.float64

    def test_actions_have_the_space_s_shape_and_no_memory_in_common(self) -> None:
        given = torch.tensor([[-1.0, 0.0, 0.5, 1.0]])
        scaled = ActionMap(spaces.Box(-1.0, 1.0, (2, 2)))(given)
        assert scaled.tolist() == [[[-1.0, 0.0], [0.5, 1.0]]]
        scaled[:] = 9.0
        assert given.tolist() == [[-1.0, 0.0, 0.5, 1.0]]

    def test_choices_begin_at_their_start(self) -> None:
        choose = ActionMap(spaces.Discrete(3, start=-1))
        assert (choose.size, choose.discrete) == (3, True)
        assert choose(torch.tensor([0, 2, 1])).tolist() == [-1, 1, 0]

    @pytest.mark.parametrize(
        "space",
        [spaces.MultiDiscrete([2, 2]), spaces.MultiBinary(3), spaces.Box(0, 9, (2,), np.int64), spaces.Dict()],
        ids=str,
    )
    def test_other_actions_are_refused(self, space: spaces.Space[Any]) -> None:
        with pytest.raises(ValueError, match=r"init_args\.id: actions must be Discrete, or a Box of floats"):
            ActionMap(space)

    @pytest.mark.parametrize("space", [spaces.Text(3), spaces.Tuple((spaces.Sequence(spaces.Discrete(2)),))], ids=str)
    def test_other_observations_are_refused(self, space: spaces.Space[Any]) -> None:
        with pytest.raises(ValueError, match=r"init_args\.id: observations must be Box, Discrete"):
            ObservationRows(space)


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


class Drawn(Counter):
    """Shows its copy's clock as a level of grey."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012

    def __init__(self, render_mode: str | None = None) -> None:
        super().__init__()
        self.render_mode = render_mode

    def render(self) -> np.ndarray:
        return np.full((10, 20, 3), 50 * self.clock, dtype=np.uint8)


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
