"""Parallel Q-Learning on both ranks of `test_ddp.py`: `python -m tests.support.two_ranks_pql FOLDER`."""

import sys
from pathlib import Path

import lightning as L
import torch

from epo_lightning.callbacks import NaNGuard
from epo_lightning.experience.n_step import MixedReplayDataset
from epo_lightning.experience.replay import ReplaySettings
from epo_lightning.learner.adamw import SACOptimizerSettings
from epo_lightning.learner.deterministic import PQLNetworkSettings
from epo_lightning.modules.pql import PQLModule
from tests.support.training import small_data
from tests.support.two_ranks import RememberingProbe, on_two_ranks


class ParallelWitness(L.Callback):
    """Writes what each rank holds at the end."""

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, PQLModule)
        assert isinstance(pl_module.dataset, MixedReplayDataset)
        buffer = pl_module.dataset.buffer
        held = {
            "weights": pl_module.state_dict(),
            "optimizer": trainer.optimizers[0].state_dict()["state"],
            "sigmas": pl_module.dataset.sigmas,
            "stored": buffer.gather(torch.arange(len(buffer))).obs,
            "updates": len(pl_module.minibatches.totals),
            "env_steps": pl_module.env_steps,
        }
        torch.save(held, Path(trainer.default_root_dir) / f"rank{trainer.global_rank}.pt")


def main(folder: str) -> None:
    """Four iterations of four env steps, of which the first five are random."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    module = PQLModule(
        PQLNetworkSettings((8,), (8,)),
        optimizer=SACOptimizerSettings(updates_per_step=2, actor_every=2, max_grad_norm=1.0),
        replay=ReplaySettings(capacity_per_env=20, batch_size=16, warmup=5, horizon=4),
    )
    on_two_ranks(folder, 4, [NaNGuard(), ParallelWitness()]).fit(module, small_data(16, RememberingProbe))


if __name__ == "__main__":
    main(sys.argv[1])
