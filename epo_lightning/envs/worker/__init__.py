"""Simulators that live in another interpreter, trained from this one."""

from epo_lightning.envs.worker.env import WorkerEnv

__all__ = ["WorkerEnv"]
