"""Small trainings through the Python interface, for tests that need no command line."""

from pathlib import Path
from typing import Any

import lightning as L
import torch

from epo_lightning.algorithm.losses import LossSettings
from epo_lightning.envs.classic import Probe
from epo_lightning.experience.settings import RolloutSettings
from epo_lightning.learner.networks import NetworkSettings
from epo_lightning.learner.optimizer import OptimizerSettings
from epo_lightning.modules.data import RolloutDataModule
from epo_lightning.modules.epo import EPOModule
from epo_lightning.run.notices import silence


def small_module(num_agents: int = 4, loss: dict[str, Any] | None = None, **network: Any) -> EPOModule:
    """A population with a tiny network."""
    torch.manual_seed(0)
    settings = NetworkSettings(**{"gene_dim": 3, "hidden": (8,), **network})
    return EPOModule(num_agents, settings, LossSettings(**(loss or {})), OptimizerSettings())


def small_data(num_envs: int = 16, env: Any = None, **rollout: Any) -> RolloutDataModule:
    """The probe task with episodes of three steps, or the `env` factory given."""
    settings = RolloutSettings(**{"horizon": 4, "num_epochs": 1, "num_minibatches": 2, **rollout})
    return RolloutDataModule(env or (lambda n, device, seed: Probe(n, device, seed, max_steps=3)), num_envs, settings)


def train(
    module: EPOModule, data: RolloutDataModule, folder: Path, iterations: int, *callbacks: L.Callback
) -> L.Trainer:
    """Train for a few iterations on the CPU."""
    silence()
    trainer = L.Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=iterations,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=0,
        callbacks=list(callbacks),
        default_root_dir=folder,
    )
    trainer.fit(module, data)
    return trainer
