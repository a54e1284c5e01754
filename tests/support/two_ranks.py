"""Trainings that both ranks of `test_ddp.py` run: `python -m tests.support.two_ranks FOLDER`."""

import os
import sys
from pathlib import Path

import lightning as L
import torch
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor

from epo_lightning.callbacks import ElitePreservation, GeneticEvolution, NaNGuard
from epo_lightning.envs.base import StepResult
from epo_lightning.envs.classic import Probe
from epo_lightning.experience.rollout import RolloutDataset
from epo_lightning.modules.epo import EPOModule
from tests.support.training import small_data, small_module

RANK = int(os.environ.get("LOCAL_RANK", "0"))


class RememberingProbe(Probe):
    """Episodes last longer on rank 1, so that the ranks never finish alike; keeps all observations."""

    def __init__(self, num_envs: int, device: torch.device, seed: int) -> None:
        super().__init__(num_envs, device, seed, max_steps=3 + 4 * RANK)
        self.seen: list[Tensor] = []

    def reset(self) -> Tensor:
        self.seen.append(super().reset().clone())
        return self.seen[-1]

    def step(self, actions: Tensor) -> StepResult:
        result = super().step(actions)
        self.seen.append(result.obs.clone())
        return result


def compared(dataset: RolloutDataset) -> dict[str, Tensor]:
    """What this rank alone, and both of them, tell of the followers.

    The first two steps' samples are said to be agent 1's, those after them agent 2's on rank 0 and agent 3's on rank 1.
    """
    assert dataset.comparison is not None
    log_mu = dataset.buffer.log_mu[:, dataset.buffer.envs : dataset.buffer.shape.learnt_columns]
    sources = torch.full_like(log_mu, 4, dtype=torch.long)
    sources[2:] = 8 + 4 * RANK
    own = dataset.comparison._asked(dataset.autocast)[1]
    return {"log_mu": log_mu, "own_kl": own, **dataset.comparison.tell(sources, dataset.autocast)}


class Witness(L.Callback):
    """Writes what each rank holds at the end."""

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, EPOModule)
        env, dataset = pl_module.data.env, pl_module.dataset
        assert isinstance(env, RememberingProbe)
        torch.save(
            {
                "policy": pl_module.policy.state_dict(),
                "learning_rate": trainer.optimizers[0].param_groups[0]["lr"],
                "observations": torch.stack(env.seen[:-1]),
                "generations": int(pl_module.metrics["charts/generation"]),
                "env_steps": pl_module.metrics["charts/env_steps"],
                "fitness": dataset.fitness.measure(dataset.ledger.running),
                "fitness_of_envs": dataset.fitness.of_each_env(dataset.ledger.running),
                "individuals": dataset.individuals,
                "return_mean": pl_module.metrics["population/return_mean"],
                "agents": {name: value for name, value in pl_module.metrics.items() if name.startswith("agents/")},
                "coupled": dataset.buffer.column_agents[dataset.buffer.shape.learnt_columns :],
                "metrics": {name: value for name, value in pl_module.metrics.items() if name.startswith("losses/")},
                "diversity": {} if dataset.diversity is None else dataset.diversity.saved(),
                **compared(dataset),
            },
            Path(trainer.default_root_dir) / f"rank{trainer.global_rank}.pt",
        )


def on_two_ranks(folder: str, iterations: int, callbacks: list[L.Callback]) -> L.Trainer:
    """A trainer of two gloo ranks."""
    return L.Trainer(
        accelerator="cpu",
        devices=2,
        strategy=DDPStrategy(broadcast_buffers=False, process_group_backend="gloo"),
        max_epochs=iterations,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        limit_val_batches=0,
        callbacks=callbacks,
        default_root_dir=folder,
    )


def train(folder: Path, module: EPOModule) -> None:
    """Eight iterations with evolution."""
    callbacks = [
        ElitePreservation(every_n_env_steps=128, archive_size=1),
        GeneticEvolution(every_n_env_steps=256, warmup_env_steps=0, num_elites=1, spread_threshold=0.0),
        NaNGuard(),
        Witness(),
    ]
    on_two_ranks(str(folder), 8, callbacks).fit(module, small_data(16, RememberingProbe))


def main(folder: str) -> None:
    """EPO alone, and with followers that are coupled to the master and rewarded for being told apart."""
    torch.set_num_threads(1)
    for name in ("plain", "coupled"):
        (Path(folder) / name).mkdir(exist_ok=True)
    train(Path(folder) / "plain", small_module(4))
    apart = {"coefficient": 0.1, "hidden": (5,), "num_minibatches": 3}
    coupled = small_module(4, {"coupling_coefficient": 0.01}, {"coupling_followers": 2}, apart)
    train(Path(folder) / "coupled", coupled)


if __name__ == "__main__":
    main(sys.argv[1])
