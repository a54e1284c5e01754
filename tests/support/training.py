"""Small trainings through the Python interface, for tests that need no command line."""

from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.loggers import Logger

from epo_lightning.algorithm.diversity import DiversitySettings
from epo_lightning.algorithm.losses import LossSettings
from epo_lightning.callbacks import GeneticEvolution
from epo_lightning.envs.base import EnvFactory
from epo_lightning.envs.classic import Probe
from epo_lightning.experience.settings import RolloutSettings
from epo_lightning.learner.networks import NetworkSettings
from epo_lightning.learner.optimizer import GeneOptimizerSettings
from epo_lightning.modules.base import PopulationModule
from epo_lightning.modules.data import RolloutDataModule
from epo_lightning.modules.epo import EPOModule
from epo_lightning.run.notices import silence


def small_module(
    num_agents: int = 4,
    loss: dict[str, Any] | None = None,
    rollout: dict[str, Any] | None = None,
    diversity: dict[str, Any] | None = None,
    **network: Any,
) -> EPOModule:
    """A population with a tiny network, and short rollouts."""
    torch.manual_seed(0)
    settings = NetworkSettings(**{"gene_dim": 3, "hidden": (8,), **network})
    short = RolloutSettings(**{"horizon": 4, "num_epochs": 1, "num_minibatches": 2, **(rollout or {})})
    apart = DiversitySettings(**(diversity or {}))
    return EPOModule(num_agents, settings, LossSettings(**(loss or {})), GeneOptimizerSettings(), short, apart)


def small_data(num_envs: int = 16, env: EnvFactory | None = None) -> RolloutDataModule:
    """The probe task with episodes of three steps, or the `env` factory given."""
    return RolloutDataModule(env or (lambda n, device, seed: Probe(n, device, seed, max_steps=3)), num_envs)


def fit(
    module: PopulationModule, data: RolloutDataModule, folder: Path, iterations: int = 2, **changes: Any
) -> L.Trainer:
    """Train for a few iterations on the CPU; `changes` are other arguments of the trainer, or its `ckpt_path`."""
    silence()
    ckpt_path = changes.pop("ckpt_path", None)
    settings: dict[str, Any] = {
        "accelerator": "cpu", "devices": 1, "max_epochs": iterations, "logger": False, "enable_checkpointing": False,
        "enable_progress_bar": False, "enable_model_summary": False, "limit_val_batches": 0, "default_root_dir": folder,
    }  # fmt: skip
    trainer = L.Trainer(**(settings | changes))
    trainer.fit(module, data, ckpt_path=ckpt_path)
    return trainer


def train(
    module: PopulationModule, data: RolloutDataModule, folder: Path, iterations: int, *callbacks: L.Callback
) -> L.Trainer:
    """As `fit`, with callbacks."""
    return fit(module, data, folder, iterations, callbacks=list(callbacks))


def evolution(**changes: Any) -> GeneticEvolution:
    """A generation after every iteration of 16 environments and four steps."""
    settings = {"every_n_env_steps": 64, "warmup_env_steps": 0, "num_elites": 1, "spread_threshold": 0.0, **changes}
    return GeneticEvolution(**settings)


class Recorder(Logger):
    """A logger that keeps every call."""

    name = "recorder"
    version = 0

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[dict[str, float], int | None]] = []

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.calls.append((dict(metrics), step))

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        pass
