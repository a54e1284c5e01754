"""An archive of the best individuals of all generations, and the checkpoint of the best master.

Shape legend: K agents, E archived individuals.
"""

import math
from typing import Any, NamedTuple

import lightning as L
import torch
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from epo_lightning.algorithm.genetics import rank, rank_followers
from epo_lightning.algorithm.ties import alike, exceeds
from epo_lightning.callbacks.evolution import GeneticEvolution
from epo_lightning.callbacks.followers import count_followers
from epo_lightning.callbacks.reach import tell_if_out_of_reach
from epo_lightning.callbacks.run_files import run_file
from epo_lightning.experience.base import Experience
from epo_lightning.experience.episodes import QUANTITIES
from epo_lightning.limits import Mistake, require_range
from epo_lightning.modules.base import PopulationCallback, PopulationModule
from epo_lightning.run.checkpoint import save
from epo_lightning.run.every import Every
from epo_lightning.run.notices import Reasons

_RETURN = QUANTITIES.index("return")
_KEY = "trainer.callbacks ElitePreservation"


class Archive(NamedTuple):
    """Individuals, best first, as they were when their fitness was measured last; on the CPU.

    Attributes:
        individuals: (E,) int64, see `Experience.individuals`.
        fitness: (E,) float64.
        genome: (E, ...) of each name (see `Genome`).
    """

    individuals: Tensor
    fitness: Tensor
    genome: dict[str, Tensor]

    def only(self, places: Tensor | slice) -> "Archive":
        """The entries at `places`: indices, a mask or a slice."""
        genome = {name: part[places] for name, part in self.genome.items()}
        return Archive(self.individuals[places], self.fitness[places], genome)

    def and_then(self, other: "Archive") -> "Archive":
        """The entries of both."""
        return Archive(
            torch.cat([self.individuals, other.individuals]),
            torch.cat([self.fitness, other.fitness]),
            {name: torch.cat([part, other.genome[name]]) for name, part in self.genome.items()},
        )

    def distinct(self) -> "Archive":
        """Without entries whose genome stands before them already."""
        values = torch.cat([part.unsqueeze(1).flatten(1) for part in self.genome.values()], dim=1)
        same = torch.isclose(values[:, None], values[None]).all(-1)
        return self.only(~same.tril(-1).any(1))


class ElitePreservation(PopulationCallback):
    """Remembers the fittest individuals of all generations and brings them back when the population has lost them.

    A living one is remembered as it is now: gene and fitness are those of the last update. One that was replaced is
    remembered as it was measured last, until fitter ones need its place or the task's curriculum has changed, since
    what it was worth at another difficulty says little. It reads the fitness that `GeneticEvolution` selects by, when a
    window of that callback closes, so it stands before it in the list; without it, the archive has windows of its own.

    Args:
        archive_size: E, individuals to remember.
        every_n_env_steps: Env steps between two updates of the archive.
        restore_margin: When the best follower's fitness falls below that of an archived individual that is not alive by
            more than this fraction of its absolute value, such individuals replace the worst followers; null never
            restores.
        save_best_master: Write `checkpoints/best_master.ckpt` whenever the master's fitness reaches a new best, at the
            present difficulty.
    """

    precedes = (GeneticEvolution,)

    def __init__(
        self,
        archive_size: int = 4,
        every_n_env_steps: int = 20_000_000,
        restore_margin: float | None = None,
        save_best_master: bool = True,
    ) -> None:
        require_range(f"{_KEY}.archive_size", archive_size, 1)
        require_range(f"{_KEY}.every_n_env_steps", every_n_env_steps, 1)
        if restore_margin is not None:
            require_range(f"{_KEY}.restore_margin", restore_margin, 0)
        self.archive_size, self.clock = archive_size, Every(every_n_env_steps)
        self.restore_margin, self.save_best_master = restore_margin, save_best_master
        self.archive: Archive | None = None
        self.difficulty: dict[str, float] = {}
        self.best_master_fitness = -math.inf
        self.restorations = 0
        self._evolution: GeneticEvolution | None = None
        self._of_elites, self._of_master = Reasons(), Reasons()

    def require_population(self, module: PopulationModule) -> None:
        """Refuse an archive larger than the population."""
        followers = count_followers(self, module)
        if self.archive_size > followers:
            raise Mistake(
                f"{_KEY}.archive_size must be at most the number of followers ({followers}), got {self.archive_size}"
            )

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Whose windows are its own, too."""
        super().setup(trainer, pl_module, stage)
        if stage == "fit":
            callbacks: list[L.Callback] = trainer.callbacks  # type: ignore[attr-defined]
            self._evolution = next((each for each in callbacks if isinstance(each, GeneticEvolution)), None)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """A resumed run logs what it knew."""
        tell_if_out_of_reach(trainer, self.module, f"{_KEY}.every_n_env_steps", self.clock.env_steps)
        self._log()

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """When a window closes: keep the best, bring back who is missed, save the best master."""
        dataset = self.module.dataset
        if not self.clock.is_due(dataset.env_steps) or not self._window_closes(dataset):
            return
        self.clock.restart(dataset.env_steps)
        fitness = dataset.fitness.measure(dataset.ledger.running)[_RETURN].cpu()
        self._notice_difficulty(trainer.strategy.broadcast(self.module.difficulty()))
        self._remember(fitness)
        self._restore(fitness)
        self._log()
        if self._evolution is None:
            dataset.open_window()
        master = float(fitness[self.module.champion])
        if not exceeds(master, self.best_master_fitness):
            if self.save_best_master:
                line = f"the master's fitness {master:.4g} is not above its best {self.best_master_fitness:.4g}"
                self._of_master.tell("best", f"{dataset.env_steps:,} env steps: {line}: best_master.ckpt stays")
        else:
            self._of_master.forget()
            self.best_master_fitness = master
            if self.save_best_master:
                save(trainer, run_file(trainer, "checkpoints", "best_master.ckpt"))

    def _window_closes(self, dataset: Experience[Any]) -> bool:
        if self._evolution is not None:
            return self._evolution.window_closes(dataset)
        return dataset.fitness.is_complete(dataset.env_steps, self.clock.env_steps, dataset.ledger.running)

    def _notice_difficulty(self, difficulty: dict[str, float]) -> None:
        """What was measured at another difficulty competes with nobody."""
        if not alike(difficulty, self.difficulty):
            self.archive, self.best_master_fitness = None, -math.inf
        self.difficulty = dict(difficulty)

    def _remember(self, fitness: Tensor) -> None:
        """The E fittest of the followers, as they are now, and of the archived individuals that are not alive."""
        candidates = self._living(fitness).only(rank_followers(fitness))
        if self.archive is not None:
            candidates = self._missing().and_then(candidates)
        self.archive = candidates.only(rank(candidates.fitness)).distinct().only(slice(self.archive_size))

    def _living(self, fitness: Tensor) -> Archive:
        """Everybody, in the order of agents."""
        return Archive(self.module.dataset.individuals.clone(), fitness, self.module.genome.read())

    def _missing(self) -> Archive:
        """The archived individuals that are not alive."""
        assert self.archive is not None
        return self.archive.only(~torch.isin(self.archive.individuals, self.module.dataset.individuals))

    def _restore(self, fitness: Tensor) -> None:
        """Who is missed replaces the worst followers, as far as these are worse; from then on it lives again."""
        if self.restore_margin is None or self.archive is None:
            return
        missing, ranking = self._missing(), rank_followers(fitness)
        if not len(missing.fitness):
            return
        threshold = missing.fitness[0] - self.restore_margin * missing.fitness[0].abs()
        best = float(fitness[ranking[0]])
        if not exceeds(float(threshold), best):
            line = f"the best follower's fitness {best:.4g} is within restore_margin {self.restore_margin:g}"
            self._of_elites.tell("margin", f"{line} of the archive's {missing.fitness[0]:.4g}: no elite returns")
            return
        self._of_elites.forget()
        worst = ranking.flip(0)[: len(missing.fitness)]
        better = missing.fitness > fitness[worst]
        missing, worst = missing.only(better), worst[better]
        self.module.replace_agents(worst, missing.genome)
        same = self.archive.individuals[:, None] == missing.individuals
        reborn = (same.long() * self.module.dataset.individuals[worst]).sum(1)
        self.archive = self.archive._replace(individuals=torch.where(same.any(1), reborn, self.archive.individuals))
        self.restorations += 1
        rank_zero_info(
            f"The population fell below its archive ({missing.fitness[0]:.4g}): elites return as {worst.tolist()}"
        )

    def _log(self) -> None:
        if self.archive is not None:
            self.module.metrics["population/archive_best"] = float(self.archive.fitness[0])

    def state_dict(self) -> dict[str, Any]:
        """The archive, the difficulty at which it was measured, the clock and the best master's fitness."""
        return {
            "archive": None if self.archive is None else self.archive._asdict(),
            "difficulty": self.difficulty,
            "best_master_fitness": self.best_master_fitness,
            "restorations": self.restorations,
            "clock": self.clock.state_dict(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from `state_dict`."""
        archive = state_dict["archive"]
        self.archive = None if archive is None else Archive(**archive)
        self.difficulty = dict(state_dict["difficulty"])
        self.best_master_fitness = state_dict["best_master_fitness"]
        self.restorations = state_dict["restorations"]
        self.clock.load_state_dict(state_dict["clock"])
