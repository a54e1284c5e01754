"""One copy of a task, held to Gymnasium's interface."""

import copy
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.vector.utils import batch_space, create_empty_array, iterate
from gymnasium.wrappers import TimeLimit

from epo_lightning.envs.gymnasium.fault import FAULT
from epo_lightning.envs.gymnasium.observations import ObservationRows
from epo_lightning.envs.gymnasium.successes import SUCCESS, goal_of_one, number
from epo_lightning.limits import Mistake

_STEP = "step() must return (observation, reward, terminated, truncated, info), the interface since 0.26"
_LIBRARY = Path(gymnasium.__file__).parent
_TASKS = _LIBRARY / "envs"


class HeldCopy(gymnasium.Wrapper):
    """A task whose results are what Gymnasium's vector environments take, or whose fault stands in `info[FAULT]`.

    The observation of an end is a copy: tasks may return the same array in every step, and a reset would overwrite it.

    Args:
        env: The task.
        keeps_info: Pass on all of `info`; else only `SUCCESS`, which is all that is read.

    Raises:
        Mistake: When the task does not say its spaces, or its observations are not supported.
    """

    def __init__(self, env: gymnasium.Env, keeps_info: bool = False) -> None:
        super().__init__(env)
        for name in ("observation_space", "action_space"):
            if not isinstance(getattr(env, name, None), spaces.Space):
                raise Mistake(f"data.env.init_args.id: {type(env.unwrapped).__name__} has no {name}")
        self.metadata = dict(getattr(env, "metadata", None) or {})
        self.keeps_info = keeps_info
        space = env.observation_space
        self._rows, self._dtype = ObservationRows(space), space.dtype
        self._shape = space.shape if isinstance(space, spaces.Box) else None

    @property
    def share_over(self) -> float | None:
        """How much of its time limit the running episode has had, in [0, 1]; None where there is no `TimeLimit`."""
        limit = self._time_limit()
        return None if limit is None else (limit._elapsed_steps or 0) / limit._max_episode_steps

    @share_over.setter
    def share_over(self, share: float) -> None:
        limit = self._time_limit()
        assert limit is not None
        steps: Any = int(share * limit._max_episode_steps)  # declared as None, which it is before the first reset
        limit._elapsed_steps = steps

    def _time_limit(self) -> TimeLimit | None:
        env = self.env
        while isinstance(env, gymnasium.Wrapper) and not isinstance(env, TimeLimit):
            env = env.env
        return env if isinstance(env, TimeLimit) else None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """(observation, info)."""
        try:
            result: Any = self.env.reset(seed=seed, options=options)
        except TypeError as error:
            if "unexpected keyword argument" not in str(error):
                raise
            return self._nothing(), {FAULT: f"reset() must take seed and options ({error})"}
        if not (isinstance(result, tuple) and len(result) == 2 and isinstance(result[1], Mapping)):
            got = _describe(result)
            return self._nothing(), {FAULT: f"reset() must return (observation, info), the interface since 0.26: {got}"}
        obs, info = result
        if fault := self._misfit(obs):
            return self._nothing(), {FAULT: f"reset() returned {fault}"}
        return obs, dict(info) if self.keeps_info else {}

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """(observation, reward, terminated, truncated, info)."""
        try:
            result: Any = self.env.step(action)
        except Exception as error:
            if not _is_of_the_interface(error):
                raise
            rule = _STEP if "unpack" in str(error) else "step() does not keep Gymnasium's interface"
            return self._fault(f"{rule}: {error}")
        if not (isinstance(result, tuple) and len(result) == 5):
            return self._fault(f"{_STEP}: {_describe(result)}")
        obs, given, terminated, truncated, info = result
        if (  # the usual case, in a third of a microsecond
            type(obs) is np.ndarray
            and obs.shape == self._shape
            and obs.dtype == self._dtype
            and type(given) is float
            and terminated is False
            and truncated is False
            and info == {}
        ):
            return result
        reward, ended, cut = number(given), number(terminated), number(truncated)
        if reward is None:
            return self._fault(f"the reward must be a number, {_describe(given)}")
        if ended is None or cut is None:
            return self._fault(f"terminated and truncated must be bools, {_describe((terminated, truncated))}")
        if fault := self._misfit(obs):
            return self._fault(f"step() returned {fault}")
        if ended or cut:
            obs = copy.deepcopy(obs)
        if info == {}:
            return obs, reward, bool(ended), bool(cut), info
        if not isinstance(info, Mapping):
            return self._fault(f"info must be a dict, {_describe(info)}")
        try:
            goal = goal_of_one(info)
        except ValueError as error:
            return self._fault(str(error))
        kept: dict[str, Any] = dict(info) if self.keeps_info else {}
        if goal is not None:
            kept |= dict.fromkeys(SUCCESS, goal)
        return obs, reward, bool(ended), bool(cut), kept

    def _misfit(self, obs: object) -> str:
        """How the observation differs from its declared space; empty where it fits."""
        fits = type(obs) is np.ndarray and obs.shape == self._shape and obs.dtype.kind in "biuf"
        return "" if fits else self._rows.misfit(obs)

    def _fault(self, message: str) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return self._nothing(), 0.0, False, False, {FAULT: message}

    def _nothing(self) -> Any:
        space = self.env.observation_space
        return next(iter(iterate(batch_space(space, 1), create_empty_array(space, 1))))


def _is_of_the_interface(error: Exception) -> bool:
    """Whether Gymnasium's own wrappers raised it; what the task itself raises is not a fault of the interface."""
    origin = Path(traceback.extract_tb(error.__traceback__)[-1].filename)
    return _LIBRARY in origin.parents and _TASKS not in origin.parents


def _describe(value: object) -> str:
    if isinstance(value, tuple):
        return f"got a tuple of {', '.join(type(each).__name__ for each in value)}"
    shape = f" of shape {value.shape}" if isinstance(value, np.ndarray) else ""
    return f"got {type(value).__name__}{shape}"
