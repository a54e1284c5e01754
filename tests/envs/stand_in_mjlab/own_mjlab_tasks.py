"""A user's module that registers a task of his own."""

from mjlab.envs import PointCfg
from mjlab.tasks.registry import register_mjlab_task

register_mjlab_task("My-Point", PointCfg(start=0.125))
