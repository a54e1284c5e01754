"""On-device rollouts: T steps of N environments, streamed as one batch per iteration.

Shape legend: N environments, T horizon, K agents, O observation, A action, W = N + off-policy and coupled columns,
S recurrent state tensors, H LSTM units.

One pass over `RolloutDataset` is one iteration: a rollout with the present parameters, its targets, and the relabelled
samples for the master. The algorithm makes its passes over it in shuffled minibatches, as often as it needs.
"""

import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from epo_lightning.algorithm.aggregation import off_policy_envs
from epo_lightning.algorithm.batch import RolloutBatch
from epo_lightning.algorithm.distributions import CategoricalSampler, GaussianSampler
from epo_lightning.algorithm.population import MASTER, Population
from epo_lightning.envs.base import StepResult, VectorEnv
from epo_lightning.experience.base import Experience, Minibatch
from epo_lightning.experience.buffer import RolloutBuffer, RolloutShape
from epo_lightning.experience.comparison import Comparison
from epo_lightning.experience.diversity import Diversity
from epo_lightning.experience.env_log import EnvLog
from epo_lightning.experience.settings import RolloutSettings
from epo_lightning.experience.targets import Targets
from epo_lightning.experience.world import World
from epo_lightning.learner.networks import Expression, LatentActorCritic, PolicyOutput
from epo_lightning.limits import Mistake


class RolloutDataset(Experience[RolloutBuffer]):
    """Streams one rollout per pass.

    Args:
        world: The environments; N of them.
        policy: The network that acts; its normalisers are updated here, once per rollout.
        population: Who acts where.
        settings: See `RolloutSettings`.
        coupled: M, followers that learn from each of the master's environments; 0 where they are not coupled to it.
        diversity: Rewards followers for being told apart; None where nothing does.

    Attributes:
        num_minibatches: Minibatches of a pass.
        buffer: The last rollout, complete: what a pass yields.
        comparison: Of the followers with the master; None where there is nobody else.
    """

    policy: LatentActorCritic

    def __init__(
        self,
        world: World,
        policy: LatentActorCritic,
        population: Population,
        settings: RolloutSettings,
        coupled: int = 0,
        diversity: Diversity | None = None,
    ) -> None:
        super().__init__(world, policy, population)
        self.settings, self.diversity = settings, diversity
        shape = rollout_shape(world.env, policy.state_shape, population, settings, coupled)
        self.buffer = RolloutBuffer(shape, self.device)
        self.num_minibatches = settings.minibatches(self.buffer.units, settings.horizon if policy.recurrent else 1)
        self.iteration_env_steps = population.num_envs * settings.horizon * world.world_size
        self.comparison = Comparison(self.buffer, policy) if population.num_agents > 1 else None
        self._passes: list[Tensor] = []

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

    @property
    def forward_passes(self) -> int:
        """Once forward to act, and forward and backward for every use of a sample."""
        return self.buffer.shape.columns * self.settings.horizon * (1 + 3 * self.settings.num_epochs)

    def one_pass(self) -> Iterator[RolloutBatch]:
        """All samples of the rollout once, shuffled, in `num_minibatches` minibatches."""
        self._passes.append(torch.randperm(self.buffer.units, generator=self.generator, device=self.device))
        yield from self.buffer.minibatches(self._passes[-1], self.num_minibatches)

    def minibatch(self, index: int) -> Minibatch:
        """The `index`-th minibatch of this iteration; behind the environments stand the relabelled columns."""
        number, place = divmod(index, self.num_minibatches)
        units = self._passes[number].tensor_split(self.num_minibatches)[place]
        columns = units if self.buffer.recurrent else units % self.buffer.shape.columns
        (batch,) = self.buffer.minibatches(units, 1)
        return Minibatch({**batch._asdict(), "units": units}, columns, self.buffer.recurrent)

    def start_episodes(self) -> Tensor:
        """At different points of their time limit, where that is asked for; those that begin late are not counted."""
        if not self.settings.staggered_starts:
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
        targets = Targets(buffer, self.policy, self.settings, self.generator, self.autocast, self.diversity)
        self.diagnostics |= targets.complete(last_value)
        self.of_agents = self.comparison.tell(targets.sources, self.autocast) if self.comparison else {}
        self.seconds["targets"] = self.clock() - start
        if self.diversity is not None:
            self.diversity.learn(buffer, self.generator)
            self.seconds["diversity"] = self.clock() - start - self.seconds["targets"]

    def _interact(self) -> Tensor:
        """T steps of every environment; returns the (N,) value of the state after them."""
        buffer, policy, envs = self.buffer, self.policy, self.population.num_envs
        obs = self.begin()
        with self.autocast():
            rows = policy.express(self.agent_ids)
        kind = CategoricalSampler if policy.discrete else GaussianSampler
        sampler = kind(buffer.actions[:, :envs], buffer.log_probs[:, :envs], rows.log_std, self.generator)
        buffer.states[:, :envs] = self.state
        buffer.final_obs.clear()
        log, normalize = EnvLog(self.device), policy.obs_moments.normalizer()
        start = self.clock()
        for t in range(self.settings.horizon):
            buffer.obs[t, :envs] = obs
            if self.comparison and policy.recurrent:
                self.comparison.remember(t, self.state)
            with self.autocast():
                output = policy(normalize(obs), rows, self.state)
            buffer.values[t, :envs] = output.value
            actions = sampler.sample(t, output.actions)
            result = self.advance(actions, log)
            self._store(t, result, rows, output.state)
            obs = result.obs
        self.seconds["inference"] = self.clock() - start - self.seconds["env"]
        self.diagnostics = {f"env/{name}": mean for name, mean in log.means().items()}
        buffer.obs[-1, :envs] = obs
        with self.autocast():
            last: PolicyOutput = policy(normalize(obs), rows, self.state)
        return last.value

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
        self.state = state.masked_fill(done[:, None], 0.0) if self.policy.recurrent else state
        self.obs = result.obs

    def _value_final_observations(self, t: int, result: StepResult, rows: Expression, state: Tensor) -> None:
        cut = result.truncated.nonzero().squeeze(1)
        if result.final_obs is None:
            self.tell_of_missing_final_obs()
            final_obs, state = self.buffer.obs[t, cut], self.state
        else:
            final_obs = result.final_obs[cut]
        obs = self.policy.obs_moments.normalize(final_obs)
        with self.autocast():
            self.buffer.final_values[t, cut] = self.policy(obs, rows.at(cut), state[:, cut]).value
            if not self.policy.recurrent:
                master = self.policy.express(torch.full_like(cut, MASTER))
                self.buffer.master_final_values[t, cut] = self.policy(obs, master, state[:, cut]).value
        if result.final_obs is None:
            return
        if self.policy.recurrent:
            self.buffer.final_obs.append((t, cut, obs))  # the master's state is another one: `Targets` rolls it
        elif self.buffer.shape.coupled_columns:
            masters = self.agent_ids[cut] == MASTER
            self.buffer.final_obs.append((t, cut[masters], obs[masters]))

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

    def saved(self) -> dict[str, Any]:
        """Also the scale of the rewards, which is that of the critic's values, how episodes began, the classifier."""
        diversity = {} if self.diversity is None else {"diversity": self.diversity.saved()}
        settings = {"reward_scale": self.settings.reward_scale, "staggered": self.settings.staggered_starts}
        return {**super().saved(), **settings, **diversity}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Also under another scale of the rewards; episodes that run on are not staggered afterwards."""
        super().restore(state)
        if self.diversity is not None and "diversity" in state:
            self.diversity.restore(state["diversity"])
        if self.obs is not None and self.settings.staggered_starts != state.get("staggered", False):
            now, then = ("true", "false") if self.settings.staggered_starts else ("false", "true")
            warnings.warn(
                f"model.rollout.staggered_starts {now} has no effect on a run that goes on: it began with {then}",
                stacklevel=2,
            )
        # values are linear in the scale: the critic, which predicts normalised ones, stays right under a new scale
        self.policy.value_moments.rescale(self.settings.reward_scale / state["reward_scale"])


def _columns_not_finite(values: Tensor) -> list[int]:
    """Second indices of values (T, N, ...) at which something is not finite."""
    wrong = ~torch.isfinite(values)
    return wrong.reshape(*wrong.shape[:2], -1).any(-1).any(0).nonzero().flatten().tolist()


def rollout_shape(
    env: VectorEnv,
    state_shape: tuple[int, int],
    population: Population,
    settings: RolloutSettings,
    coupled: int = 0,
) -> RolloutShape:
    """Sizes of the rollouts of `population` in `env`, where `coupled` followers see each environment of the master."""
    columns = off_policy_envs(population, settings.off_policy_ratio, settings.off_policy_source)
    spec = env.spec
    action_dim, couplings = 1 if spec.discrete else spec.act_dim, population.envs_per_agent * coupled
    return RolloutShape(settings.horizon, population, columns, spec.obs_dim, action_dim, state_shape, couplings)
