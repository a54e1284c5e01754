"""A stream of generations: every agent plays its environments without noise until each has ended an episode.

Shape legend: N environments, K agents, n = N / K, T env steps between two looks, O observation, A action, B samples.
"""

import copy
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from epo_lightning.algorithm.population import Population
from epo_lightning.envs.contract import refuse_unsound, sound
from epo_lightning.experience.base import Minibatch
from epo_lightning.experience.env_log import EnvLog
from epo_lightning.experience.episodes import QUANTITIES
from epo_lightning.experience.n_step import NStepBuffer
from epo_lightning.experience.off_policy import ReplayExperience
from epo_lightning.experience.replay import CAPACITY, NStepTransitions
from epo_lightning.experience.world import World
from epo_lightning.learner.normalization import RunningMoments
from epo_lightning.learner.stacked_actor import StackedActor
from epo_lightning.limits import require_range

_RETURN = QUANTITIES.index("return")


@dataclass(frozen=True)
class GenerationSettings:
    """How long a generation lasts: until every environment has ended an episode that it began in it.

    Args:
        episodes_per_env: So many episodes instead of one.
        horizon: Env steps between two looks at whether the generation is over. What divides the time limit of the
            task loses no step; larger looks less often, which a GPU likes.
        max_steps: At most so many env steps of every environment, rounded up to whole looks: what an episode has
            returned until then counts for it.
    """

    episodes_per_env: int = 1
    horizon: int = 20
    max_steps: int = 10_000

    def __post_init__(self) -> None:
        for name in ("episodes_per_env", "horizon", "max_steps"):
            require_range(f"model.generation.{name}", getattr(self, name), 1)


@dataclass(frozen=True)
class GenerationReplaySettings:
    """What is remembered, and how much of it each update sees.

    Args:
        capacity_per_env: Transitions that are kept of every environment; older ones make room.
        batch_size: Transitions of one update of the critics, and of every actor in one update of the actors, on every
            rank.
        warmup: Nothing is learnt by gradient before every environment has made more env steps than these: the
            generations until then are the cross-entropy method's alone.
    """

    capacity_per_env: int = 100_000
    batch_size: int = 100
    warmup: int = 1000

    def __post_init__(self) -> None:
        require_range(CAPACITY, self.capacity_per_env, 1)
        require_range("model.replay.batch_size", self.batch_size, 1)
        require_range("model.replay.warmup", self.warmup, 0)


class Generation(NamedTuple):
    """What came of one.

    Attributes:
        fitness: (K,) float64 mean return of the episodes of each agent that count.
        env_steps: Of the members, over all ranks: of all agents but the first.
        warm: Whether there is enough to learn from by gradient.
    """

    fitness: Tensor
    env_steps: int
    warm: bool


class GenerationDataset(ReplayExperience[Generation]):
    """One pass is a generation, and one batch.

    Observations are normalised by what was seen before the generation began: its agents are measured by functions that
    do not change.

    Args:
        world: The environments; N of them.
        policy: The network that acts; its normaliser is updated here, at the end of a generation.
        settings: See `GenerationSettings`.
        replay: See `GenerationReplaySettings`.
        buffer: What is remembered; empty.
    """

    policy: StackedActor
    buffer: NStepBuffer

    def __init__(
        self,
        world: World,
        policy: StackedActor,
        settings: GenerationSettings,
        replay: GenerationReplaySettings,
        buffer: NStepBuffer,
    ) -> None:
        super().__init__(world, policy, Population(policy.num_agents, world.env.spec.num_envs), buffer)
        self.settings, self.replay = settings, replay
        self.fitness.episodes = settings.episodes_per_env
        self.iteration_env_steps = self._forward_passes = 0
        self._drawn: list[Tensor] = []
        self._told = False

    def __len__(self) -> int:
        return 1

    def __iter__(self) -> Iterator[Generation]:
        self.seconds = dict.fromkeys(("env", "inference"), 0.0)
        self._drawn.clear()
        start, log, steps = self.clock(), EnvLog(self.device), 0
        moments = copy.deepcopy(self.policy.obs_moments)
        self.obs = self.begin()
        while not steps or (steps < self.settings.max_steps and not self.fitness.is_finished()):
            self._look(moments, log)
            steps += self.settings.horizon
        if not self.fitness.is_finished():
            self._tell_of_cut_episodes(steps)
        self.policy.obs_moments.load_state_dict(moments.state_dict())
        self.diagnostics = {f"env/{name}": mean for name, mean in log.means().items()}
        ranks, agents = self.world.world_size, self.population
        self.iteration_env_steps = steps * agents.num_envs * ranks
        self._forward_passes = steps * agents.num_envs
        fitness = self.fitness.measure(self.ledger.running)[_RETURN]
        warm = self.env_steps > self.replay.warmup * agents.num_envs * ranks
        self.seconds["inference"] += self.clock() - start - self.seconds["env"]
        yield Generation(fitness, steps * (agents.num_envs - agents.envs_per_agent) * ranks, warm)

    def _look(self, moments: RunningMoments, log: EnvLog) -> None:
        """T env steps; `moments` take in what was seen."""
        normalize = self.policy.obs_moments.normalizer()
        agents, steps = self.population.num_agents, self.settings.horizon
        rewards, successes = torch.zeros(2, steps, self.population.num_envs, device=self.device)
        done, bad = torch.zeros(2, *rewards.shape, dtype=torch.bool, device=self.device)
        assert self.obs is not None
        for t in range(steps):
            obs = self.obs.clone()  # the environment may write into its own in the next step
            with torch.no_grad(), self.autocast():
                actions = self.policy(normalize(obs).unflatten(0, (agents, -1))).flatten(0, 1)
            result = self.act_and_remember(obs, actions, log)
            moments.update(obs)
            rewards[t], successes[t] = result.reward, result.successes
            done[t] = result.terminated | result.truncated
            bad[t] = ~sound(result) & torch.isfinite(actions).all(1)  # else the network is at fault
            self.obs = result.obs
        refuse_unsound(self.env.spec, bad.any(0))
        self.count(rewards, successes, done)

    def _tell_of_cut_episodes(self, steps: int) -> None:
        """Once per training."""
        if not self._told:
            key = "model.generation.max_steps"
            warnings.warn(
                f"a generation ends after {steps:,} env steps ({key}) with episodes that still run: they count with"
                " what they have returned so far",
                stacklevel=2,
            )
        self._told = True

    def draw(self) -> NStepTransitions:
        """(B, ...) transitions for one update of the critics."""
        numbers = self.buffer.draw(self.replay.batch_size, self.generator)
        self._drawn.append(numbers)
        self._forward_passes += len(numbers)
        return self.buffer.gather(numbers)

    def draw_for(self, actors: int) -> Tensor:
        """(actors, B, O) raw observations for one update of each of so many actors."""
        numbers = self.buffer.draw(actors * self.replay.batch_size, self.generator)
        self._forward_passes += 3 * len(numbers)
        obs = self.buffer.gather(numbers).obs
        return obs.view(actors, -1, obs.shape[1])

    @property
    def forward_passes(self) -> int:
        """Of actors, in this iteration: to act, of the following actions of the critics, and to learn."""
        return self._forward_passes

    def minibatch(self, index: int) -> Minibatch:
        """The `index`-th minibatch of the critics in this iteration."""
        numbers = self._drawn[index]
        return Minibatch(self.buffer.gather(numbers)._asdict(), numbers % self.population.num_envs)
