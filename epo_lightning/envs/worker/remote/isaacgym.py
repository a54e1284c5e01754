"""Tasks of Isaac Gym, through IsaacGymEnvs."""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

import numpy as np

from .memory import as_array
from .mistakes import OPTIONS, Mistake, choice, need, one_line


class IsaacGymTask:
    """A task of IsaacGymEnvs.

    Nearly all of its tasks reset at the beginning of the next step: with `done` comes the last observation of the old
    episode, and the first action of the new one is chosen from it. AnymalTerrain resets at once.

    Args:
        env: What `isaacgymenvs.make` returned.
        name: The task's name.
        torch: That interpreter's torch.
        versions: Of the packages.
        privileged: Show the task's states to a critic of its own.
    """

    def __init__(self, env: Any, name: str, torch: Any, versions: dict[str, str], privileged: bool = False) -> None:
        self.env, self.torch, self.versions = env, torch, versions
        self.name = f"IsaacGym/{name}"
        self.num_envs, self.obs_dim, self.act_dim = env.num_envs, env.num_obs, env.num_acts
        if not self.obs_dim or getattr(env, "num_agents", 1) != 1:
            raise Mistake(f"{OPTIONS}.task: {name} must return one flat vector of observations per environment")
        states = int(getattr(env, "num_states", 0)) if privileged else 0
        if privileged and not states:
            raise Mistake(f"{OPTIONS}.privileged: {name} has no states, set it to false")
        self.groups = [("obs", self.obs_dim, False), ("states", states, True)] if states else []
        self.obs_dim += states
        self.most_goals = int(getattr(env, "max_consecutive_successes", 0))
        # where goals are counted, a goal that is reached sets the clock back
        self.max_episode_steps = int(env.max_episode_length) * max(1, self.most_goals)
        self.step_seconds = float(env.dt) * int(env.control_freq_inv)
        self.resets_at_once = name == "AnymalTerrain"
        self.ended = np.zeros(self.num_envs, bool)
        self.reached = np.zeros(self.num_envs, np.float32)

    def reset(self) -> Any:
        """End all episodes; the first step of the new ones has the action 0, as the observation needs one."""
        env = self.env
        if self.resets_at_once:
            env.reset_idx(self.torch.arange(self.num_envs, device=env.device))
        else:
            env.reset_buf[:] = 1
        obs = env.step(env.zero_actions())[0]
        self.ended, self.reached = as_array(env.reset_buf) != 0, self._reached()
        return self._pick(obs)

    def _pick(self, obs: dict[str, Any]) -> Any:
        """What is observed: one array, or the groups by name."""
        return {name: obs[name] for name, _, _ in self.groups if name in obs} if self.groups else obs["obs"]

    def reset_late(self, over: np.ndarray) -> Any:
        """New episodes, of whose time limit the shares `over` (N,) are over; the observations are those of `reset`."""
        obs, clocks = self.reset(), self.env.progress_buf
        steps = (over * (int(self.env.max_episode_length) - 1)).astype(np.int64)
        late = np.maximum(as_array(clocks), steps)  # the first step has been made
        clocks[:] = self.torch.from_numpy(late.astype(np.int64)).to(self.env.device)
        return obs

    def step(self, actions: np.ndarray) -> tuple[Any, ...]:
        """One control step; see `Server.step`."""
        env = self.env
        before = as_array(env.progress_buf).copy() if self.resets_at_once else None
        obs, reward, reset, info = env.step(self.torch.from_numpy(actions).to(env.rl_device))
        done, reached = as_array(reset) != 0, self._reached()
        cut = self._timed_out(before, info)
        if self.most_goals:
            cut = cut | (reached >= self.most_goals)  # a time limit: the episode has a future that is not simulated
        successes = np.maximum(reached - np.where(self.ended, 0.0, self.reached), 0.0)
        self.ended, self.reached = done, reached
        extras, seen = {"successes": successes, "log": self._log(info)}, self._pick(obs)
        if not self.resets_at_once:
            extras["final_obs"] = seen
        return seen, reward, done & ~cut, done & cut, extras

    def _timed_out(self, before: np.ndarray | None, info: dict[str, Any]) -> np.ndarray:
        """(N,) whether the time is up, from the clocks `before` the step or from what the task tells after it."""
        last = int(self.env.max_episode_length) - 1
        over: np.ndarray
        if before is not None:
            over = before + 1 >= last
        elif "time_outs" in info:
            over = as_array(info["time_outs"]) != 0
        else:
            over = as_array(self.env.progress_buf) >= last
        return over

    def curriculum(self) -> dict[str, float]:
        """The tolerance reached, in metres, of the tasks that have one."""
        return {"tolerance": self.env.success_tolerance} if hasattr(self.env, "success_tolerance") else {}

    def set_curriculum(self, values: dict[str, float], hold: bool) -> None:
        """Take over a tolerance."""
        if "tolerance" in values:
            self.env.success_tolerance = values["tolerance"]
            self.env.__dict__.pop("_extra_curriculum", None)
            if hold:
                self.env._extra_curriculum = keep_tolerance

    def _reached(self) -> np.ndarray:
        """(N,) goals reached in the running episodes; where they have just ended: in those."""
        count = getattr(self.env, "successes", None)
        if tuple(getattr(count, "shape", ())) != (self.num_envs,):
            return np.zeros(self.num_envs, np.float32)
        return as_array(count).astype(np.float32, copy=True)

    def _log(self, info: dict[str, Any]) -> dict[str, Any]:
        """Single numbers of `info`, and of the dicts in it that some tasks fill with them."""
        entries = {**info, **info.get("scalars", {}), **info.get("episode", {})}
        log = {
            name: value
            for name, value in entries.items()
            if isinstance(value, (int, float)) or (hasattr(value, "shape") and tuple(value.shape) == ())
        }
        log.update(self.curriculum())
        for name in ("true_objective_mean", "true_objective_min", "true_objective_max", "success_tolerance"):
            log.pop(name, None)  # said already
        # of the last complete episodes, where the task keeps it
        objective = getattr(self.env, "prev_episode_true_objective", info.get("true_objective"))
        if objective is not None:
            log["true_objective"] = objective
        return log


def keep_tolerance() -> None:
    """Stands in for `_extra_curriculum`, by which a task makes its tolerance smaller, where the tolerance is held."""


def isaacgym(
    num_envs: int,
    seed: int,
    device: str,
    task: str,
    sub_task: str | None = None,
    overrides: list[str] | tuple[str, ...] = (),
    privileged: bool = False,
) -> IsaacGymTask:
    """A task of IsaacGymEnvs, without a window.

    Args:
        num_envs: N.
        seed: Seed of everything random there.
        device: Where it simulates.
        task: Name of a configuration of IsaacGymEnvs, such as AllegroKukaTwoArmsLSTM; LSTM may be left out.
        sub_task: Of the AllegroKuka tasks: reorientation, regrasping or throw.
        overrides: Further settings as one would write them for its own train.py, such as task.env.episodeLength=400.
        privileged: Show the task's states, where it has some, to a critic of its own.
    """
    load_libpython()
    try:
        gym = need("isaacgym", "the factory isaacgym")
    except ImportError as error:
        raise Mistake(
            f"data.env.init_args.python: {sys.executable} cannot import isaacgym: {error} (see docs/isaac_gym.md)"
        ) from error
    package, torch = need("isaacgymenvs", "the factory isaacgym"), importlib.import_module("torch")
    place = "cuda:0" if device == "cuda" else device
    settings = [
        f"++task.env.numEnvs={num_envs}",
        f"num_envs={num_envs}",
        f"seed={seed}",
        f"sim_device={place}",
        f"rl_device={place}",
    ]
    settings += [f"pipeline={'gpu' if place.startswith('cuda') else 'cpu'}", "headless=True", "graphics_device_id=-1"]
    config = isaacgym_config(package, task, sub_task, [*settings, *overrides])
    name = config.task.get("name")
    if name is None:
        raise Mistake(f"{OPTIONS}.task: {task} is what other tasks of IsaacGymEnvs build on, not a task")
    if name.startswith("HumanoidAMP"):
        raise Mistake(f"{OPTIONS}.task: {name} needs a learner that resets it and imitates motions, which this is not")
    importlib.import_module("random").seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002  (what the tasks draw from)
    torch.manual_seed(seed)
    env = package.make(
        seed=seed,
        task=name,
        num_envs=num_envs,
        sim_device=config.sim_device,
        rl_device=config.rl_device,
        graphics_device_id=-1,
        headless=True,
        force_render=False,
        cfg=config,
    )
    versions = {each.__name__: getattr(each, "__version__", "?") for each in (gym, package, torch)}
    return IsaacGymTask(env, name, torch, versions, privileged)


def isaacgym_config(package: Any, task: str, sub_task: str | None, settings: list[str]) -> Any:
    """The configuration that IsaacGymEnvs' own train.py would have composed.

    Raises:
        Mistake: When there is no such task or setting.
    """
    hydra = need("hydra", "the factory isaacgym")
    folder = os.path.join(os.path.dirname(os.path.abspath(package.__file__)), "cfg")
    tasks, sub_tasks = yaml_names(os.path.join(folder, "task")), yaml_names(os.path.join(folder, "task", "env"))
    config = task if task in tasks else task + "LSTM"
    if config not in tasks:
        raise Mistake(f"{OPTIONS}.task: this IsaacGymEnvs {choice('has', task, tasks)}")
    if sub_task is not None:
        if sub_task not in sub_tasks:
            raise Mistake(f"{OPTIONS}.sub_task: this IsaacGymEnvs {choice('has', sub_task, sub_tasks)}")
        settings = [f"task/env={sub_task}", *settings]
    try:
        with hydra.initialize_config_dir(config_dir=folder, version_base=None):
            # without the settings of its own learner, which many a task lacks
            return hydra.compose(config_name="config", overrides=[f"task={config}", "~train", *settings])
    except Exception as error:
        if type(error).__module__.split(".")[0] not in ("hydra", "omegaconf"):
            raise
        raise Mistake(f"{OPTIONS}: {one_line(error)}") from error


def yaml_names(folder: str) -> list[str]:
    """Names of the .yaml files of a folder."""
    files = os.listdir(folder) if os.path.isdir(folder) else []
    return sorted(name[: -len(".yaml")] for name in files if name.endswith(".yaml"))


def load_libpython() -> None:
    """Isaac Gym's library needs libpython, which the loader does not search for where conda keeps it."""
    import ctypes
    import sysconfig

    name = f"libpython{sys.version_info[0]}.{sys.version_info[1]}.so.1.0"
    path = os.path.join(sysconfig.get_config_var("LIBDIR") or "", name)
    if os.path.exists(path):
        ctypes.CDLL(path)
