"""What learns from a replay, on both ranks of `test_ddp.py`: `python -m tests.support.two_ranks_replay FOLDER`."""

import copy
import sys
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor

from epo_lightning.algorithm.pql import PQLLossSettings
from epo_lightning.callbacks import NaNGuard
from epo_lightning.experience.n_step import MixedReplayDataset
from epo_lightning.experience.replay import NStepTransitions, ReplaySettings
from epo_lightning.learner.adamw import AdamWSettings
from epo_lightning.learner.deterministic import PQLNetworkSettings
from epo_lightning.learner.q_networks import SACNetworkSettings
from epo_lightning.modules.off_policy import OffPolicyModule
from epo_lightning.modules.pql import PQLModule
from epo_lightning.modules.sac import SACModule
from tests.support.training import small_data
from tests.support.two_ranks import RememberingProbe, on_two_ranks

OPTIMIZER = AdamWSettings(updates_per_step=2, actor_every=2, max_grad_norm=1.0)
REPLAY = ReplaySettings(capacity_per_env=20, batch_size=16, warmup=5, horizon=4)


class Noted(PQLModule):
    """Keeps what it has learnt from; targets have no noise, so that nothing else decides."""

    def __init__(self) -> None:
        super().__init__(
            PQLNetworkSettings((8,), (8,)), PQLLossSettings(smoothing_sigma=0.0), optimizer=OPTIMIZER, replay=REPLAY
        )
        self.learnt: list[dict[str, Tensor]] = []

    def values_loss(self, obs: Tensor, next_obs: Tensor, batch: NStepTransitions) -> tuple[Tensor, Tensor]:
        seen = {"actions": batch.actions, "rewards": batch.rewards, "discount": batch.discount}
        self.learnt.append({"obs": obs.clone(), "next_obs": next_obs.clone(), **seen})
        return super().values_loss(obs, next_obs, batch)


class Witness(L.Callback):
    """Writes what each rank holds at the beginning and at the end."""

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.initial = copy.deepcopy(pl_module.state_dict())

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, OffPolicyModule)
        dataset = pl_module.dataset
        held: dict[str, Any] = {
            "initial": self.initial,
            "weights": pl_module.state_dict(),
            "optimizer": trainer.optimizers[0].state_dict()["state"],
            "stored": dataset.buffer.gather(torch.arange(len(dataset.buffer))).obs,
            "updates": len(pl_module.minibatches.totals),
            "env_steps": pl_module.env_steps,
            "learnt": getattr(pl_module, "learnt", []),
        }
        if isinstance(dataset, MixedReplayDataset):
            held["sigmas"] = dataset.sigmas
        torch.save(held, Path(trainer.default_root_dir) / f"rank{trainer.global_rank}.pt")


def main(folder: str) -> None:
    """Four iterations of four env steps, of which the first five are random, of each algorithm."""
    torch.set_num_threads(1)
    for name in ("sac", "pql"):
        torch.manual_seed(0)
        soft = SACModule(SACNetworkSettings((8,), (8,), atoms=11), optimizer=OPTIMIZER, replay=REPLAY)
        module = soft if name == "sac" else Noted()
        (Path(folder) / name).mkdir(exist_ok=True)
        trainer = on_two_ranks(str(Path(folder) / name), 4, [NaNGuard(), Witness()])
        trainer.fit(module, small_data(16, RememberingProbe))


if __name__ == "__main__":
    main(sys.argv[1])
