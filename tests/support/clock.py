"""A clock that no machine moves."""

from typing import Any

import lightning as L
from torch import Tensor

from epo_lightning.envs.base import StepResult
from epo_lightning.modules.epo import EPOModule


class Clock(L.Callback):
    """The clock of a training: a step of the environments takes 1 s, a forward pass 1/4 s, and a logger's work 16 s.

    Time passes nowhere else. The logger's work is that after each minibatch, in which nobody acts or learns.
    """

    def __init__(self) -> None:
        self.now = 0.0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, EPOModule)
        dataset = pl_module.dataset
        step = dataset.env.step

        def slow_step(actions: Tensor) -> StepResult:
            self.now += 1
            return step(actions)

        def forward(*_: object) -> None:
            self.now += 0.25

        dataset.clock = lambda: self.now
        dataset.env.step = slow_step  # type: ignore[method-assign]
        pl_module.policy.actor.register_forward_hook(forward)

    def on_train_batch_end(self, *args: Any, **kwargs: Any) -> None:
        self.now += 16
