"""Reading a task's configuration; version 3 also takes overrides."""

from collections.abc import Sequence
from importlib import import_module
from typing import Any

import gymnasium as gym
from isaaclab import VERSION


def _parse(task_name: str, device: str, num_envs: int) -> Any:
    module, name = gym.spec(task_name).kwargs["env_cfg_entry_point"].split(":")
    cfg = getattr(import_module(module), name)()
    cfg.sim.device, cfg.scene.num_envs = device, num_envs
    return cfg


if VERSION == 2:

    def parse_env_cfg(task_name: str, device: str = "cuda:0", num_envs: int = 1, use_fabric: bool | None = None) -> Any:
        return _parse(task_name, device, num_envs)

else:

    def parse_env_cfg(  # type: ignore[misc]
        task_name: str, device: str = "cuda:0", num_envs: int = 1, overrides: Sequence[str] = ()
    ) -> Any:
        cfg = _parse(task_name, device, num_envs)
        for override in overrides:
            selector, _, name = override.partition("=")
            if (selector, name) not in {("physics", "newton_mjwarp"), ("physics", "isaacsim_physx")}:
                raise ValueError(f"Unknown preset(s): {name}\n\nAvailable presets:\n  isaacsim_physx, newton_mjwarp")
            cfg.sim.physics = name
        return cfg
