"""A stream of minibatches from a replay buffer, which grows by one env step before each batch.

Shape legend: N environments, T env steps of an iteration, A action entries.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Generic

import torch
from torch import Tensor

from epo_lightning.algorithm.population import Population
from epo_lightning.envs.base import StepResult
from epo_lightning.envs.contract import refuse_unsound, sound
from epo_lightning.experience.base import Batch, Experience, Minibatch
from epo_lightning.experience.env_log import EnvLog
from epo_lightning.experience.replay import ReplaySettings, ReplayShape, Ring, Sample
from epo_lightning.experience.world import World
from epo_lightning.learner.memory import Need
from epo_lightning.learner.policy import NormalizingPolicy


class ReplayExperience(Experience[Batch]):
    """What every stream keeps that learns from what it remembers.

    Args:
        world: The environments; N of them.
        policy: The network that acts.
        population: Who acts where.
        buffer: What is remembered; empty.

    Attributes:
        buffer: What is remembered.
    """

    policy: NormalizingPolicy

    def __init__(self, world: World, policy: NormalizingPolicy, population: Population, buffer: Ring[Any]) -> None:
        super().__init__(world, policy, population)
        self.buffer = buffer

    def act_and_remember(self, obs: Tensor, actions: Tensor, log: EnvLog) -> StepResult:
        """One step of every environment: `actions` (N, A) in `obs` (N, O), which stay as they are."""
        result = self.advance(actions, log)
        if result.final_obs is None and not self.lacks_final_obs and bool(result.truncated.any()):
            self.tell_of_missing_final_obs()
        self.buffer.insert(obs, actions, result)
        return result

    @property
    def nbytes(self) -> int:
        """Of the buffer."""
        return Ring.nbytes(self.buffer.shape)

    @property
    def kept_nbytes(self) -> int:
        """All of them: what is learned next is drawn from what is remembered."""
        return self.nbytes

    def saved(self) -> dict[str, Any]:
        """Also what is remembered."""
        return {**super().saved(), "replay": self.buffer.state_dict()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Also what was remembered; steps that wait for others end where the simulator cannot go on."""
        super().restore(state)
        self.buffer.load_state_dict(state["replay"])
        if self.obs is None:
            self.buffer.cut()


class ReplayDataset(ReplayExperience[list[Sample]], Generic[Sample]):
    """One pass is T env steps; each yields the minibatches to learn from after it, none while it warms up.

    Args:
        world: The environments; N of them.
        policy: The network that acts; its normaliser is updated here, after each env step.
        settings: See `ReplaySettings`.
        updates_per_step: Minibatches of a batch.
        buffer: What is remembered; empty.
    """

    buffer: Ring[Sample]

    def __init__(
        self,
        world: World,
        policy: NormalizingPolicy,
        settings: ReplaySettings,
        updates_per_step: int,
        buffer: Ring[Sample],
    ) -> None:
        population = Population(1, world.env.spec.num_envs)
        super().__init__(world, policy, population, buffer)
        self.settings, self.updates_per_step = settings, updates_per_step
        self.iteration_env_steps = population.num_envs * settings.horizon * world.world_size
        self._drawn: list[Tensor] = []

    def __len__(self) -> int:
        return self.settings.horizon

    def __iter__(self) -> Iterator[list[Sample]]:
        self.seconds = dict.fromkeys(("env", "inference"), 0.0)
        self._drawn.clear()
        envs, log = self.population.num_envs, EnvLog(self.device)
        rewards, successes = torch.zeros(2, len(self), envs, device=self.device)
        done, bad = torch.zeros(2, len(self), envs, dtype=torch.bool, device=self.device)
        obs, made = self.begin(), self.env_steps // (envs * self.world.world_size)
        for t in range(len(self)):
            start, in_env = self.clock(), self.seconds["env"]
            obs = obs.clone()  # the environment may write into its own in the next step
            actions = self._act(obs, warm=made + t >= self.settings.warmup)
            result = self.act_and_remember(obs, actions, log)
            self.policy.obs_moments.update(obs)
            rewards[t], successes[t] = result.reward, result.successes
            done[t] = result.terminated | result.truncated
            bad[t] = ~sound(result) & torch.isfinite(actions).all(1)  # else the network is at fault
            obs = self.obs = result.obs
            if t == len(self) - 1:  # after the last batch the generator is not resumed
                refuse_unsound(self.env.spec, bad.any(0))
                self.count(rewards, successes, done)
                self.diagnostics = {f"env/{name}": mean for name, mean in log.means().items()}
            minibatches = self._draw() if made + t + 1 >= self.settings.warmup and len(self.buffer) else []
            self.seconds["inference"] += self.clock() - start - (self.seconds["env"] - in_env)
            yield minibatches

    @torch.no_grad()
    def _act(self, obs: Tensor, warm: bool) -> Tensor:
        """(N, A) what is explored by; uniform while it is not `warm`."""
        if not warm:
            actions = torch.empty(len(obs), self.env.spec.act_dim, device=self.device)
            return actions.uniform_(-1, 1, generator=self.generator)
        with self.autocast():
            return self.explore(obs)

    def explore(self, obs: Tensor) -> Tensor:
        """(N, A) actions in the raw observations `obs` (N, O): what the policy draws."""
        return self.policy.act(obs, self.agent_ids, self.state, self.generator)[0]

    def _draw(self) -> list[Sample]:
        """The minibatches of an env step, read at once."""
        numbers = self.buffer.draw(self.updates_per_step * self.settings.batch_size, self.generator)
        self._drawn.append(numbers)
        drawn = self.buffer.gather(numbers)
        fields = (field.chunk(self.updates_per_step) for field in drawn)
        return [type(drawn)(*minibatch) for minibatch in zip(*fields, strict=True)]

    @property
    def forward_passes(self) -> int:
        """Of the actor: once forward to act, and forward in every update, whose following action it draws."""
        updates = self.updates_per_step * self.settings.batch_size
        return self.settings.horizon * (self.population.num_envs + updates)

    def minibatch(self, index: int) -> Minibatch:
        """The `index`-th minibatch of this iteration, of what the buffer still holds of it."""
        step, place = divmod(index, self.updates_per_step)
        numbers = self._drawn[step].chunk(self.updates_per_step)[place]
        return Minibatch(self.buffer.gather(numbers)._asdict(), numbers % self.population.num_envs)


def replay_shape(world: World, settings: ReplaySettings) -> ReplayShape:
    """Sizes of the replay buffer of a rank."""
    spec = world.env.spec
    return ReplayShape(settings.capacity_per_env, spec.num_envs, spec.obs_dim, spec.act_dim)


def stream_needs(shape: ReplayShape, settings: ReplaySettings, updates_per_step: int) -> list[Need]:
    """What is allocated besides the replay: the minibatches of an env step, and the outcomes of an iteration."""
    factors = [(settings.batch_size, "model.replay.batch_size"), (updates_per_step, "model.optimizer.updates_per_step")]
    larger, key = max(factors)
    rows = settings.batch_size * updates_per_step
    return [
        Need(rows * (8 + 4 * shape.row), key, larger),
        Need(settings.horizon * shape.num_envs * (2 * 4 + 2), "model.replay.horizon", settings.horizon),
    ]
