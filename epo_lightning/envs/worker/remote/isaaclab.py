"""Tasks of Isaac Lab, versions 2 and 3."""

from __future__ import annotations

import inspect
import signal
import sys
from typing import Any

import numpy as np

from .lab import Lab, set_fields, usable_device, version
from .mistakes import OPTIONS, Mistake, choice, need


class IsaacLab(Lab):
    """Isaac Lab, 2 and 3; see `isaaclab`.

    Args:
        env: What gym.make returned.
        runtime: What keeps the simulator running.
        final_obs: Whether the task gives last observations.
        rest: As in `Lab`.
    """

    def __init__(self, env: Any, runtime: Any, final_obs: bool, *rest: Any) -> None:
        super().__init__(env, *rest)
        self.runtime, self.final_obs = runtime, final_obs

    def step(self, actions: np.ndarray) -> tuple[Any, ...]:
        """One control step; see `Server.step`."""
        obs, reward, terminated, truncated, extras = self.act(actions)
        more = {"log": self.log(extras.get("log", {}))}
        if self.success is not None:
            more["successes"] = self.ends.get_term(self.success)
        if self.final_obs:
            more["final_obs"] = self.observed.rows(extras.get("final_obs", obs))
        return self.observed.rows(obs), reward, terminated, truncated, more


def isaaclab(
    num_envs: int,
    seed: int,
    device: str,
    task: str,
    observations: str | list[str] | None = None,
    success: str | None = None,
    action_scale: float = 1.0,
    settings: dict[str, Any] | None = None,
    imports: list[str] | None = None,
    overrides: list[str] | None = None,
    launcher: dict[str, Any] | None = None,
    privileged: str | list[str] | None = None,
) -> IsaacLab:
    """A task of Isaac Lab, version 2 (Isaac Sim) or 3 (also without it).

    Args:
        num_envs: N.
        seed: Seed of the simulator's process.
        device: cpu or cuda:0.
        task: Its name in gymnasium's registry.
        observations: Observation group that actors see, or several.
        success: Termination term that counts successes.
        action_scale: What the task's action terms are given for an action of 1.
        settings: Fields of the task's configuration, by path such as scene.env_spacing.
        imports: Modules that register own tasks.
        overrides: Version 3: presets and overrides such as physics=newton_mjwarp.
        launcher: What launches the simulator, such as {enable_cameras: true}.
        privileged: Observation group, or several, that only a critic of its own sees.

    Raises:
        Mistake: When there is no such task, or an option does not fit.
    """
    sys.argv = sys.argv[:1]  # the simulator's app reads it
    usable_device(device, "isaaclab")
    try:
        package, app = need("isaaclab", "isaaclab"), need("isaaclab.app", "isaaclab")
    except ModuleNotFoundError as error:
        if error.name != "isaacsim":
            raise
        raise Mistake(
            f"data.env.init_args.python: {sys.executable} has an Isaac Lab that needs the package isaacsim; install it"
            " there, or Isaac Lab 3, which has tasks that do without"
        ) from None
    arguments = {"headless": True, "device": device, **(launcher or {})}
    handlers = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
    launch = getattr(app, "launch_simulation", None)  # since version 3: after the task is known
    runtime = None
    if launch is None:
        from isaaclab.app import AppLauncher  # type: ignore[import-not-found]  # in 2.3 no attribute of the module

        runtime = AppLauncher(arguments)

    gym = need("gymnasium", "isaaclab")
    for module in ("isaaclab_tasks", *(imports or [])):
        need(module, f"{OPTIONS}.imports" if module != "isaaclab_tasks" else "isaaclab")
    tasks = sorted(name for name, spec in gym.registry.items() if "env_cfg_entry_point" in (spec.kwargs or {}))
    if task not in tasks:
        raise Mistake(f"{OPTIONS}.task: isaaclab {choice('has the tasks', task, tasks)}")
    parse = need("isaaclab_tasks.utils", "isaaclab").parse_env_cfg
    known = inspect.signature(parse).parameters
    if overrides and "overrides" not in known:
        raise Mistake(f"{OPTIONS}.overrides need Isaac Lab 3; give fields of the configuration as settings")
    try:
        config = parse(task, device=device, num_envs=num_envs, **({"overrides": overrides} if overrides else {}))
    except ValueError as error:
        if not overrides:
            raise
        raise Mistake(f"{OPTIONS}.overrides: {' '.join(str(error).split())}") from None
    if hasattr(config, "possible_agents"):
        raise Mistake(f"{OPTIONS}.task: {task} is a task of several agents, which cannot be trained here")
    set_fields(config, task, settings or {})
    config.seed = seed
    final_obs = hasattr(config, "compute_final_obs")
    if final_obs:
        config.compute_final_obs = True

    if launch is not None:
        runtime = launch(config, arguments)
        try:
            runtime.__enter__()
        except SystemExit:
            raise Mistake(
                f"{OPTIONS}.task: {task} needs Isaac Sim, which {sys.executable} lacks; install it there, or choose"
                " physics without it, such as overrides: [physics=newton_mjwarp]"
            ) from None
    env = gym.make(task, cfg=config)
    for number, handler in handlers.items():
        signal.signal(number, handler)
    adapter = IsaacLab(env, runtime, final_obs, task, observations, privileged, success, action_scale)
    adapter.versions = {"isaaclab": getattr(package, "__version__", None) or version("isaaclab")}
    return adapter
