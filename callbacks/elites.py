"""An archive of the best genes ever seen, and the checkpoint of the best master.

Shape legend: K agents, Z gene entries, A action entries, E archived elites.
"""

from typing import Any

import lightning as L
import torch
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from epo_lightning.callbacks.evolution import GeneticEvolution
from epo_lightning.callbacks.run_files import run_file
from epo_lightning.genetics import rank_followers
from epo_lightning.limits import require_range
from epo_lightning.metrics import QUANTITIES
from epo_lightning.module import EPOModule
from epo_lightning.population import MASTER

_RETURN = QUANTITIES.index("return")
_KEY = "trainer.callbacks ElitePreservation"


class ElitePreservation(L.Callback):
    """Remembers the fittest genes over all generations and brings them back when the population has lost them.

    It reads the fitness that `GeneticEvolution` selects by, so it stands before that callback in the list.

    Args:
        archive_size: E, genes to remember.
        every_n_env_steps: Env steps between two looks at the population.
        min_episodes: Episodes that an agent must have finished to enter the archive.
        restore_margin: When the best follower's fitness falls below the archive's best by more than this fraction of
            its absolute value, the archived genes replace the worst followers; null never restores.
        save_best_master: Write `checkpoints/best_master.ckpt` whenever the master's fitness reaches a new best.
    """

    def __init__(
        self,
        archive_size: int = 4,
        every_n_env_steps: int = 20_000_000,
        min_episodes: int = 1,
        restore_margin: float | None = None,
        save_best_master: bool = True,
    ) -> None:
        require_range(f"{_KEY}.archive_size", archive_size, 1)
        require_range(f"{_KEY}.every_n_env_steps", every_n_env_steps, 1)
        require_range(f"{_KEY}.min_episodes", min_episodes, 1)
        if restore_margin is not None:
            require_range(f"{_KEY}.restore_margin", restore_margin, 0)
        self.archive_size, self.every_n_env_steps, self.min_episodes = archive_size, every_n_env_steps, min_episodes
        self.restore_margin, self.save_best_master = restore_margin, save_best_master
        self.best_master_fitness = -torch.inf
        self.restorations = 0
        self._next_look = every_n_env_steps
        self.fitness = torch.empty(0, dtype=torch.float64)
        self.genes: Tensor = torch.empty(0, 0)
        self.log_std: Tensor = torch.empty(0, 0)

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Refuse an archive larger than the population and the wrong place in the list."""
        if stage != "fit":
            return
        assert isinstance(pl_module, EPOModule)
        if self.archive_size > pl_module.num_agents - 1:
            raise ValueError(
                f"{_KEY}.archive_size must be at most the number of followers ({pl_module.num_agents - 1}),"
                f" got {self.archive_size}"
            )
        before = trainer.callbacks[: trainer.callbacks.index(self)]  # type: ignore[attr-defined]
        if any(isinstance(callback, GeneticEvolution) for callback in before):
            raise ValueError("trainer.callbacks: ElitePreservation must stand before GeneticEvolution")

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """A resumed run logs what it knew."""
        assert isinstance(pl_module, EPOModule)
        if len(self.fitness):
            pl_module.metrics["population/archive_best"] = float(self.fitness[0])

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Update the archive, restore it if need be, keep the best master."""
        assert isinstance(pl_module, EPOModule)
        dataset = pl_module.dataset
        if dataset.env_steps < self._next_look:
            return
        means, episodes = dataset.fitness.compute()
        fitness = torch.where(episodes >= self.min_episodes, means[_RETURN], -torch.inf).cpu()
        ranking = rank_followers(fitness)
        if fitness[ranking[0]] == -torch.inf:
            return
        self._next_look = dataset.env_steps + self.every_n_env_steps
        everybody_known = bool((episodes[MASTER + 1 :] >= self.min_episodes).all())
        if everybody_known and self._has_lost_its_best(fitness[ranking[0]]):
            self._restore(pl_module, ranking)
        else:
            self._remember(pl_module, fitness, ranking[: self.archive_size])
        pl_module.metrics["population/archive_best"] = float(self.fitness[0])
        if fitness[MASTER] > self.best_master_fitness:
            self.best_master_fitness = float(fitness[MASTER])
            if self.save_best_master:
                trainer.save_checkpoint(run_file(trainer, "checkpoints", "best_master.ckpt"), weights_only=False)

    def _has_lost_its_best(self, best: Tensor) -> bool:
        if self.restore_margin is None or not len(self.fitness):
            return False
        return bool(best < self.fitness[0] - self.restore_margin * self.fitness[0].abs())

    def _remember(self, module: EPOModule, fitness: Tensor, best: Tensor) -> None:
        """Merge the best followers into the archive and keep the E fittest of both."""
        best = best[fitness[best] > -torch.inf]
        genes, log_std = module.policy.genes.detach().cpu()[best], module.policy.log_std.detach().cpu()[best]
        known = len(self.fitness)
        everything = torch.cat([self.fitness, fitness[best]])
        kept = everything.argsort(descending=True, stable=True)[: self.archive_size]
        self.fitness = everything[kept]
        self.genes = torch.cat([self.genes, genes])[kept] if known else genes[kept]
        self.log_std = torch.cat([self.log_std, log_std])[kept] if known else log_std[kept]

    def _restore(self, module: EPOModule, ranking: Tensor) -> None:
        device = module.policy.genes.device
        worst = ranking[-len(self.fitness) :].to(device)
        module.replace_agents(worst, self.genes.to(device), self.log_std.to(device))
        self.restorations += 1
        rank_zero_info(
            f"The population fell below its archive ({self.fitness[0]:.4g}): elites return as {worst.tolist()}"
        )

    def state_dict(self) -> dict[str, Any]:
        """The archive, the clock and the best master's fitness."""
        names = ("fitness", "genes", "log_std", "best_master_fitness", "restorations", "_next_look")
        return {name: getattr(self, name) for name in names}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from `state_dict`."""
        for name, value in state_dict.items():
            setattr(self, name, value)
