"""What every algorithm's stream of experience keeps from iteration to iteration.

Shape legend: N environments of this rank, T env steps of an iteration, K agents, M replaced agents.
"""

import time
import warnings
from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple, TypeVar

import torch
from torch import Tensor
from torch.utils.data import IterableDataset

from epo_lightning.algorithm.population import Population
from epo_lightning.envs.base import EnvSpec, StepResult
from epo_lightning.envs.contract import check_first, check_result, load_state
from epo_lightning.envs.halves import KEY as DOUBLE_BUFFER
from epo_lightning.envs.halves import Halves, require_same_halves
from epo_lightning.experience.env_log import EnvLog
from epo_lightning.experience.episodes import AgentMean, EpisodeLedger, FinishedEpisodes
from epo_lightning.experience.fitness import FitnessWindow
from epo_lightning.experience.saved_state import require_readable
from epo_lightning.experience.streams import Stream
from epo_lightning.experience.world import World
from epo_lightning.learner.policy import Policy
from epo_lightning.limits import Mistake

Batch = TypeVar("Batch")


class Minibatch(NamedTuple):
    """A minibatch as it was learned from.

    Attributes:
        tensors: Its tensors by name.
        envs: (B,) the number of the environment of each sample.
        sequences: Whether samples are sequences: those of more than one axis have the samples on the second one.
    """

    tensors: dict[str, Tensor]
    envs: Tensor
    sequences: bool = False


def require_alternation(population: Population, *, alternates: bool) -> None:
    """Refuse to act in one half of the environments while the other half steps.

    Args:
        population: Whose environments they are.
        alternates: See `Experience`.

    Raises:
        Mistake: Where the algorithm cannot do it, or an agent has an odd number of environments.
    """
    if not alternates:
        raise Mistake(f"{DOUBLE_BUFFER} is for algorithms that learn from rollouts (epo, pbt); set it to false")
    if any(envs % 2 for envs in population.envs_of().tolist()):
        raise Mistake(
            f"{DOUBLE_BUFFER} needs an even number of environments of every agent, half of them in each half: make"
            f" data.num_envs a multiple of {2 * population.num_agents}"
            f"{', and model.rollout.master_share null' if population.master_share is not None else ''}"
        )


class Experience(IterableDataset[Batch]):
    """Acts in the environments, counts episodes and fitness, and streams what an algorithm learns from.

    One pass over it is one iteration.

    Args:
        world: The environments.
        policy: The network that acts.
        population: Who acts where.

    Attributes:
        fitness: What every agent's episodes return, since the window was opened.
        individuals: (K,) int64 on the CPU: the individual in each row of the population; a new gene makes a new one.
        env_steps: Env steps made so far, over all environments and ranks.
        iteration_env_steps: Those of an iteration.
        recent_episodes: Averages the last episodes of the environments, per agent and over all ranks.
        obs: (N, O) what the environments returned last; None before the first step.
        episodes: What finished in the last iteration.
        diagnostics: Scalars on the device that describe the last iteration.
        of_agents: (K,) tensors that do; an agent of which something is not known has NaN.
        lacks_final_obs: An episode was truncated and the environment did not say in which observation.
        notice: What the user should know of the last iteration, in one line; whoever tells it empties it.
        seconds: Host time of the last iteration by part: `env`, `inference`, and what else an algorithm does here.
        clock: Tells the host's seconds.
        alternates: Whether it can act in one half of the environments while the other half steps.
    """

    alternates: ClassVar[bool] = False
    iteration_env_steps: int

    def __init__(self, world: World, policy: Policy, population: Population) -> None:
        self.world, self.env, self.policy, self.population = world, world.env, policy, population
        if isinstance(self.env, Halves):
            require_alternation(population, alternates=self.alternates)
        self.device, self.autocast = world.device, world.autocast
        self.generator = world.generator(Stream.ROLLOUT)
        self.agent_ids = population.agent_of_env(self.device)
        self.ledger = EpisodeLedger(population.num_envs, self.device)
        self.state = policy.initial_state(population.num_envs, self.device)
        self.recent_episodes = AgentMean(population).to(self.device)
        self.obs: Tensor | None = None
        self.env_steps = 0
        self.episodes: FinishedEpisodes | None = None
        self.diagnostics: dict[str, Tensor] = {}
        self.of_agents: dict[str, Tensor] = {}
        self.seconds: dict[str, float] = {}
        self.fitness = FitnessWindow(population, self.device)
        self.individuals = torch.arange(population.num_agents)
        self.clock: Callable[[], float] = time.perf_counter
        self.lacks_final_obs = False
        self.notice = ""

    @abstractmethod
    def __len__(self) -> int:
        """Batches of an iteration."""

    @property
    @abstractmethod
    def nbytes(self) -> int:
        """Bytes that the stored samples take on this rank."""

    @property
    def kept_nbytes(self) -> int:
        """Bytes of those samples that a checkpoint has to hold."""
        return 0

    @property
    @abstractmethod
    def forward_passes(self) -> int:
        """Samples times passes through the network in an iteration of this rank; a backward pass counts as two."""

    @abstractmethod
    def minibatch(self, index: int) -> Minibatch:
        """The `index`-th minibatch that was learned from in this iteration."""

    def begin(self) -> Tensor:
        """(N, O) the observations in which the agents act next; the first time, of episodes that begin."""
        if self.obs is None:
            self.obs = self.start_episodes()
            check_first(self.obs, self.env.spec, self.device)
            remedy = f"state_dict() of data.env ({self.env.spec.name}) returns it"
            require_readable(self.env.state_dict(), "env", remedy)
        return self.obs

    def start_episodes(self) -> Tensor:
        """(N, O) the first observations of N new episodes: when a training begins, or where none could be restored."""
        return self.env.reset()

    def advance(self, actions: Tensor, log: EnvLog) -> StepResult:
        """One step of every environment.

        Args:
            actions: As `VectorEnv.step` takes them.
            log: Takes in what the environments log besides their results.

        Raises:
            Mistake: When the environment breaks its contract.
        """
        return self.outcome(lambda: self.env.step(actions), self.env.spec, log)

    def outcome(self, step: Callable[[], StepResult], spec: EnvSpec, log: EnvLog) -> StepResult:
        """What `step` returns; how long the host waited for it is the environments' time.

        Raises:
            Mistake: When it is not what environments of `spec` return.
        """
        start = self.clock()
        result = step()
        self.seconds["env"] += self.clock() - start
        check_result(result, spec, self.device)
        log.add(result.log)
        return result

    def count(self, rewards: Tensor, successes: Tensor, done: Tensor) -> None:
        """Count the (T, N) outcomes of an iteration."""
        self.episodes = self.ledger.record(rewards, successes, done)
        self.fitness.update(self.episodes)
        self.env_steps += done.numel() * self.world.world_size

    def tell_of_missing_final_obs(self) -> None:
        """Once per training."""
        if not self.lacks_final_obs:
            name = self.env.spec.name
            warnings.warn(f"{name} gives no final_obs: truncated episodes are bootstrapped with V(s_t)", stacklevel=2)
        self.lacks_final_obs = True

    def open_window(self) -> None:
        """Fitness is measured anew from here on, for every agent alike."""
        self.fitness.open(self.ledger.running, self.env_steps)

    def start_new_gene(self, agents: Tensor) -> None:
        """`agents` (M,) are other individuals now: their recurrent state is zeroed, and fitness is measured anew."""
        first = int(self.individuals.max()) + 1
        self.individuals[agents.cpu()] = torch.arange(first, first + len(agents))
        self.state = self.state.masked_fill(torch.isin(self.agent_ids, agents.to(self.device))[:, None], 0.0)
        self.open_window()

    def forget_episodes(self, agents: Tensor) -> None:
        """What `agents` (M,) did is no longer told: others take their place, and have finished no episode yet."""
        self.ledger.forget(torch.isin(self.agent_ids, agents.to(self.device)))

    def take_over_episodes(self, agent: int, source: int) -> None:
        """`agent` acts as `source` from now on: what that one's last episodes were is told of both.

        Until an environment of `agent` has finished a whole episode of its own, it tells one of `source`, each of which
        is told as often as the others, or once more.
        """
        firsts, envs = self.population.first_envs().tolist(), self.population.envs_of().tolist()
        own = torch.arange(envs[agent], device=self.device)
        self.ledger.copy(firsts[agent] + own, firsts[source] + own % envs[source])

    # Not called state_dict: Lightning would save such a loader by itself a second time, the first rank's only

    def saved(self) -> dict[str, Any]:
        """Everything that the next iteration depends on, on this rank."""
        return {
            "env": self.env.state_dict(),
            "curriculum": self.env.curriculum(),
            "obs": self.obs,
            "state": self.state,
            "ledger": self.ledger.state_dict(),
            "fitness": self.fitness.state_dict(),
            "individuals": self.individuals,
            "generator": self.generator.get_state(),
            "torch_rng": torch.get_rng_state(),
            "env_steps": self.env_steps,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue where `saved` was taken: exactly, or with new episodes where the simulator cannot restore.

        So does a simulator without a state (`env` is None, see `dealing`), at the difficulty that was reached.
        """
        goes_on = state["env"] is not None
        if goes_on:
            require_same_halves(self.env, state["env"])
            load_state(self.env, state["env"])
            self.generator.set_state(state["generator"])
            torch.set_rng_state(state["torch_rng"])
        else:
            self.env.begin_at(state["curriculum"])
            seed = self.world.stream_seed(Stream.ROLLOUT, state["env_steps"])  # not that of the run's first step
            self.generator.manual_seed(seed)
            torch.manual_seed(seed)
        self.ledger.load_state_dict(state["ledger"])
        self.fitness.load_state_dict(state["fitness"])
        self.individuals = state["individuals"].clone()
        self.env_steps = state["env_steps"]
        if goes_on and self.env.spec.restores:
            self.obs = state["obs"].to(self.device)
            self.state = state["state"].to(self.device)
        elif not self.env.spec.restores:  # `begin` resets the environments
            self.ledger.drop_running()
            self.open_window()
