"""Optimizer steps under Lightning's strategy and precision: the one seam between our update loop and the trainer.

Automatic optimisation runs some thirty hooks per optimizer step, and manual optimisation still ten, which is what a
small network waits for. An iteration is one batch here, so nothing of Lightning has to happen between its steps.
"""

from collections.abc import Sequence

import lightning as L
import torch
from torch import Tensor, nn

from epo_lightning.experience.ranks import average_over_ranks
from epo_lightning.learner.optimizer import clip_gradients, slowed, take_step


class Stepper:
    """Takes steps of one optimizer.

    Gradients are averaged over the ranks and scaled against underflow (`16-mixed`) as the trainer is set up, and
    `trainer.global_step` counts.

    Args:
        trainer: Which runs a fit.
        optimizer: The optimizer.
        max_grad_norm: Gradients are scaled down to this norm by `step` and `step_for`.
        slow: Parameters that take `rate` times their step, but in `step_for`.
        rate: See `slow`.
    """

    def __init__(
        self,
        trainer: L.Trainer,
        optimizer: torch.optim.Optimizer,
        max_grad_norm: float = torch.inf,
        slow: Sequence[nn.Parameter] = (),
        rate: float = 1.0,
    ) -> None:
        self.optimizer, self.max_grad_norm, self.slow, self.rate = optimizer, max_grad_norm, slow, rate
        self.parameters: list[nn.Parameter] = [each for group in optimizer.param_groups for each in group["params"]]
        self._scaler: torch.amp.GradScaler | None = getattr(trainer.precision_plugin, "scaler", None)
        self._count = trainer.fit_loop.epoch_loop.manual_optimization.optim_step_progress

    def step(self, loss: Tensor) -> Tensor:
        """One step down the gradient of `loss` (); returns the gradient's norm before it was clipped, ()."""
        norm = self.descend(loss)
        self.count()
        return norm

    def descend(self, loss: Tensor) -> Tensor:
        """As `step`, but not counted: all of it is on the device."""
        if self._scaler is None:
            self.backward(loss)
            norm = clip_gradients(self.parameters, self.max_grad_norm)
            with slowed(self.slow, self.rate):
                take_step(self.optimizer)
        else:
            self.backward(loss)
            self._scaler.unscale_(self.optimizer)
            norm = clip_gradients(self.parameters, self.max_grad_norm)
            with slowed(self.slow, self.rate):
                self._scaler.step(self.optimizer)
            self._scaler.update()
        return norm

    def backward(self, loss: Tensor) -> None:
        """Put the gradient of `loss` () where the parameters are, the mean over the ranks; for who steps by itself."""
        for parameter in self.parameters:
            parameter.grad = None  # `Optimizer.zero_grad` takes ten times as long
        (loss if self._scaler is None else self._scaler.scale(loss)).backward()
        self._average([parameter for parameter in self.parameters if parameter.grad is not None])

    @staticmethod
    def _average(parameters: Sequence[nn.Parameter]) -> None:
        """Gradients become the mean over the ranks, in one collective call: DDP would make one of each of its buckets.

        That they overlap with the backward pass gains nothing where networks are small.
        """
        means = average_over_ranks([parameter.grad for parameter in parameters if parameter.grad is not None])
        for parameter, mean in zip(parameters, means, strict=True):
            parameter.grad = mean

    def count(self) -> None:
        """`trainer.global_step` goes up."""
        self._count.increment_ready()
        self._count.increment_completed()

    def step_for(self, parameters: Sequence[nn.Parameter], loss: Tensor) -> Tensor:
        """As `step`, but only `parameters` learn: the other ones have no gradient, so that the optimizer skips them.

        DDP is not asked: see `_average`.
        """
        for parameter, gradient in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
            parameter.grad = gradient.contiguous()  # as the parameter is: a fused optimizer reads one as the other
        self._average(parameters)
        norm = clip_gradients(parameters, self.max_grad_norm)
        self.optimizer.step()
        for parameter in parameters:
            parameter.grad = None
        self.count()
        return norm
