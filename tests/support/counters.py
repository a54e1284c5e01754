"""Tasks of Gymnasium that count their own steps, alone and as vector environments with every moment of reset."""

from collections.abc import Callable, Iterator
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv
from torch import Tensor

from epo_lightning.envs.base import StepResult
from epo_lightning.envs.gymnasium import GymnasiumEnv
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


class Drawn(Counter):
    """Shows its copy's clock as a level of grey."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012

    def __init__(self, render_mode: str | None = None) -> None:
        super().__init__()
        self.render_mode = render_mode

    def render(self) -> np.ndarray:
        return np.full((10, 20, 3), 50 * self.clock, dtype=np.uint8)


def counted(
    num_envs: int = 1, vectorization: Vectorization = "sync", id: str = "Counter", **env_args: dict[str, Any]
) -> GymnasiumEnv:
    return GymnasiumEnv(num_envs, CPU, 0, f"{HERE}:{id}", vectorization, env_args)


def closed_counters() -> Iterator[Make]:
    """For a fixture `make`: `counted`, closed at the end."""
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
