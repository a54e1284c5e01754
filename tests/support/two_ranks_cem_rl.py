"""CEM-RL on both ranks of `test_ddp.py`: `python -m tests.support.two_ranks_cem_rl FOLDER`."""

import sys
from pathlib import Path

import lightning as L
import torch
from torch import Tensor

from epo_lightning.algorithm.cem import CEMSettings
from epo_lightning.callbacks import NaNGuard
from epo_lightning.experience.generation import Generation, GenerationReplaySettings, GenerationSettings
from epo_lightning.learner.adam import CEMOptimizerSettings
from epo_lightning.learner.stacked_actor import CEMNetworkSettings
from epo_lightning.modules.cem_rl import CEMRLModule
from tests.support.training import small_data
from tests.support.two_ranks import RememberingProbe, on_two_ranks


class Measured(CEMRLModule):
    """Keeps what each environment of this rank returned in every generation, and what that comes to for the agents."""

    def on_train_start(self) -> None:
        super().on_train_start()
        self.of_envs: list[Tensor] = []
        self.fitness: list[Tensor] = []

    def update(self, batch: Generation) -> None:
        self.of_envs.append(self.dataset.fitness.of_each_env(self.dataset.ledger.running)[0].clone())
        self.fitness.append(batch.fitness.clone())
        super().update(batch)


class Witness(L.Callback):
    """Writes what each rank holds at the end."""

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, Measured)
        buffer = pl_module.dataset.buffer
        held = {
            "weights": pl_module.state_dict(),
            "optimizer": trainer.optimizers[0].state_dict()["state"],
            "stored": buffer.gather(torch.arange(len(buffer))).obs,
            "of_envs": torch.stack(pl_module.of_envs),
            "fitness": torch.stack(pl_module.fitness),
            "updates": len(pl_module.minibatches.totals),
            "env_steps": pl_module.env_steps,
            "generation": pl_module.generation,
        }
        torch.save(held, Path(trainer.default_root_dir) / f"rank{trainer.global_rank}.pt")


def main(folder: str) -> None:
    """Three generations, whose episodes last 3 steps on one rank and 7 on the other: it waits for these."""
    (run := Path(folder) / "cem_rl").mkdir(exist_ok=True)  # both ranks come by
    torch.set_num_threads(1)
    torch.manual_seed(0)
    module = Measured(
        5,
        CEMNetworkSettings((8,), (8,)),
        CEMSettings(gradient_members=2, parents=2),
        optimizer=CEMOptimizerSettings(critic_updates_per_env_step=0.05, actor_updates_per_env_step=0.02),
        replay=GenerationReplaySettings(capacity_per_env=40, batch_size=16, warmup=10),
        generation=GenerationSettings(horizon=7),
    )
    on_two_ranks(str(run), 3, [NaNGuard(), Witness()]).fit(module, small_data(10, RememberingProbe))


if __name__ == "__main__":
    main(sys.argv[1])
