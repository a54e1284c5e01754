"""The engine on the CPU, whose arrays a test reads and writes."""

from epo_lightning.envs.allegro_kuka import AllegroKuka
from epo_lightning.physics.mujoco import MujocoPhysics


def mujoco_of(env: AllegroKuka) -> MujocoPhysics:
    """The physics of an environment that was made without `physics: warp`."""
    assert isinstance(env.physics, MujocoPhysics)
    return env.physics
