"""On-device rollouts: T steps of N environments, streamed as one batch per iteration.

Shape legend: N environments, T horizon, K agents, W columns of the buffer.

One pass over an `OnPolicyDataset` is one iteration: a rollout with the present parameters, and its targets. The
algorithm makes its passes over it in shuffled minibatches, as often as it needs.
"""

import warnings
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from epo_lightning.algorithm.distributions import CategoricalSampler, CorrelatedSampler, GaussianSampler, Sampler
from epo_lightning.algorithm.population import Population
from epo_lightning.envs.base import StepResult
from epo_lightning.envs.contract import check_symmetry
from epo_lightning.envs.halves import Halves
from epo_lightning.experience.alternation import Alternation
from epo_lightning.experience.base import Experience
from epo_lightning.experience.buffer import RolloutBuffer, RolloutShape
from epo_lightning.experience.env_log import EnvLog
from epo_lightning.experience.mirror import Mirror
from epo_lightning.experience.room import require_room, room_for
from epo_lightning.experience.settings import OnPolicySettings
from epo_lightning.experience.world import World
from epo_lightning.learner.actor_critic import ActorCritic, Expression, PolicyOutput
from epo_lightning.learner.normalization import Normalizer
from epo_lightning.limits import Mistake

_MOST = 0.9
"""Share of the environments; where more end in the same step, they end together."""


class OnPolicyDataset(Experience[RolloutBuffer]):
    """Streams one rollout per pass.

    Args:
        world: The environments; N of them.
        policy: The network that acts; its normalisers are updated here, once per rollout.
        population: Who acts where.
        settings: See `OnPolicySettings`.
        shape: Of the rollouts.
        minibatches: Of a pass.

    Attributes:
        num_minibatches: Of a pass.
        room: What is needed of the device's memory, and what is free, in words.
        buffer: The last rollout, complete: what a pass yields.
        mirror: Makes the mirror images of its samples; None where they are not learned from.
        ask: What the policy says of raw observations (N, O); its compiled or recorded form may stand here.
    """

    policy: ActorCritic
    alternates = True

    def __init__(
        self,
        world: World,
        policy: ActorCritic,
        population: Population,
        settings: OnPolicySettings,
        shape: RolloutShape,
        minibatches: int,
    ) -> None:
        super().__init__(world, policy, population)
        self.settings, self.num_minibatches = settings, minibatches
        spread = population.spread(settings.correlated_share, self.device)
        self._correlation = settings.noise_correlation * spread.float()
        self.room = require_room(room_for(policy, shape, minibatches), shape, minibatches, self.device)
        self.mirror = self._mirror() if settings.symmetry else None
        self.buffer = RolloutBuffer(shape, self.device)
        self.iteration_env_steps = population.num_envs * settings.horizon * world.world_size
        self.ask: Callable[[Normalizer, Tensor, Expression, Tensor], Any] = self._ask
        self._passes: list[Tensor] = []  # the order of what was learned from in this iteration
        self._together_since: int | None = None  # env steps, when episodes began together; until one meets its limit

    def _ask(self, normalize: Normalizer, obs: Tensor, rows: Expression, state: Tensor) -> PolicyOutput:
        output: PolicyOutput = self.policy(normalize(obs), rows, state)
        return output

    def _mirror(self) -> Mirror:
        symmetry = check_symmetry(self.env)
        return Mirror(symmetry, self.policy, self.population.num_envs, self.autocast, self.device)

    def __len__(self) -> int:
        return 1

    def __iter__(self) -> Iterator[RolloutBuffer]:
        self.collect()
        self._passes = []
        yield self.buffer

    @property
    def nbytes(self) -> int:
        """Of the buffer."""
        return RolloutBuffer.nbytes(self.buffer.shape)

    @abstractmethod
    def _complete(self, last_value: Tensor) -> None:
        """Fill in everything that the losses need of the rollout; `last_value` (N,) follows the last step."""

    @abstractmethod
    def _value_final_observations(self, t: int, result: StepResult, rows: Expression, state: Tensor) -> None:
        """Put the values of the states in which episodes were truncated in step t into `buffer.final_values`.

        Args:
            t: The step.
            result: What it gave.
            rows: Of the agents that act.
            state: (S, N, H) after it.
        """

    def _remember(self, t: int) -> None:
        """Look at the recurrent states before step t."""

    def start_episodes(self) -> Tensor:
        """At different points of their time limit, where that is asked for; those that begin late are not counted."""
        if not self.settings.staggered_starts:
            self._together_since = self.env_steps
            return super().start_episodes()
        over = self.population.staggered(self.world.rank, self.world.world_size, self.device)
        obs = self.env.reset_late(over)
        self.ledger.begin_late(over > 0)
        self.fitness.begin_late(over > 0)
        return obs

    @torch.no_grad()
    def collect(self) -> None:
        """Fill the buffer with one rollout and everything that the losses need of it."""
        self.seconds = dict.fromkeys(("env", "inference", "targets"), 0.0)
        last_value = self._interact()
        start = self.clock()
        buffer = self.buffer
        self._refuse_nonfinite()
        self.count(buffer.rewards, buffer.successes, buffer.terminated | buffer.truncated)
        self._complete(last_value)
        self.seconds["targets"] = self.clock() - start

    def _interact(self) -> Tensor:
        """T steps of every environment; returns the (N,) value of the state after them."""
        buffer, policy, envs = self.buffer, self.policy, self.population.num_envs
        obs = self.begin()
        with self.autocast():
            rows = policy.express(self.agent_ids)
        sampler = self._sampler(rows)
        buffer.states[:, :envs] = self.state
        buffer.final_obs.clear()
        log, normalize = EnvLog(self.device), policy.obs_moments.normalizer()
        start = self.clock()
        if isinstance(self.env, Halves):
            alternation = Alternation(self, self.env, policy, buffer, sampler, normalize, log)
            steps = alternation.steps(obs, self.settings.horizon)
        else:
            steps = self._steps(obs, rows, sampler, normalize, log)
        for t, (result, state) in enumerate(steps):
            self._remember(t)
            self._store(t, result, rows, state)
            obs = result.obs
        self.seconds["inference"] = self.clock() - start - self.seconds["env"]
        self.diagnostics = {f"env/{name}": mean for name, mean in log.means().items()}
        buffer.obs[-1, :envs] = obs
        with self.autocast():
            last: PolicyOutput = policy(normalize(obs), rows, self.state)
        return last.value

    def _steps(
        self, obs: Tensor, rows: Expression, sampler: Sampler, normalize: Normalizer, log: EnvLog
    ) -> Iterator[tuple[StepResult, Tensor]]:
        """What each step gave, and the recurrent state (S, N, H) after it; the caller stores both in between."""
        buffer, envs = self.buffer, self.population.num_envs
        for t in range(self.settings.horizon):
            buffer.obs[t, :envs] = obs
            with self.autocast():
                output = self.ask(normalize, obs, rows, self.state)
            buffer.values[t, :envs] = output.value
            result = self.advance(sampler.sample(t, output.actions), log)
            yield result, output.state
            obs = result.obs

    def _sampler(self, rows: Expression) -> Sampler:
        """Of the actions of a rollout, for the agents that act."""
        buffer, settings = self.buffer, self.settings
        actions, log_probs, resets = (
            field[:, : self.population.num_envs] for field in (buffer.actions, buffer.log_probs, buffer.resets)
        )
        if self.policy.discrete:
            return CategoricalSampler(actions, log_probs, rows.log_std, self.generator)
        if not settings.noise_correlation or not settings.correlated_share:
            return GaussianSampler(actions, log_probs, rows.log_std, self.generator)
        correlation = (
            settings.noise_correlation * self.population.spread(settings.correlated_share, self.device).float()
        )
        return CorrelatedSampler(actions, log_probs, rows.log_std, self.generator, correlation, resets)

    def _store(self, t: int, result: StepResult, rows: Expression, state: Tensor) -> None:
        """Keep the outcome of step t, and the values of the states in which episodes were truncated."""
        buffer, envs = self.buffer, self.population.num_envs
        buffer.rewards[t] = result.reward
        buffer.successes[t] = result.successes
        buffer.terminated[t] = result.terminated
        buffer.truncated[t] = result.truncated
        done = buffer.resets[t + 1, :envs] = result.terminated | result.truncated
        # One scalar per env step goes to the host: truncated episodes are rare, and an extra forward pass is not free
        if bool(result.truncated.any()):
            self._value_final_observations(t, result, rows, state)
            if self._together_since is not None:
                self._tell_who_ends_together(t, done, self._together_since)
        self.state = state.masked_fill(done[:, None], 0.0) if self.policy.recurrent else state
        self.obs = result.obs

    def _tell_who_ends_together(self, t: int, done: Tensor, since: int) -> None:
        """Once, when the first episodes meet their time limit: whether nearly all that began together end together."""
        self._together_since = None
        settings, envs = self.settings, self.population.num_envs
        length = (self.env_steps - since) // (envs * self.world.world_size) + t + 1
        if length > settings.horizon and envs > self.population.num_agents and float(done.float().mean()) > _MOST:
            self.notice = (
                f"{self.env.spec.name}: environments meet their time limit of {length} steps together, so that an"
                f" iteration of {settings.horizon} sees one part of an episode; model.rollout.staggered_starts true"
                " spreads them"
            )

    def _refuse_nonfinite(self) -> None:
        """One scalar per rollout goes to the host; the search for the culprits only when there are some."""
        buffer = self.buffer
        actions, log_probs = (field[:, : self.population.num_envs] for field in (buffer.actions, buffer.log_probs))
        final_values = buffer.final_values.masked_fill(~buffer.truncated, 0.0)
        obs = buffer.obs[:, : self.population.num_envs]
        parts = (actions, obs, buffer.rewards, buffer.successes, final_values)
        if bool(torch.isfinite(torch.stack([part.sum() for part in parts]).sum())):
            return
        if bool(torch.isfinite(obs[0]).all()) and not bool(torch.isfinite(actions[0].sum() + log_probs[0].sum())):
            return  # it is the network that is not finite: so will the loss be, and `NaNGuard` stops there
        bad = [_columns_not_finite(part) for part in parts]
        named = {"obs": bad[1], "reward": bad[2], "successes": bad[3], "final_obs": bad[4]}
        faults = "; ".join(f"{name} not finite in envs {envs[:16]}" for name, envs in named.items() if envs)
        if faults:
            raise Mistake(f"data.env: {self.env.spec.name} returned {faults}")

    def start_new_gene(self, agents: Tensor) -> None:
        """Also the recurrent state of the mirror images is zeroed."""
        super().start_new_gene(agents)
        if self.mirror is not None:
            self.mirror.forget(torch.isin(self.agent_ids, agents.to(self.device)))

    def saved(self) -> dict[str, Any]:
        """Also the scale of the rewards, which is that of the critic's values, and how episodes began."""
        settings = self.settings
        mirror = {} if self.mirror is None else {"image_state": self.mirror.state}
        own = {"reward_scale": settings.reward_scale, "staggered": settings.staggered_starts}
        return {**super().saved(), **own, **mirror}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Also under another scale of the rewards; episodes that run on are not staggered afterwards."""
        super().restore(state)
        if self.obs is not None and self.settings.staggered_starts != state.get("staggered", False):
            now, then = ("true", "false") if self.settings.staggered_starts else ("false", "true")
            warnings.warn(
                f"model.rollout.staggered_starts {now} has no effect on a run that goes on: it began with {then}",
                stacklevel=2,
            )
        if self.mirror is not None and self.obs is not None:
            if "image_state" in state:
                self.mirror.state = state["image_state"].to(self.device)
            elif self.policy.recurrent:
                warnings.warn(
                    "model.rollout.symmetry true begins in the middle of episodes: until they end, the recurrent state"
                    " of their mirror images knows nothing of what was before",
                    stacklevel=2,
                )
        # values are linear in the scale: the critic, which predicts normalised ones, stays right under a new scale
        self.policy.value_moments.rescale(self.settings.reward_scale / state["reward_scale"])


def _columns_not_finite(values: Tensor) -> list[int]:
    """Second indices of values (T, N, ...) at which something is not finite."""
    wrong = ~torch.isfinite(values)
    return wrong.reshape(*wrong.shape[:2], -1).any(-1).any(0).nonzero().flatten().tolist()
