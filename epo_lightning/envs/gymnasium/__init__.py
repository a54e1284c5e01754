"""Tasks of Gymnasium, and whatever else speaks its interface."""

from epo_lightning.envs.gymnasium.env import GymnasiumEnv

__all__ = ["GymnasiumEnv"]
