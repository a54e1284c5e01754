"""Optimizer steps under Lightning's strategy and precision: the one seam between our update loop and the trainer.

Automatic optimisation runs some thirty hooks per optimizer step, and manual optimisation still ten, which is what a
small network waits for. An iteration is one batch here, so nothing of Lightning has to happen between its steps.
"""

from collections.abc import Callable

import lightning as L
import torch
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy
from lightning.pytorch.utilities import rank_zero_warn
from lightning.pytorch.utilities.model_helpers import is_overridden
from torch import Tensor

from epo_lightning.learner.optimizer import clip_gradients
from epo_lightning.limits import Mistake

SKIPPED_HOOKS = (
    "on_before_zero_grad",
    "on_before_backward",
    "on_after_backward",
    "on_before_optimizer_step",
)
"""Hooks around single optimizer steps: they are not called."""


class Stepper:
    """Takes steps of one optimizer.

    Gradients are averaged over the ranks (DDP) and scaled against underflow (`16-mixed`) as the trainer is set up, and
    `trainer.global_step` counts.

    Args:
        trainer: Which runs a fit.
        optimizer: The optimizer; it has one group of parameters.
        max_grad_norm: Gradients are scaled down to this norm.
    """

    def __init__(self, trainer: L.Trainer, optimizer: torch.optim.Optimizer, max_grad_norm: float) -> None:
        self.optimizer, self.max_grad_norm = optimizer, max_grad_norm
        (group,) = optimizer.param_groups
        self.parameters: list[torch.nn.Parameter] = group["params"]
        self._before_backward: Callable[[Tensor], None] = trainer.strategy.pre_backward
        self._scaler: torch.amp.GradScaler | None = getattr(trainer.precision_plugin, "scaler", None)
        self._count = trainer.fit_loop.epoch_loop.manual_optimization.optim_step_progress

    def step(self, loss: Tensor) -> Tensor:
        """One step down the gradient of `loss` (); returns the gradient's norm before it was clipped, ()."""
        for parameter in self.parameters:
            parameter.grad = None  # `Optimizer.zero_grad` takes ten times as long
        self._before_backward(loss)
        if self._scaler is None:
            loss.backward()
            norm = clip_gradients(self.parameters, self.max_grad_norm)
            self.optimizer.step()
        else:
            self._scaler.scale(loss).backward()
            self._scaler.unscale_(self.optimizer)
            norm = clip_gradients(self.parameters, self.max_grad_norm)
            self._scaler.step(self.optimizer)
            self._scaler.update()
        self._count.increment_ready()
        self._count.increment_completed()
        return norm


def require_supported(trainer: L.Trainer) -> None:
    """Refuse strategies that take the model apart, and tell of callbacks whose hooks would never be called.

    Raises:
        Mistake: Naming the strategy.
    """
    if not isinstance(trainer.strategy, SingleDeviceStrategy | DDPStrategy):
        raise Mistake(
            f"trainer.strategy {type(trainer.strategy).__name__} is not supported: every rank needs the whole network;"
            " use auto or ddp"
        )
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        deaf = [name for name in SKIPPED_HOOKS if is_overridden(name, callback)]
        if deaf:
            rank_zero_warn(
                f"trainer.callbacks {type(callback).__name__}: {deaf[0]} is never called, since an iteration is one"
                " batch of many optimizer steps; use on_train_batch_end"
            )
