"""`Lab`: what Isaac Lab and mjlab have in common."""

from __future__ import annotations

import importlib.metadata
import sys
from typing import Any

import numpy as np

from .mistakes import OPTIONS, Mistake, choice, need
from .observed import Observed
from .terms import action_terms, observation_terms


class Lab:
    """What Isaac Lab and mjlab have in common: mjlab keeps to Isaac Lab's interface.

    Actions from [-1, 1] go to the task's action terms times `action_scale`; to the task's own bounds where it has some.
    Neither simulator can save running episodes: only the step counter that their curricula follow is kept.

    Args:
        env: The environment, with tensors on its own device.
        task: Its name.
        observations: Observation group that actors see, or several; None: policy or actor.
        privileged: Group, or several, that only a critic of its own sees; None for none.
        success: Termination term (of mjlab also: command term) that counts successes, at most one per episode.
        action_scale: What the task's action terms are given for an action of 1.

    Raises:
        Mistake: When the task has no such group or term, or no vectors or images to see, or no flat continuous actions.
    """

    def __init__(
        self,
        env: Any,
        task: str,
        observations: str | list[str] | None,
        privileged: str | list[str] | None,
        success: str | None,
        action_scale: float,
    ) -> None:
        self.torch: Any = sys.modules["torch"]
        base = env.unwrapped
        self.env, self.base, self.name = env, base, task
        self.num_envs, self.step_seconds = base.num_envs, base.step_dt
        self.finite_horizon = bool(getattr(base.cfg, "is_finite_horizon", False))

        space = base.single_action_space
        if type(space).__name__ != "Box" or len(space.shape) != 1:
            raise Mistake(f"{OPTIONS}.task: {task} takes {space}, but only a flat Box of actions can be trained here")
        self.act_dim = int(space.shape[0])
        low, high = (np.broadcast_to(np.asarray(bound, np.float32), space.shape) for bound in (space.low, space.high))
        bounded = np.isfinite(low) & np.isfinite(high)
        with np.errstate(invalid="ignore"):
            middle, half = np.where(bounded, (low + high) / 2, 0.0), np.where(bounded, (high - low) / 2, action_scale)
        self.middle, self.half = (
            self.torch.tensor(each, dtype=self.torch.float32, device=base.device) for each in (middle, half)
        )

        spaces = dict(base.single_observation_space.spaces)
        seen = as_list(observations or ("policy" if "policy" in spaces else "actor"))
        self.observed = Observed(self.torch, spaces, task, seen, as_list(privileged or []))
        self.obs_dim, self.groups = self.observed.obs_dim, self.observed.groups
        self.signals = {
            "observation": observation_terms(base, self.observed.parts),
            "action": action_terms(base, middle - half, middle + half),
        }

        self.ends: Any = getattr(base, "termination_manager", None)
        terms = list(self.ends.active_terms) if self.ends is not None else []
        limited = self.ends is None or any(
            getattr(self.ends.get_term_cfg(term).func, "__name__", "") == "time_out" for term in terms
        )
        self.max_episode_steps = int(base.max_episode_length) if limited and base.max_episode_length >= 1 else None
        if success is not None and success not in self.success_terms():
            known = self.success_terms()
            what = choice("has the terms", success, known) if known else f"has no terms; got {success!r}"
            raise Mistake(f"{OPTIONS}.success: {task} {what}")
        self.success = success
        self.held: int | None = None
        self.versions: dict[str, str] = {}

    def success_terms(self) -> list[str]:
        """Terms that can tell a success."""
        return list(self.ends.active_terms) if self.ends is not None else []

    def reset(self) -> Any:
        """New episodes; their first observations, (N, O)."""
        return self.observed.rows(self.env.reset()[0])

    def reset_late(self, over: np.ndarray) -> Any:
        """New episodes, of whose time limit the shares `over` (N,) are over; the observations are those of `reset`.

        Raises:
            Mistake: When the task has no time limit.
        """
        if self.max_episode_steps is None:
            raise Mistake(f"model.rollout.staggered_starts: {self.name} has no time limit in which to begin late")
        obs, clocks = self.reset(), self.base.episode_length_buf
        clocks[:] = self.torch.from_numpy((over * self.max_episode_steps).astype(np.int64)).to(clocks.device)
        return obs

    def act(self, actions: np.ndarray) -> tuple[Any, ...]:
        """The simulator's own step, with `terminated` and `truncated` as the learner means them."""
        given = self.torch.from_numpy(actions).to(self.base.device) * self.half + self.middle
        obs, reward, terminated, truncated, extras = self.env.step(given)
        if self.held is not None:
            self.base.common_step_counter = self.held
        if self.finite_horizon:  # the time limit is part of the task: nothing comes after it
            terminated = terminated | truncated
        return obs, reward, terminated, truncated, extras

    def curriculum(self) -> dict[str, float]:
        """The step counter that the task's own curricula follow."""
        return {"common_step_counter": float(self.base.common_step_counter)}

    def set_curriculum(self, values: dict[str, float], hold: bool) -> None:
        """Set the step counter; with `hold`, it stands still from then on.

        Raises:
            Mistake: When `values` does not have it.
        """
        if "common_step_counter" not in values:
            raise Mistake(f"data.env: {self.name} has the curriculum common_step_counter, got {sorted(values)}")
        self.base.common_step_counter = int(values["common_step_counter"])
        self.held = self.base.common_step_counter if hold else None

    def log(self, entries: dict[str, Any]) -> dict[str, float]:
        """The finite numbers among `entries`; tensors come from the device all at once."""
        tensors = {name: value for name, value in entries.items() if self.torch.is_tensor(value)}
        numbers = {name: float(value) for name, value in entries.items() if isinstance(value, (int, float, np.number))}
        if tensors:
            means = self.torch.stack([value.float().mean().to(self.base.device) for value in tensors.values()]).tolist()
            numbers.update((name, means[i]) for i, name in enumerate(tensors))
        return {name: value for name, value in numbers.items() if np.isfinite(value)}

    def close(self) -> None:
        """Close the simulator's environment."""
        self.env.close()


def as_list(names: str | list[str]) -> list[str]:
    """One name, or several."""
    return [names] if isinstance(names, str) else list(names)


def usable_device(device: str, package: str) -> Any:
    """torch, when it has this device.

    Raises:
        Mistake: When it has not.
    """
    torch = need("torch", package)
    if device.split(":")[0] not in ("cpu", "cuda"):
        raise Mistake(f"{OPTIONS}.device must be cpu or cuda:0 for {package}, got {device!r}")
    if device != "cpu" and not torch.cuda.is_available():
        raise Mistake(f"{OPTIONS}.device: {sys.executable} sees no GPU for {device}; set it to cpu, if the task allows")
    if device == "cpu":
        torch.set_num_threads(1)  # its tensors are small, and idle threads would spin on the physics' cores
    return torch


def set_fields(config: Any, task: str, settings: dict[str, Any]) -> None:
    """Set fields of a task's configuration, each named by its path such as sim.dt.

    Raises:
        Mistake: When there is no such field.
    """
    for path, value in settings.items():
        owner, names = config, path.split(".")
        for depth, name in enumerate(names):
            fields = owner if isinstance(owner, dict) else vars(owner) if hasattr(owner, "__dict__") else {}
            if name not in fields:
                where = ".".join(names[:depth]) or task
                what = choice("has the fields", name, [*fields]) if fields else f"has no fields; got {name!r}"
                raise Mistake(f"{OPTIONS}.settings: {where} {what}")
            if depth + 1 < len(names):
                owner = fields[name]
            elif isinstance(owner, dict):
                owner[name] = value
            else:
                setattr(owner, name, tuple(value) if isinstance(fields[name], tuple) else value)


def version(package: str) -> str:
    """Of an installed distribution."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"
