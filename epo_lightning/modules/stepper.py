"""Optimizer steps under Lightning's strategy and precision: the one seam between our update loop and the trainer.

Automatic optimisation runs some thirty hooks per optimizer step, and manual optimisation still ten, which is what a
small network waits for. An iteration is one batch here, so nothing of Lightning has to happen between its steps.
"""

from collections.abc import Callable, Sequence

import lightning as L
import torch
import torch.distributed as dist
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy
from lightning.pytorch.utilities import rank_zero_warn
from lightning.pytorch.utilities.model_helpers import is_overridden
from torch import Tensor, nn

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
        optimizer: The optimizer.
        max_grad_norm: Gradients are scaled down to this norm.
    """

    def __init__(self, trainer: L.Trainer, optimizer: torch.optim.Optimizer, max_grad_norm: float) -> None:
        self.optimizer, self.max_grad_norm = optimizer, max_grad_norm
        self.parameters: list[nn.Parameter] = [each for group in optimizer.param_groups for each in group["params"]]
        self._world_size = trainer.world_size
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
        self._count_step()
        return norm

    def step_for(self, parameters: Sequence[nn.Parameter], loss: Tensor) -> Tensor:
        """As `step`, but only `parameters` learn: the other ones have no gradient, so that the optimizer skips them.

        DDP expects a gradient of every parameter: here the ranks' gradients are averaged by one call of our own.
        """
        for parameter, gradient in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
            parameter.grad = gradient
        if self._world_size > 1:
            _average_over_ranks([parameter.grad for parameter in parameters if parameter.grad is not None])
        norm = clip_gradients(parameters, self.max_grad_norm)
        self.optimizer.step()
        for parameter in parameters:
            parameter.grad = None
        self._count_step()
        return norm

    def _count_step(self) -> None:
        self._count.increment_ready()
        self._count.increment_completed()


def _average_over_ranks(gradients: Sequence[Tensor]) -> None:
    """Replace each by its mean over the ranks: one collective call."""
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    for gradient, mean in zip(gradients, flat.split([gradient.numel() for gradient in gradients]), strict=True):
        gradient.copy_(mean.view_as(gradient))


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
