"""Population Based Training: agents with networks of their own exchange weights and change their hyper-parameters.

Shape legend: K agents, M of them that act, N environments of this rank.
"""

import math
from typing import Any, NamedTuple

import lightning as L
import torch
from lightning.pytorch.utilities import rank_zero_info

from epo_lightning.algorithm.mutation import Gene, Mutated, mutate
from epo_lightning.algorithm.population_based import KEY, Decision, Rule, RuleName, Standing, by_name, order
from epo_lightning.callbacks.mutable import Bounds, genes_of
from epo_lightning.callbacks.reach import tell_if_out_of_reach
from epo_lightning.experience.objective import ObjectiveName, objectives
from epo_lightning.experience.streams import Stream, derive_seed
from epo_lightning.limits import Mistake, require_range
from epo_lightning.modules import algorithm_name
from epo_lightning.modules.base import PopulationCallback, PopulationModule
from epo_lightning.modules.pbt import PBTModule
from epo_lightning.run.lineage import Lineage
from epo_lightning.run.notices import Reasons


class _Change(NamedTuple):
    """What rank 0 drew for all ranks."""

    decision: Decision
    mutated: Mutated


class PopulationBasedTraining(PopulationCallback):
    """Every agent trains by itself; now and then the worst go on with the weights of one of the best (DexPBT).

    An agent is worth the mean over its environments of their last finished episodes. After every `interval_steps` of
    its own env steps that is put on record, and the rule decides by the records who acts: an agent that acts takes
    weights, normalisers and optimizer state of a better one, or keeps its own, and changes its hyper-parameters either
    way. At the beginning everybody changes them once. Rank 0 decides with a generator of its own, the other ranks
    receive what it drew. Whenever somebody acts, `lineage.jsonl` in the run folder gets a line. The champion, which is
    evaluated and whose results are the run's, is the best on record.

    Args:
        objective: What an agent is worth: `return`, `successes`, or the task's `true_objective`, which joins successes
            and difficulty.
        interval_steps: Env steps of each agent between two checks: a run of K agents makes K times as many meanwhile.
        start_after: Env steps that an agent makes at least since the beginning, or since it acted, before it acts.
        initial_delay: Nobody acts before each agent has made so many env steps.
        rule: Who acts and takes whose weights: `dexpbt`, `margins`, or the `class_path` and `init_args` of a `Rule`.
        genome: Hyper-parameters of the learner that may change, each with its smallest and largest value, or null for
            the usual ones; null for what DexPBT changes: all but learning rate and entropy.
        reward_genome: The same of the task's reward parameters.
        seed: Of the generator that draws; null follows `seed_everything`.
    """

    def __init__(
        self,
        objective: ObjectiveName = "return",
        interval_steps: int = 10_000_000,
        start_after: int = 10_000_000,
        initial_delay: int = 20_000_000,
        rule: Rule | RuleName = "dexpbt",
        genome: dict[str, tuple[float, float] | None] | None = None,
        reward_genome: dict[str, tuple[float, float] | None] | None = None,
        seed: int | None = None,
    ) -> None:
        require_range(f"{KEY}.interval_steps", interval_steps, 1)
        require_range(f"{KEY}.start_after", start_after, 0)
        require_range(f"{KEY}.initial_delay", initial_delay, 0)
        if seed is not None:
            require_range(f"{KEY}.seed", seed, 0)
        self.objective, self.interval_steps = objective, interval_steps
        self.start_after, self.initial_delay, self.seed = start_after, initial_delay, seed
        self.rule = rule if isinstance(rule, Rule) else by_name(rule)
        self.genome: Bounds | None = genome
        self.reward_genome: Bounds = reward_genome or {}
        self.lineage = Lineage()
        self._genes: dict[str, Gene] = {}
        self._generator: torch.Generator | None = None
        self._records = self._best = torch.empty(0)
        self._checked = self._began = torch.empty(0)
        self._has_begun = False
        self._reasons = Reasons()

    @property
    def population(self) -> PBTModule:
        """The module, with networks and hyper-parameters of each agent."""
        assert isinstance(self.module, PBTModule)
        return self.module

    def require_population(self, module: PopulationModule) -> None:
        """Refuse an algorithm whose agents share their network, and constants out of range."""
        if not isinstance(module, PBTModule):
            raise Mistake(
                f"{KEY} exchanges networks, and agents of {algorithm_name(type(module))} have none of their own:"
                " choose --algorithm pbt, or leave the callback out"
            )
        self.rule.check(module.num_agents)
        if self.reward_genome and self.objective == "return":
            raise Mistake(
                f"{KEY}.objective: a return says nothing where the genome changes what is paid (reward_genome); select"
                " by true_objective or successes"
            )

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """What the genes begin with; refuse those that the algorithm or the task has not."""
        super().setup(trainer, pl_module, stage)
        if stage != "fit":
            return
        self._genes = genes_of(self.genome, self.reward_genome, self.population.initial())
        assert self.module.data.env is not None, "the environments are not built"
        if self.objective == "true_objective":
            self.module.data.env.true_objective(torch.zeros(1))  # refuses at once
        if self._generator is None:
            words = [self.module.data.seed, Stream.EVOLUTION] if self.seed is None else [self.seed]
            self._generator = torch.Generator().manual_seed(derive_seed(*words))
            self._records = torch.full((self.module.num_agents,), torch.nan, dtype=torch.float64)
            self._best = self._records.clone()
            self._checked = torch.zeros(self.module.num_agents, dtype=torch.int64)
            self._began = self._checked.clone()

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Everybody mutates once; a resumed run goes on from the generations of its checkpoint."""
        first = max((getattr(self, name), name) for name in ("initial_delay", "interval_steps", "start_after"))
        agents = self.module.num_agents
        tell_if_out_of_reach(trainer, self.module, f"{KEY}.{first[1]} of {agents} agents", first[0] * agents)
        if not self._has_begun:
            everybody = torch.arange(self.module.num_agents)
            self._apply(trainer, Decision(everybody, everybody, everybody))
            self._has_begun = True
            own_steps = self.module.dataset.env_steps // self.module.num_agents  # of a run that goes on with it
            self._checked, self._began = (torch.full_like(each, own_steps) for each in (self._checked, self._began))
        self._log()
        self.lineage.begin(trainer)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """When an interval is over: put everybody on record, and have the rule decide."""
        dataset, agents = self.module.dataset, self.module.num_agents
        now = objectives(dataset, self.objective)
        self._best = torch.fmax(self._best, now)
        self._log()
        own_steps = dataset.env_steps // agents
        over = self._checked // self.interval_steps < own_steps // self.interval_steps
        due = over & ~now.isnan()
        if not due.any():
            if over.any():
                late = over.nonzero()[:, 0].tolist()
                line = f"some environments of agents {late} have finished no episode yet: these wait for their record"
                self._reasons.tell("episodes", f"{dataset.env_steps:,} env steps, {line}")
            return
        self._records = torch.where(due, now, self._records)
        self._checked = torch.where(due, own_steps, self._checked)
        self.module.champion = int(order(self._records)[0])
        long_enough = (own_steps - self._began >= self.start_after) & (own_steps >= self.initial_delay)
        self._act(trainer, Standing(self._records, self._best, due & long_enough))
        self._best = self._best.masked_fill(due, math.nan)
        self._log()

    def _act(self, trainer: L.Trainer, standing: Standing) -> None:
        """Whoever acts by the rule does."""
        env_steps, agents = self.module.dataset.env_steps, self.module.num_agents
        decision = None
        if trainer.is_global_zero:
            assert self._generator is not None
            decision = self.rule.decide(standing, self._generator)
        decision = trainer.strategy.broadcast(decision)
        assert decision is not None
        if not len(decision.agents):
            why, line = "rule", "nobody is to be replaced by the rule"
            if not standing.may_act.any():
                why, line = "early", "below initial_delay, or start_after since the last time"
            self._reasons.tell(why, f"{env_steps:,} env steps, {line}: all agents train on")
            return
        self._reasons.forget()
        mutated = self._apply(trainer, decision)
        self._began[decision.agents] = env_steps // agents
        self._record(trainer, decision, mutated)

    def _apply(self, trainer: L.Trainer, decision: Decision) -> Mutated:
        """Hyper-parameters of `decision.sources`, mutated, and the weights of `decision.parents` become the agents'."""
        module, agents = self.population, decision.agents
        change: _Change | None = None
        if trainer.is_global_zero:
            assert self._generator is not None
            now = module.hyper_parameters.read()
            taken = {name: now[name][decision.sources] for name in self._genes}
            mutated = mutate(taken, self._genes, self.rule.mutation_rate, self.rule.change, self._generator)
            change = _Change(decision, mutated)
        change = trainer.strategy.broadcast(change)
        assert change is not None
        module.adopt(agents, decision.parents, decision.with_weights, change.mutated.values)
        for name, clamped in change.mutated.clamped.items():
            if clamped.any():
                held, gene = agents[clamped].tolist(), self._genes[name]
                rank_zero_info(f"{name} of agents {held} was mutated out of [{gene.low:g}, {gene.high:g}]: held there")
        return change.mutated

    def _record(self, trainer: L.Trainer, decision: Decision, mutated: Mutated) -> None:
        """Append what happened to the lineage, in memory and on disk."""
        taken = decision.with_weights
        children, parents = decision.agents[taken].tolist(), decision.parents[taken].tolist()
        fitness = [None if math.isnan(value) else round(value, 6) for value in self._records.tolist()]
        record = {
            "generation": self.lineage.count + 1,
            "env_steps": self.module.dataset.env_steps,
            "children": children,
            "parents": [[parent, parent] for parent in parents],
            "elites": self.rule.top(self._records).tolist(),
            "fitness": fitness,
            "champion": self.module.champion,
            "mutated": decision.agents.tolist(),
            "sources": decision.sources.tolist(),
            "hyper_parameters": {name: mutated.values[name].tolist() for name in self._genes},
            "clamped": {
                name: decision.agents[clamped].tolist() for name, clamped in mutated.clamped.items() if clamped.any()
            },
        }
        self.lineage.add(trainer, record)
        told = [f"{child} with the weights of {parent}" for child, parent in zip(children, parents, strict=True)]
        told += [f"{agent} with its own" for agent in decision.agents[~taken].tolist()]
        known = self._records[~self._records.isnan()]
        rank_zero_info(
            f"Generation {self.lineage.count} at {record['env_steps']:,} env steps: other hyper-parameters for agent"
            f" {', '.join(told)}; {self.objective} {known.min():.4g} to {known.max():.4g}, best agent"
            f" {self.module.champion}"
        )

    def _log(self) -> None:
        """One column for each agent's value of what may change."""
        values = self.population.hyper_parameters.read()
        told = {f"hyper_parameters/{name}/{k}": value for name in self._genes for k, value in enumerate(values[name])}
        known = self._records[~self._records.isnan()]
        best = {"population/objective_best": float(known.max())} if len(known) else {}
        counts = {"charts/generation": self.lineage.count, "population/champion": self.module.champion}
        self.module.metrics |= {**{name: float(value) for name, value in told.items()}, **best, **counts}

    def state_dict(self) -> dict[str, Any]:
        """How many generations there were, the records, what each agent counts from, and the generator."""
        assert self._generator is not None
        tensors = {"records": self._records, "best": self._best, "checked": self._checked, "began": self._began}
        kept = {"has_begun": self._has_begun, "objective": self.objective, **tensors}
        return {**self.lineage.state_dict(), **kept, "generator": self._generator.get_state()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from `state_dict`; records of another objective are none."""
        self.lineage.load_state_dict(state_dict)
        self._has_begun = state_dict["has_begun"]
        self._records, self._best = state_dict["records"].clone(), state_dict["best"].clone()
        if state_dict["objective"] != self.objective:
            self._records, self._best = (torch.full_like(each, torch.nan) for each in (self._records, self._best))
        self._checked, self._began = state_dict["checked"].clone(), state_dict["began"].clone()
        self._generator = torch.Generator()
        self._generator.set_state(state_dict["generator"])
