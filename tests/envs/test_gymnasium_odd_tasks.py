"""Tasks that are at odds with Gymnasium's interface: each is right, or is one line that names what is odd."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.command_line import Cli

pytest.importorskip("gymnasium")
import gymnasium

from epo_lightning.envs.gymnasium import GymnasiumEnv
from tests.support.plain_tasks import CPU, LIMIT, Make, Plain, ReusesInADict, closed_tasks, steps_of

HERE = __name__

make = pytest.fixture(closed_tasks)


def an_episode(env: GymnasiumEnv) -> None:
    """From the reset to the first observation of the next one."""
    env.reset()
    steps_of(env, LIMIT)


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
