"""The genetic algorithm on the population's genes, as a callback: this is what turns SAPG into EPO.

Shape legend: K agents, M children.
"""

import math
from typing import Any

import lightning as L
import torch
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from epo_lightning.algorithm.crossover import Average, Crossover, CrossoverName, by_name
from epo_lightning.algorithm.genetics import (
    Inheritance,
    Offspring,
    evolve,
    may_adopt,
    rank_followers,
    should_evolve,
)
from epo_lightning.algorithm.population import MASTER
from epo_lightning.callbacks.followers import count_followers
from epo_lightning.callbacks.gene_history import GeneHistory
from epo_lightning.callbacks.reach import tell_if_out_of_reach
from epo_lightning.callbacks.run_files import run_file
from epo_lightning.experience.base import Experience
from epo_lightning.experience.episodes import QUANTITIES
from epo_lightning.experience.streams import Stream, derive_seed
from epo_lightning.limits import Mistake, require_range
from epo_lightning.modules.base import PopulationCallback, PopulationModule
from epo_lightning.run.lineage import Lineage, run_folders
from epo_lightning.run.notices import Reasons, against

_RETURN = QUANTITIES.index("return")
_KEY = "trainer.callbacks GeneticEvolution"


class GeneticEvolution(PopulationCallback):
    """Replaces weak followers by mutated children of strong ones (EPO section 4.1).

    Fitness is measured in windows of `every_n_env_steps`, for every agent alike (`FitnessWindow`): the undiscounted
    return of the first episodes that an agent's environments began in the window, averaged over its environments. When
    a window closes, the followers may evolve, and the next one opens whether they did or not. Only genes and log-stds
    change, in place; the master's never do, unless `adoption_margin` lets it adopt a follower's. Rank 0 decides with a
    generator of its own, the other ranks receive what it drew. Every generation becomes a line of `lineage.jsonl` in
    the run folder, and its genes a row of `genes.npy`.

    Args:
        every_n_env_steps: Env steps of a window. It stays open until every environment has begun an episode in it and
            each agent has shown half of what it can, but at most two and a half times as long.
        warmup_env_steps: No generation before this many env steps.
        num_elites: Best followers that survive unchanged; at least 1 and fewer than the followers.
        num_offspring: How many of the worst followers are replaced; null for all that are not elites.
        spread_threshold: Evolve only if max f - min f > spread_threshold * |median f| (EPO eq. 3).
        crossover: How the genes of two parents mix: `average`, `uniform`, `k_point`, or the `class_path` and
            `init_args` of a `Crossover`.
        crossover_points: Crossing points of `k_point` by that name.
        mutation_sigma: Standard deviation of the Gaussian noise added to a child's gene.
        episodes_per_env: How many episodes of each environment count.
        adoption_margin: When a window closes behind the warm-up, the master takes over gene and log-std of a follower
            whose fitness is above its own by more than this fraction of the follower's absolute one; null for never.
        seed: Of the generator that draws parents, crossings and mutations; null follows `seed_everything`.
    """

    def __init__(
        self,
        every_n_env_steps: int = 20_000_000,
        warmup_env_steps: int = 200_000_000,
        num_elites: int = 8,
        num_offspring: int | None = None,
        spread_threshold: float = 0.1,
        crossover: Crossover | CrossoverName = "average",
        crossover_points: int = 2,
        mutation_sigma: float = 0.1,
        episodes_per_env: int = 1,
        adoption_margin: float | None = None,
        seed: int | None = None,
    ) -> None:
        require_range(f"{_KEY}.every_n_env_steps", every_n_env_steps, 1)
        require_range(f"{_KEY}.warmup_env_steps", warmup_env_steps, 0)
        require_range(f"{_KEY}.num_elites", num_elites, 1)
        if num_offspring is not None:
            require_range(f"{_KEY}.num_offspring", num_offspring, 1)
        require_range(f"{_KEY}.spread_threshold", spread_threshold, 0)
        require_range(f"{_KEY}.crossover_points", crossover_points, 1)
        require_range(f"{_KEY}.mutation_sigma", mutation_sigma, 0)
        require_range(f"{_KEY}.episodes_per_env", episodes_per_env, 1)
        if adoption_margin is not None:
            require_range(f"{_KEY}.adoption_margin", adoption_margin, 0)
        if seed is not None:
            require_range(f"{_KEY}.seed", seed, 0)
        self.every_n_env_steps, self.warmup_env_steps = every_n_env_steps, warmup_env_steps
        self.num_elites, self.num_offspring, self.spread_threshold = num_elites, num_offspring, spread_threshold
        self.crossover = crossover if isinstance(crossover, Crossover) else by_name(crossover, crossover_points)
        self.mutation_sigma = mutation_sigma
        self.episodes_per_env, self.adoption_margin, self.seed = episodes_per_env, adoption_margin, seed
        self.adoptions = 0
        self.lineage = Lineage()
        self.genes = GeneHistory()
        self._generator: torch.Generator | None = None
        self._spread = math.nan
        self._reasons = Reasons()

    def require_population(self, module: PopulationModule) -> None:
        """Refuse numbers that do not fit the population."""
        followers = count_followers(self, module)
        if self.num_elites >= followers:
            raise Mistake(
                f"{_KEY}.num_elites must be less than the number of followers ({followers} with model.num_agents"
                f" {module.num_agents}), got {self.num_elites}"
            )
        if self.num_offspring is not None and self.num_offspring > followers - self.num_elites:
            raise Mistake(
                f"{_KEY}.num_offspring must be at most {followers - self.num_elites} (followers that are not elites),"
                f" got {self.num_offspring}"
            )

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """The stream of random numbers."""
        super().setup(trainer, pl_module, stage)
        if stage == "fit" and self._generator is None:
            words = [self.module.data.seed, Stream.EVOLUTION] if self.seed is None else [self.seed]
            self._generator = torch.Generator().manual_seed(derive_seed(*words))

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """A resumed run goes on from the generations of its checkpoint, so that none is logged twice."""
        first = max((getattr(self, name), name) for name in ("every_n_env_steps", "warmup_env_steps"))
        tell_if_out_of_reach(trainer, self.module, f"{_KEY}.{first[1]}", first[0])
        genome = self.module.genome
        for name in genome.parts.keys() - genome.averaged:
            self.crossover.check(genome.parts[name][0].numel())
        self.module.dataset.fitness.episodes = self.episodes_per_env
        self.module.metrics |= {"charts/generation": self.lineage.count, "population/fitness_spread": self._spread}
        if self.adoption_margin is not None:
            self.module.metrics["population/adoptions"] = self.adoptions
        self.lineage.begin(trainer)
        if trainer.is_global_zero:
            self.genes.resume([folder.genes for folder in run_folders(trainer)], self.lineage.count)

    def window_closes(self, dataset: Experience[Any]) -> bool:
        """Whether fitness is to be measured now; with several ranks a collective call."""
        return dataset.fitness.is_complete(dataset.env_steps, self.every_n_env_steps, dataset.ledger.running)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """When a window closes: measure the fitness, and evolve when it differs enough."""
        module, dataset = self.module, self.module.dataset
        if not self.window_closes(dataset):
            if missing := dataset.fitness.missing:
                age = dataset.env_steps - dataset.fitness.opened_at
                line = f"{missing} envs have begun no episode in the last {age:,}: no generation yet"
                self._reasons.tell("episodes", f"{dataset.env_steps:,} env steps, {line}")
            return
        fitness = dataset.fitness.measure(dataset.ledger.running)[_RETURN].cpu()
        followers = fitness[MASTER + 1 :]
        self._spread = float(followers.max() - followers.min())
        module.metrics["population/fitness_spread"] = self._spread
        if self._may_evolve(dataset.env_steps, fitness):
            self._reasons.forget()
            self.genes.begin(module.genome, self.lineage.count)
            offspring = self._replace(trainer, fitness)
            self.genes.add(module.genome)
            self._record(trainer, dataset.env_steps, fitness, offspring)
            module.metrics["charts/generation"] = self.lineage.count
        self._adopt(dataset.env_steps, fitness)
        dataset.open_window()

    def _adopt(self, env_steps: int, fitness: Tensor) -> None:
        """The master becomes what the best follower is, where that is clearly better; every rank sees the same."""
        margin = self.adoption_margin
        if margin is None or env_steps < self.warmup_env_steps or not may_adopt(fitness, margin):
            return
        best = rank_followers(fitness)[:1]
        genome = {name: part[best] for name, part in self.module.genome.read().items()}
        self.module.replace_agents(torch.tensor([MASTER]), genome)
        self.module.dataset.take_over_episodes(MASTER, int(best))
        self.adoptions += 1
        self.module.metrics["population/adoptions"] = self.adoptions
        rank_zero_info(
            f"The master is follower {int(best)} from {env_steps:,} env steps on: fitness {fitness[best].item():.4g}"
            f" instead of {fitness[MASTER]:.4g}"
        )

    def _may_evolve(self, env_steps: int, fitness: Tensor) -> bool:
        """Whether a generation is due; if not, why is told."""
        why, line = "warmup", f"below warmup_env_steps {self.warmup_env_steps:,}"
        if env_steps >= self.warmup_env_steps:
            if should_evolve(fitness, self.spread_threshold):
                return True
            # EPO eq. 3: (max f - min f) / |median f|
            median = float(fitness[MASTER + 1 :].quantile(0.5).abs())
            spread = self._spread / median if median > 0 else 0.0
            why, line = "spread", f"spread {against(spread, self.spread_threshold, 'the threshold')}"
        self._reasons.tell(why, f"{env_steps:,} env steps, {line}: no generation")
        return False

    def _replace(self, trainer: L.Trainer, fitness: Tensor) -> Offspring:
        offspring, genome = None, self.module.genome
        if trainer.is_global_zero:
            assert self._generator is not None
            mixed, averaged = Inheritance(self.crossover, self.mutation_sigma), Inheritance(Average())
            offspring = evolve(
                genome.read(),
                fitness,
                {name: averaged if name in genome.averaged else mixed for name in genome.parts},
                num_elites=self.num_elites,
                num_offspring=self.num_offspring,
                generator=self._generator,
            )
        offspring = trainer.strategy.broadcast(offspring)
        assert offspring is not None
        self.module.replace_agents(offspring.children, offspring.genome)
        return offspring

    def _record(self, trainer: L.Trainer, env_steps: int, fitness: Tensor, offspring: Offspring) -> None:
        """Append the event to the lineage, in memory and on disk."""
        elites = rank_followers(fitness)[: self.num_elites].tolist()
        record = {
            "generation": self.lineage.count + 1,
            "env_steps": env_steps,
            "children": offspring.children.tolist(),
            "parents": offspring.parents.tolist(),
            "elites": elites,
            "fitness": [round(value, 6) for value in fitness.tolist()],
        }
        self.lineage.add(trainer, record)
        rank_zero_info(
            f"Generation {record['generation']} at {env_steps:,} env steps: {len(offspring.children)} followers are"
            f" children of elites {elites}; fitness {fitness[MASTER + 1 :].min():.4g} to"
            f" {fitness[MASTER + 1 :].max():.4g}, master {fitness[MASTER]:.4g}"
        )
        if trainer.is_global_zero:
            self.genes.write(run_file(trainer, "genes.npy"))

    def state_dict(self) -> dict[str, Any]:
        """How many generations and adoptions there were, the last spread and the generator."""
        assert self._generator is not None
        return {
            **self.lineage.state_dict(),
            "adoptions": self.adoptions,
            "spread": self._spread,
            "generator": self._generator.get_state(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from `state_dict`."""
        self.lineage.load_state_dict(state_dict)
        self._spread, self.genes = state_dict["spread"], GeneHistory(state_dict.get("genes"))  # which checkpoints held
        self.adoptions = state_dict.get("adoptions", 0)  # a run from before there were any has none
        self._generator = torch.Generator()
        self._generator.set_state(state_dict["generator"])
