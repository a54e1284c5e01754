"""Stops a run at the first loss or gradient that is not finite, and says where it came from.

Shape legend: B minibatches of an iteration.
"""

import lightning as L
import torch

from epo_lightning.callbacks.run_files import run_file
from epo_lightning.experience.base import Minibatch
from epo_lightning.limits import Mistake
from epo_lightning.modules.base import PopulationCallback
from epo_lightning.run.checkpoint import dump


class NaNGuard(PopulationCallback):
    """Looks at the losses of all minibatches once per iteration, and stops before a bad iteration can be checkpointed.

    Wherever it stands in the list, the last good checkpoint stays the last.
    """

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        """After the iteration's last batch, check all its losses: one wait for the device.

        Raises:
            Mistake: Naming the first bad minibatch, its tensors that are not finite and their environments.
        """
        if batch_idx + 1 == trainer.num_training_batches:
            self._inspect(trainer)

    def _inspect(self, trainer: L.Trainer) -> None:
        module = self.module
        log = module.minibatches
        if not log.totals:
            return
        losses = torch.stack(log.totals)
        seen = [losses.sum(), torch.stack(log.diagnostics).sum()]
        if trainer.precision != "16-mixed":  # there a gradient that overflows is normal: the scaler skips that step
            seen.append(torch.stack(log.grad_norms).sum())
        if bool(torch.isfinite(torch.stack(seen).sum())):
            return
        bad = (~torch.isfinite(losses)).nonzero().flatten().tolist()
        index = bad[0] if bad else 0
        minibatch = module.dataset.minibatch(index)
        batch = minibatch.tensors
        fields = [name for name, value in batch.items() if not bool(torch.isfinite(value).all())]
        parameters = [name for name, value in module.policy.named_parameters() if not torch.isfinite(value).all()]
        path = run_file(trainer, "nan_batch.pt")
        kept = f"the batch is in {path}"
        if trainer.is_global_zero:
            try:
                with path.open("wb") as file:
                    dump(batch, file)
            except OSError as error:  # the news is the loss
                kept = f"the batch could not be written to {path} ({error.strerror})"
        raise Mistake(
            f"loss or gradient not finite at iteration {trainer.current_epoch}, minibatch {index}: batch tensors"
            f" {fields or 'all finite'} (envs {_environments(minibatch, fields)}), parameters"
            f" {parameters or 'all finite'}; {kept}. Lower {module.step_size} or"
            " model.optimizer.max_grad_norm, then resume from the last checkpoint"
        )


def _environments(batch: Minibatch, fields: list[str]) -> list[int]:
    """Environments of the samples that hold something that is not finite in one of the `fields`."""
    found: set[int] = set()
    for name in fields:
        wrong = ~torch.isfinite(batch.tensors[name])
        sample_dim = 1 if batch.sequences and wrong.dim() > 1 else 0
        others = [dim for dim in range(wrong.dim()) if dim != sample_dim]
        rows = wrong.any(dim=others) if others else wrong
        found |= set(batch.envs[rows].tolist())
    return sorted(found)[:16]
