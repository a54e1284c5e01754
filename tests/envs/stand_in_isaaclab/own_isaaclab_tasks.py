"""A user's module that registers tasks of his own."""

import gymnasium as gym
from isaaclab.envs import PointCfg


class ButtonsCfg(PointCfg):
    """Discrete actions."""

    def __init__(self) -> None:
        super().__init__(actions=gym.spaces.Discrete(3))


class BoundedCfg(PointCfg):
    """Actions between 0 and 4."""

    def __init__(self) -> None:
        super().__init__(actions=gym.spaces.Box(0.0, 4.0, (1,)))


for name in ("Buttons", "Bounded"):
    gym.register(
        f"My-{name}",
        entry_point="isaaclab.envs:DirectRLEnv",
        disable_env_checker=True,
        kwargs={"env_cfg_entry_point": f"{__name__}:{name}Cfg"},
    )
