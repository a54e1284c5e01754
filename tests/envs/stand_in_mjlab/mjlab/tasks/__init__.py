"""Importing it registers the tasks, as the real one does."""

from types import SimpleNamespace

from mjlab.envs import PointCfg, SceneCfg
from mjlab.tasks.registry import register_mjlab_task

register_mjlab_task("Stand-In-Point", PointCfg())
register_mjlab_task("Stand-In-Point-Bounded", PointCfg(bounds=(0.0, 4.0)))
register_mjlab_task("Stand-In-Camera", PointCfg(groups=("camera",), scene=SceneCfg(num_envs=2)))
register_mjlab_task("Old", SimpleNamespace(scene=SceneCfg()))  # of a version that resets by itself only
