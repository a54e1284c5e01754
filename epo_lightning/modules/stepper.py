"""Optimizer steps under Lightning's strategy and precision: the one seam between our update loop and the trainer.

Automatic optimisation runs some thirty hooks per optimizer step, and manual optimisation still ten, which is what a
small network waits for. An iteration is one batch here, so nothing of Lightning has to happen between its steps.
"""

from collections.abc import Callable, Sequence

import lightning as L
import torch
from torch import Tensor, nn

from epo_lightning.experience.ranks import average_over_ranks
from epo_lightning.learner.optimizer import clip_gradients, take_step


class Stepper:
    """Takes steps of one optimizer.

    Gradients are averaged over the ranks (DDP) and scaled against underflow (`16-mixed`) as the trainer is set up, and
    `trainer.global_step` counts.

    Args:
        trainer: Which runs a fit.
        optimizer: The optimizer.
        max_grad_norm: Gradients are scaled down to this norm by `step` and `step_for`.
    """

    def __init__(self, trainer: L.Trainer, optimizer: torch.optim.Optimizer, max_grad_norm: float = torch.inf) -> None:
        self.optimizer, self.max_grad_norm = optimizer, max_grad_norm
        self.parameters: list[nn.Parameter] = [each for group in optimizer.param_groups for each in group["params"]]
        self._before_backward: Callable[[Tensor], None] = trainer.strategy.pre_backward
        self._scaler: torch.amp.GradScaler | None = getattr(trainer.precision_plugin, "scaler", None)
        self._count = trainer.fit_loop.epoch_loop.manual_optimization.optim_step_progress

    def step(self, loss: Tensor) -> Tensor:
        """One step down the gradient of `loss` (); returns the gradient's norm before it was clipped, ()."""
        if self._scaler is None:
            self.backward(loss)
            norm = clip_gradients(self.parameters, self.max_grad_norm)
            take_step(self.optimizer)
        else:
            self.backward(loss)
            self._scaler.unscale_(self.optimizer)
            norm = clip_gradients(self.parameters, self.max_grad_norm)
            self._scaler.step(self.optimizer)
            self._scaler.update()
        self.count()
        return norm

    def backward(self, loss: Tensor) -> None:
        """Put the gradient of `loss` () where the parameters are, the mean over the ranks; for who steps by itself."""
        for parameter in self.parameters:
            parameter.grad = None  # `Optimizer.zero_grad` takes ten times as long
        self._before_backward(loss)
        (loss if self._scaler is None else self._scaler.scale(loss)).backward()

    def count(self) -> None:
        """`trainer.global_step` goes up."""
        self._count.increment_ready()
        self._count.increment_completed()

    def step_for(self, parameters: Sequence[nn.Parameter], loss: Tensor) -> Tensor:
        """As `step`, but only `parameters` learn: the other ones have no gradient, so that the optimizer skips them.

        DDP expects a gradient of every parameter: here the ranks' gradients are averaged by one call of our own.
        """
        for parameter, gradient in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
            parameter.grad = gradient.contiguous()  # as the parameter is: a fused optimizer reads one as the other
        average_over_ranks([parameter.grad for parameter in parameters if parameter.grad is not None])
        norm = clip_gradients(parameters, self.max_grad_norm)
        self.optimizer.step()
        for parameter in parameters:
            parameter.grad = None
        self.count()
        return norm
