"""Importing it registers the tasks; with version 2 the app must be running by then."""

import gymnasium as gym
from isaaclab import VERSION
from isaaclab.app import RUNNING

if VERSION == 2 and not RUNNING:
    raise ImportError("the app must be started before isaaclab_tasks is imported")

for name, entry, config in (
    ("Stand-In-Point-Direct", "DirectRLEnv", "PointCfg"),
    ("Stand-In-Point", "ManagerBasedRLEnv", "PointCfg"),
    ("Stand-In-Agents", "DirectRLEnv", "AgentsCfg"),
):
    gym.register(
        name,
        entry_point=f"isaaclab.envs:{entry}",
        disable_env_checker=True,
        kwargs={"env_cfg_entry_point": f"isaaclab.envs:{config}"},
    )
