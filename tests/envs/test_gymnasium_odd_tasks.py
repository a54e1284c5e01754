"""Tasks that use Gymnasium's interface in odd ways: each is right, or is one line that names what is odd."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from epo_lightning.envs.base import StepResult
from tests.support.command_line import Cli
from tests.support.sameness import assert_same

pytest.importorskip("gymnasium")
import gymnasium
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv

from epo_lightning.envs.gymnasium import GymnasiumEnv
from epo_lightning.envs.gymnasium.actions import ActionMap

CPU = torch.device("cpu")
HERE = __name__
Make = Callable[..., GymnasiumEnv]
LIMIT = 3
"""Steps of an episode."""


class Plain(gymnasium.Env[Any, Any]):
    """Observes (episodes begun, steps of this one), is truncated after three steps. Its heirs are odd in one thing.

    From the `late`-th step of all on, `odd` changes what `step` returns.
    """

    observation_space: Any = spaces.Box(0.0, 100.0, (2,))
    action_space: Any = spaces.Box(-1.0, 1.0, (1,))

    def __init__(self, late: int = 0) -> None:
        self.episode = self.clock = self.steps = 0
        self.late = late

    def look(self) -> Any:
        return np.array([self.episode, self.clock], dtype=np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.episode, self.clock = self.episode + 1, 0
        return self.look(), {}

    def step(self, action: Any) -> Any:
        self.clock, self.steps = self.clock + 1, self.steps + 1
        info: dict[str, Any] = {}
        plain = self.look(), 0.5 * self.clock, False, self.clock == LIMIT, info
        return self.odd(*plain) if self.steps > self.late else plain

    def odd(self, obs: Any, reward: float, terminated: bool, truncated: bool, info: dict[str, Any]) -> Any:
        return obs, reward, terminated, truncated, info


def steps_of(env: GymnasiumEnv, count: int) -> list[StepResult]:
    """Copies of what `count` steps return."""
    results = []
    for _ in range(count):
        result = env.step(env.spec.zero_actions())
        copies: dict[str, Any] = {f: v.clone() for f, v in result._asdict().items() if isinstance(v, torch.Tensor)}
        results.append(result._replace(**copies))
    return results


def an_episode(env: GymnasiumEnv) -> None:
    """From the reset to the first observation of the next one."""
    env.reset()
    steps_of(env, LIMIT)


@pytest.fixture
def make() -> Iterator[Make]:
    """Builds a `GymnasiumEnv` of this file's tasks, closed at the end."""
    made: list[GymnasiumEnv] = []

    def build(id: str, vectorization: Any = "sync", num_envs: int = 2, **env_args: Any) -> GymnasiumEnv:
        made.append(GymnasiumEnv(num_envs, CPU, 0, f"{HERE}:{id}", vectorization, env_args))
        return made[-1]

    yield build
    for env in made:
        env.close()


# Observations in one array ------------------------------------------------------------------------------------------


class Reuses(Plain):
    """Returns the same array in every step and in every reset."""

    def __init__(self) -> None:
        super().__init__()
        self.buffer = np.zeros(2, dtype=np.float32)

    def look(self) -> Any:
        self.buffer[:] = self.episode, self.clock
        return self.buffer


class ReusesAView(Reuses):
    """Returns a new view of it each time."""

    def look(self) -> Any:
        return super().look()[:]


class ReusesInADict(Reuses):
    """Returns a new dict of views."""

    observation_space = spaces.Dict({"a": spaces.Box(0.0, 100.0, (1,)), "b": spaces.Box(0.0, 100.0, (1,))})

    def look(self) -> Any:
        buffer = super().look()
        return {"a": buffer[:1], "b": buffer[1:]}


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


# Rewards, flags and info --------------------------------------------------------------------------------------------

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


# The interface itself -----------------------------------------------------------------------------------------------


class OldReset(Plain):
    def reset(self, **kwargs: Any) -> Any:
        return super().reset(**kwargs)[0]


class OlderReset(Plain):
    def reset(self) -> Any:  # type: ignore[override]
        return super().reset()[0]


class OldStep(Plain):
    def odd(self, obs: Any, reward: Any, terminated: bool, truncated: bool, info: Any) -> Any:
        return obs, reward, truncated, info


class StepOfNothing(Plain):
    def odd(self, *plain: Any) -> Any:
        return None


class NoInfo(Plain):
    def odd(self, obs: Any, reward: Any, terminated: bool, truncated: bool, info: Any) -> Any:
        return obs, reward, terminated, truncated, None


class NoFlag(Plain):
    def odd(self, obs: Any, reward: Any, terminated: bool, truncated: bool, info: Any) -> Any:
        return obs, reward, None, truncated, info


class OtherShape(Plain):
    def odd(self, obs: Any, *rest: Any) -> Any:
        return obs[:1], *rest


class NoObservation(Plain):
    def odd(self, obs: Any, *rest: Any) -> Any:
        return None, *rest


class Words(Plain):
    def odd(self, obs: Any, *rest: Any) -> Any:
        return np.array(["a", "b"]), *rest


class NoKey(ReusesInADict):
    def odd(self, obs: Any, *rest: Any) -> Any:
        return {"a": obs["a"]}, *rest


class BadStart(Plain):
    """Its second episode begins with an observation of another shape."""

    def look(self) -> Any:
        return np.zeros(3, np.float32) if self.episode == 2 and not self.clock else super().look()


FAULTS = {
    "OldReset": "reset() must return (observation, info)",
    "OlderReset": "reset() must take seed and options",
    "OldStep": "step() must return (observation, reward, terminated, truncated, info)",
    "StepOfNothing": "step() must return (observation, reward, terminated, truncated, info)",
    "NoInfo": "info must be a dict, got NoneType",
    "NoFlag": "terminated and truncated must be bools",
    "OtherShape": "step() returned an observation that must be numbers of shape (2,)",
    "NoObservation": "step() returned an observation that must be numbers of shape (2,)",
    "Words": "step() returned an observation that must be numbers of shape (2,)",
    "NoKey": "step() returned an observation ['b'] that is not there",
    "BadStart": "reset() returned an observation that must be numbers of shape (2,)",
}
for name in FAULTS:
    for limit in (None, 100):  # with a limit, Gymnasium's own wrapper meets the fault first
        gymnasium.register(f"{name}{limit or ''}-v0", globals()[name], max_episode_steps=limit)


class TestFaults:
    @pytest.mark.parametrize("fault", FAULTS)
    @pytest.mark.parametrize("vectorization", ["sync", "async"])
    def test_each_is_named_in_one_line(self, make: Make, fault: str, vectorization: str) -> None:
        with pytest.raises(ValueError, match=re.escape(f"data.env.init_args.id: {fault}: {FAULTS[fault]}")) as caught:
            an_episode(make(fault, vectorization))
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize("limit", ["", "100"])
    @pytest.mark.parametrize("fault", FAULTS)
    def test_of_registered_tasks_too(self, fault: str, limit: str) -> None:
        env = GymnasiumEnv(2, CPU, 0, f"{fault}{limit}-v0")
        with pytest.raises(ValueError, match=re.escape(FAULTS[fault])):
            an_episode(env)
        env.close()

    @pytest.mark.parametrize("fault", ["OldStep", "OldReset", "OtherShape"])
    @pytest.mark.parametrize("vectorization", ["sync", "async"])
    def test_the_command_line_says_it_in_one_line(self, cli: Cli, fault: str, vectorization: str) -> None:
        args = ("--data.env=epo_lightning.envs.gymnasium.GymnasiumEnv", f"--data.env.init_args.id={HERE}:{fault}")
        size = ("--data.num_envs=4", f"--data.env.init_args.vectorization={vectorization}")
        outcome = cli("fit", "--config", "tiny.yaml", *args, *size)
        assert outcome.code == 2
        assert outcome.err.startswith(f"error: data.env.init_args.id: {fault}: ")
        assert outcome.err.count("\n") == 1

    def test_what_the_task_raises_is_its_own(self, make: Make) -> None:
        env = make("Raises")
        with pytest.raises(ValueError, match="mine") as caught:
            env.reset()
        assert Path(caught.traceback[-1].path).name == "test_gymnasium_odd_tasks.py"

    def test_a_task_without_spaces(self, make: Make) -> None:
        with pytest.raises(ValueError, match=r"init_args\.id: NoSpace has no action_space"):
            make("NoSpace")

    def test_no_task_at_all(self) -> None:
        gymnasium.register("NoTask-v0", dict)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match=r"data\.env\.init_args\.id: NoTask-v0: .*must inherit from"):
            GymnasiumEnv(2, CPU, 0, "NoTask-v0")


class Raises(Plain):
    def reset(self, **kwargs: Any) -> Any:
        raise ValueError("mine")


class NoSpace(Plain):
    action_space = None


# Vector environments of one's own -----------------------------------------------------------------------------------


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


# Spaces -------------------------------------------------------------------------------------------------------------


def box(low: Any, high: Any, dtype: Any = np.float32) -> spaces.Box:
    return spaces.Box(np.array(low, dtype), np.array(high, dtype), dtype=dtype)


F32, F64 = float(np.finfo(np.float32).max), float(np.finfo(np.float64).max)


class TestActions:
    @pytest.mark.parametrize(
        ("space", "given", "wanted"),
        [
            (box([-F32], [F32]), 0.5, 0.5),
            (box([-F32], [np.inf]), -0.5, -0.5),
            (box([-F64], [F64], np.float64), 1.0, 1.0),
            (box([-F32], [F32], np.float64), -1.0, -1.0),
            (box([-65504.0], [65504.0], np.float16), 0.5, 0.5),
            (box([0.25], [F32]), -1.0, 0.25),  # half bounded: passed through, and stops at the bound
            (box([0.25], [F32]), 0.75, 0.75),
            (box([-F32], [0.5]), 1.0, 0.5),
            (box([-1e6], [1e6]), 0.5, 5e5),  # large, but a bound
            (box([2.0], [2.0]), -0.3, 2.0),  # nothing to choose
        ],
    )
    def test_the_largest_number_is_no_bound(self, space: Any, given: float, wanted: float) -> None:
        assert ActionMap(space)(torch.tensor([[given]])).tolist() == [[wanted]]

    @pytest.mark.parametrize(
        "space",
        [
            spaces.Box(-1, 1, (2,), np.int64),
            spaces.MultiBinary(3),
            spaces.MultiDiscrete([2, 3]),
            spaces.Tuple((spaces.Discrete(2),)),
            spaces.Dict(a=spaces.Box(-1, 1)),
            spaces.Box(-1.0, 1.0, (0,)),
        ],
        ids=str,
    )
    def test_what_is_no_action_is_named(self, space: Any) -> None:
        with pytest.raises(ValueError, match=r"data\.env\.init_args\.id: actions must be Discrete, or a Box of floats"):
            ActionMap(space)

    def test_bounds_that_are_none(self) -> None:
        space = box([-1.0], [1.0])
        for low in (np.nan, 2.0):
            space.low[:] = low
            with pytest.raises(ValueError, match=r"init_args\.id: an action needs low <= high, and no NaN"):
                ActionMap(space)


class TestObservations:
    @pytest.mark.parametrize(
        ("space", "value", "row"),
        [
            (spaces.Box(-1, 1, (), np.float64), 0.25, [0.25]),
            (spaces.Box(0, 255, (2,), np.uint8), np.array([3, 255], np.uint8), [3, 255]),
            (spaces.Box(-9, 9, (2,), np.int32), [3, -4], [3, -4]),
            (spaces.Discrete(3, start=5), np.int64(6), [0, 1, 0]),
            (spaces.MultiBinary(2), np.array([True, False]), [1, 0]),
            (spaces.Box(-1, 1, (2,), np.float32), np.array([0.5, 0.25]), [0.5, 0.25]),  # float64 for float32
        ],
        ids=str,
    )
    def test_of_every_kind(
        self, make: Make, monkeypatch: pytest.MonkeyPatch, space: Any, value: Any, row: list[float]
    ) -> None:
        monkeypatch.setattr(Plain, "observation_space", space)
        monkeypatch.setattr(Plain, "look", lambda self: value)
        env = make("Plain")
        assert env.reset().tolist() == [row] * 2
        results = steps_of(env, LIMIT)
        assert results[-1].final_obs is not None
        assert results[-1].final_obs.tolist() == results[-1].obs.tolist() == [row] * 2


# Pictures -----------------------------------------------------------------------------------------------------------


class NoRenderMode(Plain):
    """Says that it can draw, but its constructor takes no render_mode."""

    metadata: Any = {"render_modes": ["rgb_array"]}  # noqa: RUF012


class NoMetadata(Plain):
    metadata: Any = None


class DrawsNothing(Plain):
    metadata: Any = {"render_modes": ["rgb_array"], "render_fps": None}  # noqa: RUF012

    def __init__(self, render_mode: str | None = None) -> None:
        super().__init__()
        self.render_mode = render_mode

    def render(self) -> Any:
        return None


class DrawsFloats(DrawsNothing):
    def render(self) -> Any:
        return np.zeros((4, 4, 3))


for task in (NoRenderMode, DrawsNothing, DrawsFloats):
    gymnasium.register(f"{task.__name__}-v0", task)  # type: ignore[arg-type]  # one takes no render_mode


class TestPictures:
    @pytest.mark.parametrize(
        ("task", "words"),
        [
            ("NoRenderMode-v0", r"NoRenderMode-v0 has no pictures: it was made with render_mode None"),
            (f"{HERE}:NoMetadata", r"NoMetadata has no pictures: it was made with render_mode None"),
            ("DrawsNothing-v0", r"DrawsNothing-v0 cannot be drawn here: render\(\) must return .* uint8, got NoneType"),
            ("DrawsFloats-v0", r"DrawsFloats-v0 cannot be drawn here: render\(\) must return .* uint8, got float64"),
        ],
    )
    def test_a_task_that_cannot_is_trained_all_the_same(self, task: str, words: str) -> None:
        env = GymnasiumEnv(2, CPU, 0, task)
        env.reset()
        steps_of(env, LIMIT + 1)
        with pytest.raises(ValueError, match=words):
            env.render([0], 8, 8)
        env.close()
