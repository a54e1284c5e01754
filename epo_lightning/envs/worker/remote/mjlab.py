"""Tasks of mjlab."""

from __future__ import annotations

from typing import Any

import numpy as np

from .lab import Lab, set_fields, usable_device, version
from .mistakes import OPTIONS, Mistake, choice, need


class Mjlab(Lab):
    """mjlab; see `mjlab`. It resets by our call, so that the last observations of episodes are seen."""

    def __init__(self, env: Any, *rest: Any) -> None:
        self.commands = {name: env.command_manager.get_term(name) for name in env.command_manager.active_terms}
        super().__init__(env, *rest)
        self.succeeded = self.torch.zeros(self.num_envs, dtype=self.torch.bool, device=env.device)

    def success_terms(self) -> list[str]:
        """Terms that can tell a success."""
        return [*super().success_terms(), *(name for name, term in self.commands.items() if _tells_success(term))]

    def reset(self) -> Any:
        """New episodes, none of which has succeeded; their first observations."""
        self.succeeded[:] = False
        return super().reset()

    def step(self, actions: np.ndarray) -> tuple[Any, ...]:
        """One control step, and the resets of the episodes that it ended; see `Server.step`."""
        obs, reward, terminated, truncated, extras = self.act(actions)
        last, log = self.observed.rows(obs), dict(extras["log"])
        now = last
        more: dict[str, Any] = {"final_obs": last}
        if self.success is not None:
            more["successes"] = self.successes()
        ended = (terminated | truncated).nonzero().flatten()
        if len(ended):
            reward, terminated, truncated = reward.clone(), terminated.clone(), truncated.clone()
            obs, extras = self.env.reset(env_ids=ended)
            now = last.clone()
            now[ended] = self.observed.rows(obs)[ended]
            self.succeeded[ended] = False
            log.update(extras["log"])
        more["log"] = self.log(log)
        return now, reward, terminated, truncated, more

    def successes(self) -> Any:
        """Where an episode meets its goal for the first time, (N,) bool."""
        if self.success in self.commands:
            now = self.commands[self.success].compute_success()
        else:
            now = self.ends.get_term(self.success)
        first = now & ~self.succeeded
        self.succeeded |= now
        return first


def _tells_success(term: object) -> bool:
    return callable(getattr(term, "compute_success", None))


def mjlab(
    num_envs: int,
    seed: int,
    device: str,
    task: str,
    observations: str | list[str] | None = None,
    success: str | None = None,
    action_scale: float = 1.0,
    settings: dict[str, Any] | None = None,
    imports: list[str] | None = None,
    privileged: str | list[str] | None = None,
) -> Mjlab:
    """A task of mjlab.

    Args:
        num_envs: N.
        seed: Seed of the simulator's process.
        device: cpu or cuda:0.
        task: Its name in mjlab's registry.
        observations: Observation group that actors see, or several.
        success: Termination or command term that counts successes.
        action_scale: What the task's action terms are given for an action of 1.
        settings: Fields of the task's configuration, by path such as sim.mujoco.timestep.
        imports: Modules that register own tasks.
        privileged: Observation group, or several, that only a critic of its own sees.

    Raises:
        Mistake: When there is no such task, or an option does not fit.
    """
    usable_device(device, "mjlab")
    registry = need("mjlab.tasks.registry", "mjlab")
    for module in imports or []:
        need(module, f"{OPTIONS}.imports")
    if task not in registry.list_tasks():
        raise Mistake(f"{OPTIONS}.task: mjlab {choice('has the tasks', task, registry.list_tasks())}")
    config = registry.load_env_cfg(task)
    if not hasattr(config, "auto_reset"):
        raise Mistake("data.env.init_args.python: its mjlab is too old, it must be 1.6 or newer")
    set_fields(config, task, settings or {})
    config.scene.num_envs, config.seed, config.auto_reset = num_envs, seed, False
    env = need("mjlab.envs", "mjlab").ManagerBasedRlEnv(config, device=device)
    adapter = Mjlab(env, task, observations, privileged, success, action_scale)
    adapter.versions = {name: version(name) for name in ("mjlab", "mujoco", "mujoco-warp")}
    return adapter
