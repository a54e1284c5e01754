"""Whether a training compiles its learner: by setting, by what it gains, and as the run did before."""

import os
import shutil
from collections.abc import Callable

import lightning as L
import torch
from lightning.pytorch.utilities import rank_zero_info

from epo_lightning.algorithm.batch import RolloutBatch
from epo_lightning.algorithm.losses import HybridLoss
from epo_lightning.experience.rollout import RolloutDataset
from epo_lightning.learner.compiled import Compilation, Compiled, break_even
from epo_lightning.learner.networks import NetworkSettings


class LearnerCompilation:
    """The choice of a run, which it keeps when it goes on.

    Args:
        setting: `model.compile`.

    Attributes:
        before: Whether the run that goes on was compiled; None for a new one.
        loss: The compiled loss; None where nothing is compiled.
    """

    def __init__(self, setting: Compilation) -> None:
        self.setting = setting
        self.before: bool | None = None
        self.loss: Compiled[..., HybridLoss] | None = None

    @property
    def compiled(self) -> bool:
        """Whether the run computes with compiled code."""
        return self.loss is not None and bool(self.loss.works)

    def begin(
        self,
        trainer: L.Trainer,
        dataset: RolloutDataset,
        loss: Callable[[RolloutBatch], HybridLoss],
        network: NetworkSettings,
    ) -> None:
        """When a training begins: compile its loss and its policy's step, or leave them as they are.

        Args:
            trainer: It, which says for how long.
            dataset: Its experience, whose policy acts.
            loss: Of a minibatch.
            network: Of the policy.
        """
        compiles = self._chosen(trainer, dataset, network)
        if self.before is not None and self.before != compiles:
            was, will_be = ("", "not ") if self.before else ("not ", "")
            rank_zero_info(
                f"model.compile {self.setting}: the run was {was}compiled and is {will_be}compiled from here on, which"
                " rounds differently: it does not go on to the bit as it would have"
            )
        if compiles:
            self.loss = Compiled(loss, "the update", lambda result: result.total, dataset.policy.parameters())
            dataset.ask = Compiled(dataset.ask, "the policy's step")

    def _chosen(self, trainer: L.Trainer, dataset: RolloutDataset, network: NetworkSettings) -> bool:
        if self.setting != "auto":
            return self.setting == "always"
        if self.before is not None:
            return self.before
        if dataset.device.type != "cpu" or trainer.precision != "32-true":
            return False
        settings = dataset.settings
        steps = settings.num_epochs * dataset.num_minibatches
        samples = dataset.buffer.shape.columns * settings.horizon * settings.passes // dataset.num_minibatches
        paid_back = break_even(samples, network.widths) / steps
        left = torch.inf if trainer.max_epochs in (None, -1) else trainer.max_epochs - trainer.current_epoch
        if left < 2 * paid_back:
            return False
        if not has_compiler():
            rank_zero_info(
                f"model.compile auto: no C++ compiler here (CXX or g++), so that nothing is compiled; with one this run"
                f" would gain from iteration {paid_back:.0f} on"
            )
            return False
        rank_zero_info(
            f"model.compile auto: the first iteration compiles the learner, which is paid back after about"
            f" {paid_back:.0f} iterations at most; the code is kept for other runs"
        )
        return True


def has_compiler() -> bool:
    """Whether there is a C++ compiler, as torch looks for one."""
    return shutil.which(os.environ.get("CXX") or "g++") is not None
