"""Tasks of Gymnasium with episodes of three steps: a plain one, whose heirs are odd, and two that reuse their array."""

from collections.abc import Callable, Iterator
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

from epo_lightning.envs.base import StepResult
from epo_lightning.envs.gymnasium import GymnasiumEnv

CPU = torch.device("cpu")
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


class Reuses(Plain):
    """Returns the same array in every step and in every reset."""

    def __init__(self) -> None:
        super().__init__()
        self.buffer = np.zeros(2, dtype=np.float32)

    def look(self) -> Any:
        self.buffer[:] = self.episode, self.clock
        return self.buffer


class ReusesInADict(Reuses):
    """Returns a new dict of views."""

    observation_space = spaces.Dict({"a": spaces.Box(0.0, 100.0, (1,)), "b": spaces.Box(0.0, 100.0, (1,))})

    def look(self) -> Any:
        buffer = super().look()
        return {"a": buffer[:1], "b": buffer[1:]}


def steps_of(env: GymnasiumEnv, count: int) -> list[StepResult]:
    """Copies of what `count` steps return."""
    results = []
    for _ in range(count):
        result = env.step(env.spec.zero_actions())
        copies: dict[str, Any] = {f: v.clone() for f, v in result._asdict().items() if isinstance(v, torch.Tensor)}
        results.append(result._replace(**copies))
    return results


def closed_tasks(request: pytest.FixtureRequest) -> Iterator[Make]:
    """For a fixture `make`: builds a `GymnasiumEnv` of a task of the test's file, closed at the end."""
    made: list[GymnasiumEnv] = []

    def build(id: str, vectorization: Any = "sync", num_envs: int = 2, **env_args: Any) -> GymnasiumEnv:
        made.append(GymnasiumEnv(num_envs, CPU, 0, f"{request.module.__name__}:{id}", vectorization, env_args))
        return made[-1]

    yield build
    for env in made:
        env.close()
