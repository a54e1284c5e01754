"""Stops a run at the first loss or gradient that is not finite, and says where it came from.

Shape legend: B minibatches of an iteration.
"""

from typing import Any

import lightning as L
import torch
from torch import Tensor

from epo_lightning.callbacks.run_files import run_file
from epo_lightning.limits import Mistake
from epo_lightning.modules.base import PopulationCallback
from epo_lightning.run.checkpoint import dump


class NaNGuard(PopulationCallback):
    """Keeps every minibatch's loss on the device, looks at all of them once per iteration, and stops before a bad
    iteration can be checkpointed, wherever it stands in the list: the last good checkpoint stays the last.
    """

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Room for the losses of one iteration."""
        self._losses: list[Tensor] = []

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Keep the loss, without waiting for the device; after the last minibatch, look at all of them.

        Raises:
            Mistake: Naming the first bad minibatch, its tensors that are not finite and their environments.
        """
        self._losses.append(outputs["loss"])
        if batch_idx + 1 == trainer.num_training_batches:
            self._inspect(trainer)

    def _inspect(self, trainer: L.Trainer) -> None:
        module = self.module
        # Under fp16 a gradient that overflows is normal: the scaler skips that step and lowers its scale
        gradients = 0.0 if trainer.precision == "16-mixed" else module.sums.grad_norm
        losses = torch.stack(self._losses)
        if bool(torch.isfinite(losses.sum() + module.sums.diagnostics.sum() + gradients)):
            return
        bad = (~torch.isfinite(losses)).nonzero().flatten().tolist()
        index = bad[0] if bad else 0
        dataset = module.dataset
        units = dataset.minibatch_units(index)
        batch = dataset.buffer.gather(units)
        fields = [name for name, value in batch._asdict().items() if not bool(torch.isfinite(value).all())]
        parameters = [name for name, value in module.policy.named_parameters() if not torch.isfinite(value).all()]
        path = run_file(trainer, "nan_batch.pt")
        kept = f"the batch is in {path}"
        if trainer.is_global_zero:
            try:
                with path.open("wb") as file:
                    dump({**batch._asdict(), "units": units}, file)
            except OSError as error:  # the news is the loss
                kept = f"the batch could not be written to {path} ({error.strerror})"
        raise Mistake(
            f"loss or gradient not finite at iteration {trainer.current_epoch}, minibatch {index}: batch tensors"
            f" {fields or 'all finite'} (envs {_environments(batch._asdict(), fields, units, dataset)}), parameters"
            f" {parameters or 'all finite'}; {kept}. Lower model.optimizer.learning_rate_max or"
            " model.optimizer.max_grad_norm, then resume from the last checkpoint"
        )


def _environments(batch: dict[str, Tensor], fields: list[str], units: Tensor, dataset: Any) -> list[int]:
    """Columns of the samples that hold something that is not finite; those behind the environments are relabelled."""
    recurrent = dataset.buffer.recurrent
    columns = units if recurrent else units % dataset.buffer.shape.columns
    found: set[int] = set()
    for name in fields:
        wrong = ~torch.isfinite(batch[name])
        sample_dim = 1 if recurrent and wrong.dim() > 1 else 0
        others = [dim for dim in range(wrong.dim()) if dim != sample_dim]
        rows = wrong.any(dim=others) if others else wrong
        found |= set(columns[rows].tolist())
    return sorted(found)[:16]
