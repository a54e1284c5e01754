"""Small tasks with bodies in MuJoCo, batched on CPU threads."""

from epo_lightning.envs.bodies.ant_trap import AntTrap
from epo_lightning.envs.bodies.ball_in_cup import BallInCup
from epo_lightning.envs.bodies.base import BodyEnv, Verdict
from epo_lightning.envs.bodies.kuka_reach import KukaReach

__all__ = ["AntTrap", "BallInCup", "BodyEnv", "KukaReach", "Verdict"]
