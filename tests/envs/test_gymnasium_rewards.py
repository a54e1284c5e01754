"""Rewards and successes of Gymnasium's tasks: every way to say a number is read, and anything else is one line."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("gymnasium")
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv

from tests.support.plain_tasks import LIMIT, Make, Plain, closed_tasks, steps_of

make = pytest.fixture(closed_tasks)


REWARDS: dict[str, Callable[[float], Any]] = {
    "array of one": lambda r: np.array([r]),
    "0-d array": np.array,
    "float32": np.float32,
    "column": lambda r: np.array([[r]]),
    "list": lambda r: [r],
    "tensor": torch.tensor,
    "tensor of one": lambda r: torch.tensor([r]),
}
NO_REWARDS: dict[str, Callable[[float], Any]] = {
    "nothing": lambda r: None,
    "string": str,
    "two": lambda r: np.array([r, r]),
    "none": lambda r: np.zeros(0),
    "dict": lambda r: {"reward": r},
}


class OddReward(Plain):
    def __init__(self, kind: str, late: int = 0) -> None:
        super().__init__(late)
        self.convert = (REWARDS | NO_REWARDS)[kind]

    def odd(self, obs: Any, reward: Any, terminated: bool, truncated: bool, info: Any) -> Any:
        return obs, self.convert(reward), terminated, truncated, info


class IntReward(Plain):
    def odd(self, obs: Any, reward: Any, terminated: bool, truncated: bool, info: Any) -> Any:
        return obs, self.clock, np.bool_(terminated), np.array([truncated]), info


class BoolReward(Plain):
    def odd(self, obs: Any, reward: Any, terminated: bool, truncated: bool, info: Any) -> Any:
        return obs, self.clock == 2, terminated, truncated, info


@pytest.mark.parametrize("vectorization", ["sync", "async"])
class TestRewards:
    @pytest.mark.parametrize("kind", REWARDS)
    def test_of_one_number_are_that_number(self, make: Make, kind: str, vectorization: str) -> None:
        env = make("OddReward", vectorization, kind=kind)
        env.reset()
        assert [result.reward.tolist() for result in steps_of(env, 4)] == [[0.5] * 2, [1.0] * 2, [1.5] * 2, [0.5] * 2]

    @pytest.mark.parametrize(("task", "rewards"), [("IntReward", [1, 2, 3, 1]), ("BoolReward", [0, 1, 0, 0])])
    def test_of_other_types(self, make: Make, task: str, rewards: list[int], vectorization: str) -> None:
        env = make(task, vectorization)
        env.reset()
        results = steps_of(env, 4)
        assert [result.reward.tolist() for result in results] == [[reward] * 2 for reward in rewards]
        assert [result.truncated.tolist() for result in results] == [[step == 2] * 2 for step in range(4)]

    @pytest.mark.parametrize("late", [0, 4])
    @pytest.mark.parametrize("kind", NO_REWARDS)
    def test_of_no_number_are_named(self, make: Make, kind: str, vectorization: str, late: int) -> None:
        env = make("OddReward", vectorization, kind=kind, late=late)
        env.reset()
        steps_of(env, late)
        with pytest.raises(ValueError, match=r"data\.env\.init_args\.id: OddReward: the reward must be a number, got"):
            steps_of(env, 1)


SUCCESSES: dict[str, tuple[Any, bool]] = {
    "bool": (True, True),
    "numpy bool": (np.bool_(True), True),
    "one": (1, True),
    "float": (1.0, True),
    "zero": (0.0, False),
    "array of one": (np.array([1.0]), True),
    "nothing": (None, False),
    "nan": (float("nan"), False),
}
NO_SUCCESSES: dict[str, Any] = {"string": "yes", "list": [1, 0], "array": np.zeros(3), "dict": {"a": 1}, "empty": []}


class Tells(Plain):
    def __init__(self, kind: str, late: int = 0, name: str = "success") -> None:
        super().__init__(late)
        self.value, self.name = ({k: v for k, (v, _) in SUCCESSES.items()} | NO_SUCCESSES)[kind], name

    def odd(self, obs: Any, reward: Any, terminated: bool, truncated: bool, info: Any) -> Any:
        return obs, reward, terminated, truncated, {self.name: self.value, "other": [1, "x"], "deep": {"er": None}}


class TestSuccess:
    @pytest.mark.parametrize("name", ["success", "is_success"])
    @pytest.mark.parametrize("way", ["sync", "async", "own"])
    @pytest.mark.parametrize("kind", SUCCESSES)
    def test_by_a_number(self, make: Make, kind: str, way: str, name: str) -> None:
        args = {"kind": kind, "name": name}
        env = make("sync_of_tells", "own", **args) if way == "own" else make("Tells", way, **args)
        env.reset()
        wanted = float(SUCCESSES[kind][1])
        assert [result.successes.tolist() for result in steps_of(env, 4)] == [
            [wanted] * 2,
            [0.0] * 2,
            [0.0] * 2,
            [wanted] * 2,
        ]

    @pytest.mark.parametrize("late", [0, LIMIT - 1, LIMIT])  # at the end of an episode, too
    @pytest.mark.parametrize("way", ["sync", "async", "own"])
    @pytest.mark.parametrize("kind", NO_SUCCESSES)
    def test_by_something_else_is_named(self, make: Make, kind: str, way: str, late: int) -> None:
        args = {"kind": kind, "late": late}
        env = make("sync_of_tells", "own", **args) if way == "own" else make("Tells", way, **args)
        env.reset()
        steps_of(env, late)
        with pytest.raises(ValueError, match=r"init_args\.id: \w+: info\['success'\] must be a bool or a number, got"):
            steps_of(env, 1)


def sync_of_tells(num_envs: int, **args: Any) -> VectorEnv:
    return SyncVectorEnv([lambda: Tells(**args)] * num_envs, autoreset_mode=AutoresetMode.SAME_STEP)
