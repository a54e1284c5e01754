"""Small tasks in plain torch: they run on any device, need no simulator and step millions of environments a second."""

from epo_lightning.envs.classic.base import ClassicEnv, Transition
from epo_lightning.envs.classic.cartpole_swingup import CartpoleSwingup
from epo_lightning.envs.classic.mountain_car import MountainCar
from epo_lightning.envs.classic.pendulum import Pendulum
from epo_lightning.envs.classic.pendulum_swingup import PendulumSwingup
from epo_lightning.envs.classic.point_maze import PointMaze
from epo_lightning.envs.classic.probe import Probe
from epo_lightning.envs.classic.two_goals import TwoGoals
from epo_lightning.envs.classic.wall_maze import WallMaze

__all__ = [
    "CartpoleSwingup",
    "ClassicEnv",
    "MountainCar",
    "Pendulum",
    "PendulumSwingup",
    "PointMaze",
    "Probe",
    "Transition",
    "TwoGoals",
    "WallMaze",
]
