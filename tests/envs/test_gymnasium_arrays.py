"""Arrays that a task of Gymnasium returns, or a vector environment of one's own: reused ones, odd ones, and none."""

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.support.sameness import assert_same

pytest.importorskip("gymnasium")
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv

from tests.support.plain_tasks import LIMIT, Make, Plain, Reuses, ReusesInADict, closed_tasks, steps_of

make = pytest.fixture(closed_tasks)


class ReusesAView(Reuses):
    """Returns a new view of it each time."""

    def look(self) -> Any:
        return super().look()[:]


class ReusesADict(ReusesInADict):
    """Returns the same dict each time."""

    def look(self) -> Any:
        self.mine = getattr(self, "mine", {})
        self.mine |= super().look()
        return self.mine


class ReusesInATuple(Reuses):
    """Returns a new tuple of views."""

    observation_space = spaces.Tuple((spaces.Box(0.0, 100.0, (1,)), spaces.Box(0.0, 100.0, (1,))))

    def look(self) -> Any:
        buffer = super().look()
        return buffer[:1], buffer[1:]


def sync_of(num_envs: int, task: str, mode: str) -> VectorEnv:
    """Gymnasium's own vector environment, made by the user's function."""
    return SyncVectorEnv([globals()[task]] * num_envs, autoreset_mode=AutoresetMode(mode))


class OneBuffer(VectorEnv):
    """Two counters in one batch that every call changes and returns, in any mode."""

    single_observation_space, single_action_space = Plain.observation_space, Plain.action_space

    def __init__(self, num_envs: int, mode: str, final: str = "copy") -> None:
        self.num_envs, self.mode, self.final = num_envs, AutoresetMode(mode), final
        self.metadata = {"autoreset_mode": self.mode}
        self.obs = np.zeros((num_envs, 2), dtype=np.float32)
        self.done = np.zeros(num_envs, dtype=bool)

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> Any:
        self._begin((options or {}).get("reset_mask", np.ones(self.num_envs, dtype=bool)))
        return self.obs, {}

    def _begin(self, mask: np.ndarray) -> None:
        self.obs[mask, 0] += 1
        self.obs[mask, 1] = 0
        self.done[mask] = False

    def step(self, actions: Any) -> Any:
        paused = self.done.copy()
        self._begin(paused)
        self.obs[~paused, 1] += 1
        self.done = self.obs[:, 1] == LIMIT
        truncated, infos = self.done.copy(), {}
        if self.mode is AutoresetMode.SAME_STEP and truncated.any():
            infos = {"final_obs": self.obs.copy() if self.final == "copy" else self.obs[:]}
            self._begin(self.done)
        return self.obs, np.zeros(self.num_envs), np.zeros(self.num_envs, dtype=bool), truncated, infos


class TestFinalObservations:
    @pytest.mark.parametrize(
        "task", ["Plain", "Reuses", "ReusesAView", "ReusesInADict", "ReusesADict", "ReusesInATuple"]
    )
    @pytest.mark.parametrize(
        ("vectorization", "mode"),
        [("sync", ""), ("async", ""), ("own", "SameStep"), ("own", "NextStep"), ("own", "Disabled")],
    )
    def test_are_of_the_end_though_the_task_reuses_its_array(
        self, make: Make, task: str, vectorization: str, mode: str
    ) -> None:
        env = make("sync_of", "own", task=task, mode=mode) if mode else make(task, vectorization)
        env.reset()
        for episode in (1, 2):
            results = steps_of(env, LIMIT)
            assert [result.truncated.all().item() for result in results] == [False, False, True]
            assert results[-1].final_obs is not None
            assert results[-1].final_obs[:, :2].tolist() == [[episode, LIMIT]] * 2
            if mode == "NextStep":
                assert results[-1].obs[:, :2].tolist() == [[episode, LIMIT]] * 2
                results = steps_of(env, 1)  # the pause
            assert results[-1].obs[:, :2].tolist() == [[episode + 1, 0]] * 2

    @pytest.mark.parametrize("mode", ["SameStep", "NextStep", "Disabled"])
    def test_are_of_the_end_though_a_vector_environment_reuses_its_batch(self, make: Make, mode: str) -> None:
        env = make("OneBuffer", "own", mode=mode)
        env.reset()
        results = steps_of(env, LIMIT)
        assert results[-1].final_obs is not None
        assert results[-1].final_obs[:, :2].tolist() == [[1, LIMIT]] * 2
        assert results[-2].final_obs is not None

    def test_that_lie_in_the_observations_are_named(self, make: Make) -> None:
        env = make("OneBuffer", "own", mode="SameStep", final="view")
        env.reset()
        steps_of(env, LIMIT - 1)
        with pytest.raises(ValueError, match=r"init_args\.id: OneBuffer: infos\['final_obs'\] is the memory of"):
            steps_of(env, 1)


class OddBatch(OneBuffer):
    """Changes one of the five values of `step`, or the two of `reset`."""

    def __init__(self, num_envs: int, part: int = -1, kind: str = "") -> None:
        super().__init__(num_envs, "SameStep")
        self.part, self.change = part, BATCHES[kind] if kind else None

    def step(self, actions: Any) -> Any:
        result = list(super().step(actions))
        if self.change is not None and self.part >= 0:
            result[self.part] = self.change(result[self.part])
        return tuple(result) if self.part >= 0 or self.change is None else self.change(tuple(result))


BATCHES: dict[str, Callable[[Any], Any]] = {
    "column": lambda x: x[:, None],
    "one": lambda x: x[:1],
    "list": lambda x: x.tolist(),
    "nothing": lambda x: None,
    "words": lambda x: np.array(["a"] * len(x)),
    "narrow": lambda x: x[:, :1],
    "four": lambda x: x[:4],
}


class TestOwnVectors:
    @pytest.mark.parametrize(("part", "kind"), [(1, "column"), (1, "list"), (2, "column"), (3, "list")])
    def test_what_can_be_read_is_read(self, make: Make, part: int, kind: str) -> None:
        env, plain = make("OddBatch", "own", part=part, kind=kind), make("OddBatch", "own")
        env.reset()
        plain.reset()
        for mine, other in zip(steps_of(env, 4), steps_of(plain, 4), strict=True):
            assert_same(mine[:6], other[:6])

    @pytest.mark.parametrize(
        ("part", "kind", "words"),
        [
            (0, "narrow", "an observation must have shape (2, 2), as observation_space says; got (2, 1)"),
            (0, "one", "an observation must have shape (2, 2)"),
            (0, "nothing", "an observation must have shape (2, 2)"),
            (1, "one", "rewards must be 2 numbers, got float64 of shape (1,)"),
            (1, "words", "rewards must be 2 numbers"),
            (2, "nothing", "terminations must be 2 numbers"),
            (3, "one", "truncations must be 2 numbers"),
            (4, "nothing", "info of step() must be a dict, got NoneType"),
            (-1, "four", "step() must return 5 values, the last one info; got 4 values"),
            (-1, "nothing", "step() must return 5 values, the last one info; got NoneType"),
        ],
    )
    def test_what_cannot_is_named(self, make: Make, part: int, kind: str, words: str) -> None:
        env = make("OddBatch", "own", part=part, kind=kind)
        env.reset()
        with pytest.raises(ValueError, match=r"data\.env\.init_args\.id: .*" + re.escape(words)):
            steps_of(env, 1)

    def test_metadata_of_nothing(self, make: Make) -> None:
        with pytest.raises(ValueError, match=r"metadata\['autoreset_mode'\] of .* got None"):
            make("without_metadata", "own")

    def test_a_choice_that_is_none(self) -> None:
        from epo_lightning.envs.gymnasium.observations import ObservationRows

        rows = ObservationRows(spaces.Discrete(3, start=1))
        for choice in (0, 4):
            with pytest.raises(ValueError, match=r"init_args\.id: an observation is no choice of observation_space"):
                rows.write(np.array([1, choice]), np.zeros((2, 3), dtype=np.float32))


def without_metadata(num_envs: int) -> VectorEnv:
    env = OneBuffer(num_envs, "SameStep")
    env.metadata = None  # type: ignore[assignment]
    return env
