"""Which strategies, precisions and callbacks of Lightning go with an update loop of our own.

An iteration is one batch of many optimizer steps, and one epoch. What needs something else is refused by name, before
anything is trained, or told.
"""

import os
from typing import Any

import lightning as L
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch.accelerators import CPUAccelerator
from lightning.pytorch.callbacks import (
    BatchSizeFinder,
    GradientAccumulationScheduler,
    LearningRateFinder,
    ModelCheckpoint,
    ModelPruning,
    OnExceptionCheckpoint,
    StochasticWeightAveraging,
)
from lightning.pytorch.callbacks.spike import SpikeDetection
from lightning.pytorch.plugins.precision import MixedPrecision, Precision
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy
from lightning.pytorch.strategies.launchers import _MultiProcessingLauncher
from lightning.pytorch.utilities import rank_zero_warn
from lightning.pytorch.utilities.model_helpers import is_overridden

from epo_lightning.limits import Mistake

SKIPPED_HOOKS = (
    "on_before_zero_grad",
    "on_before_backward",
    "on_after_backward",
    "on_before_optimizer_step",
)
"""Hooks around single optimizer steps: they are not called."""

_UNSUITED: dict[type[Any], str] = {
    GradientAccumulationScheduler: "an iteration is one batch of many steps; set model.rollout.num_minibatches",
    StochasticWeightAveraging: "it sets learning rates of its own; use EMAWeightAveraging",
    ModelPruning: "it renames the weights of the network",
    LearningRateFinder: "it needs a loss per batch, and an iteration is many; set model.optimizer.learning_rate",
    BatchSizeFinder: "there is no batch size; set data.num_envs",
    SpikeDetection: "it needs a loss per batch, and an iteration is many; use epo_lightning.callbacks.NaNGuard",
    OnExceptionCheckpoint: "it saves in the middle of an iteration, where no run goes on; checkpoints/last.ckpt is of"
    " the last whole one",
}
"""Callbacks that would fail, or silently do something else, and why."""


def require_supported(trainer: L.Trainer, *, trains: bool, unscaled: str = "") -> None:
    """Refuse what a population does not go with; call it before processes are started, where that is possible.

    Args:
        trainer: Who is to run it.
        trains: Also callbacks that need another loop are refused, and what `unscaled` forbids.
        unscaled: Why the algorithm's losses are not scaled against underflow (`PopulationModule.unscaled`).

    Raises:
        Mistake: Naming the strategy, the precision, the nodes or the callback.
    """
    strategy, precision = trainer.strategy, trainer.precision_plugin
    name = type(strategy).__name__
    if not isinstance(strategy, SingleDeviceStrategy | DDPStrategy):
        raise Mistake(f"trainer.strategy {name} is not supported: every rank needs the whole network; use auto or ddp")
    if isinstance(strategy.launcher, _MultiProcessingLauncher):
        raise Mistake(
            f"trainer.strategy {name}: what forked or spawned processes come to ends with them; use ddp, or, in a"
            " notebook, trainer.devices 1"
        )
    if type(precision) not in (Precision, MixedPrecision):
        raise Mistake(
            f"trainer.precision {precision.precision} is not supported: observations and normalisers are float32; use"
            " 32-true, bf16-mixed or 16-mixed"
        )
    if trains and unscaled and trainer.precision == "16-mixed":
        raise Mistake(f"trainer.precision 16-mixed: {unscaled}; use bf16-mixed or 32-true")
    cores = os.cpu_count() or 1
    if isinstance(trainer.accelerator, CPUAccelerator) and trainer.num_devices > 4 * max(cores, 2):
        raise Mistake(f"trainer.devices {trainer.num_devices}: a process each, and this machine has {cores} core(s)")
    environment = getattr(strategy, "cluster_environment", None)
    if trainer.num_nodes > 1 and isinstance(environment, LightningEnvironment) and "MASTER_ADDR" not in os.environ:
        raise Mistake(
            f"trainer.num_nodes {trainer.num_nodes}: nothing says where the other nodes are; start with torchrun"
            " --nnodes or srun, or set MASTER_ADDR, MASTER_PORT and NODE_RANK"
        )
    for callback in trainer.callbacks if trains else []:  # type: ignore[attr-defined]
        why = next((why for kind, why in _UNSUITED.items() if isinstance(callback, kind)), None)
        if isinstance(callback, ModelCheckpoint) and (key := _saves_in_between(callback)):
            why = f"{key} saves in the middle of an iteration, where no run goes on; use every_n_epochs"
        if why is not None:
            raise Mistake(f"trainer.callbacks {type(callback).__name__}: {why}")


def tell_skipped_hooks(trainer: L.Trainer) -> None:
    """Tell of callbacks of which a hook would never be called."""
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        deaf = [hook for hook in SKIPPED_HOOKS if is_overridden(hook, callback)]
        if deaf:
            rank_zero_warn(
                f"trainer.callbacks {type(callback).__name__}: {deaf[0]} is never called, since an iteration is one"
                " batch of many optimizer steps; use on_train_batch_end"
            )


def _saves_in_between(callback: ModelCheckpoint) -> str | None:
    """The argument that makes it save while an iteration runs."""
    arguments = {
        "every_n_train_steps": callback._every_n_train_steps > 0,
        "train_time_interval": callback._train_time_interval is not None,
        "save_on_exception": callback.save_on_exception,
    }
    return next((name for name, is_given in arguments.items() if is_given), None)
