"""On-device rollouts: collect T steps of N environments, then stream them as shuffled minibatches.

Shape legend: N environments, T horizon, K agents, O observation, A action, W = N + off-policy columns, S recurrent
state tensors, H LSTM units.

One pass over `RolloutDataset` is one iteration: a rollout with the present parameters, its targets, the relabelled
samples for the master, then `num_epochs` x `num_minibatches` minibatches of all of it.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils.data import IterableDataset

from epo_lightning.advantages import bootstrap_values, gae_targets, n_step_targets, one_step_targets
from epo_lightning.aggregation import (
    OffPolicySource,
    effective_sample_fraction,
    off_policy_envs,
    relabel,
    sample_followers,
)
from epo_lightning.batch import RolloutBatch
from epo_lightning.buffer import RolloutBuffer, RolloutShape
from epo_lightning.envs.base import StepResult, VectorEnv
from epo_lightning.envs.check import check_result
from epo_lightning.limits import require_range
from epo_lightning.losses import HALF_LOG_2PI, gaussian_log_prob
from epo_lightning.metrics import AgentMean, EpisodeLedger, FinishedEpisodes, explained_variance
from epo_lightning.networks import Expression, LatentActorCritic
from epo_lightning.normalization import normalize_across_ranks
from epo_lightning.population import MASTER, Population

_KEY = "data.rollout"


@dataclass(frozen=True)
class RolloutSettings:
    """How data is collected, what the critic's targets are, and how often each sample is used.

    Args:
        horizon: T, env steps that every environment makes per iteration.
        num_epochs: Passes over the pooled samples per iteration.
        num_minibatches: Minibatches per pass, each one optimizer step.
        gamma: Discount.
        gae_lambda: Lambda of the generalised advantage estimate.
        estimator: Targets of on-policy samples: `gae` (lambda-returns) or `n_step` (EPO eq. 6).
        n_step: Steps of the `n_step` estimator.
        reward_scale: Rewards are multiplied by this before the critic sees them; reported returns are not.
        off_policy_ratio: Followers' samples relabelled for the master, as a multiple of the master's own; 0 for none.
        off_policy_source: `all` samples from every follower, `one_agent` from one random follower per iteration.
        mu_cap: Upper bound of the importance weight mu with which an off-policy sample starts; inf for none.
    """

    horizon: int = 16
    num_epochs: int = 4
    num_minibatches: int = 4
    gamma: float = 0.99
    gae_lambda: float = 0.95
    estimator: Literal["gae", "n_step"] = "gae"
    n_step: int = 3
    reward_scale: float = 1.0
    off_policy_ratio: float = 1.0
    off_policy_source: OffPolicySource = "all"
    mu_cap: float = float("inf")

    def __post_init__(self) -> None:
        for name in ("horizon", "num_epochs", "num_minibatches", "n_step"):
            require_range(f"{_KEY}.{name}", getattr(self, name), 1)
        for name in ("gamma", "gae_lambda"):
            require_range(f"{_KEY}.{name}", getattr(self, name), 0, 1)
        for name in ("reward_scale", "mu_cap"):
            require_range(f"{_KEY}.{name}", getattr(self, name), 0, open_low=True)
        require_range(f"{_KEY}.off_policy_ratio", self.off_policy_ratio, 0)


class RolloutDataset(IterableDataset[RolloutBatch]):
    """Streams the minibatches of one rollout per pass; owns what goes on from rollout to rollout.

    Args:
        env: The environments; N of them.
        policy: The network that acts; its normalisers are updated here, once per rollout.
        population: Who acts where.
        settings: See `RolloutSettings`.
        generator: Source of action noise and shuffles, on the environments' device.
        world_size: Ranks that collect at the same time, for the count of env steps.
        autocast: Context in which the network runs (mixed precision).

    Attributes:
        fitness: Episodes that each agent finished with its present gene since the last generation.
        env_steps: Env steps made so far, over all environments and ranks.
        episodes: What finished in the last rollout.
        diagnostics: Scalars on the device that describe the last rollout.
        seconds: Host time of the last rollout by part: `env`, `inference`, `targets`.
    """

    def __init__(
        self,
        env: VectorEnv,
        policy: LatentActorCritic,
        population: Population,
        settings: RolloutSettings,
        generator: torch.Generator,
        world_size: int = 1,
        autocast: Callable[[], AbstractContextManager[Any]] = nullcontext,
    ) -> None:
        self.env, self.policy, self.population, self.settings = env, policy, population, settings
        self.generator, self.world_size, self.autocast = generator, world_size, autocast
        self.device = generator.device
        self.buffer = RolloutBuffer(rollout_shape(env, policy.state_shape, population, settings), self.device)
        self.agent_ids = population.agent_of_env(self.device)
        self.ledger = EpisodeLedger(population.num_envs, self.device)
        self.state = policy.initial_state(population.num_envs, self.device)
        self.obs: Tensor | None = None
        self.env_steps = 0
        self.episodes: FinishedEpisodes | None = None
        self.diagnostics: dict[str, Tensor] = {}
        self.seconds: dict[str, float] = {}
        self.lacks_final_obs = False
        self.fitness = AgentMean(population.num_agents).to(self.device)
        self.clock: Callable[[], float] = time.perf_counter
        self._passes: list[Tensor] = []

    def __len__(self) -> int:
        return self.settings.num_epochs * self.settings.num_minibatches

    def __iter__(self) -> Iterator[RolloutBatch]:
        self.collect()
        self._passes = []
        for index in range(len(self)):
            if index % self.settings.num_minibatches == 0:
                self._passes.append(torch.randperm(self.buffer.units, generator=self.generator, device=self.device))
            yield self.buffer.gather(self.minibatch_units(index))

    def minibatch_units(self, index: int) -> Tensor:
        """Which samples of the buffer the `index`-th minibatch of this iteration holds."""
        number, place = divmod(index, self.settings.num_minibatches)
        return self._passes[number].tensor_split(self.settings.num_minibatches)[place]

    @torch.no_grad()
    def collect(self) -> None:
        """Fill the buffer with one rollout and everything that the losses need of it."""
        self.seconds = dict.fromkeys(("env", "inference", "targets"), 0.0)
        if self.obs is None:
            self.obs = self.env.reset()
        last_value = self._interact()
        start = self.clock()
        buffer = self.buffer
        self._refuse_nonfinite()
        done = buffer.terminated | buffer.truncated
        self.episodes = self.ledger.record(buffer.rewards, buffer.successes, done)
        self.fitness.update(self.episodes.totals, self.episodes.counts_for_fitness)
        self.env_steps += done.numel() * self.world_size
        self._normalize_observations()
        self._compute_targets(last_value, done)
        self.seconds["targets"] = self.clock() - start

    def _interact(self) -> Tensor:
        """T steps of every environment; returns the (N,) value of the state after them."""
        buffer, policy, envs = self.buffer, self.policy, self.population.num_envs
        rows = policy.express(self.agent_ids)
        noise = buffer.actions[:, :envs].normal_(generator=self.generator)
        # log N(mean + std z; mean, std) = -z^2 / 2 - log std - log 2 pi / 2
        buffer.log_probs[:, :envs] = -0.5 * noise.square().sum(-1) - (rows.log_std + HALF_LOG_2PI).sum(-1)
        std = rows.log_std.exp()
        buffer.states[:, :envs] = self.state
        logs: dict[str, Tensor] = {}
        assert self.obs is not None
        for t in range(self.settings.horizon):
            start = self.clock()
            buffer.obs[t, :envs] = self.obs
            with self.autocast():
                output = policy(policy.obs_moments.normalize(self.obs), rows, self.state)
            buffer.values[t, :envs] = output.value
            actions = noise[t].mul_(std).add_(output.mean).clamp(-1, 1)
            acted = self.clock()
            result = self.env.step(actions)
            stepped = self.clock()
            if t == 0:
                check_result(result, self.env.spec, self.device)
            self._store(t, result, rows, output.state)
            for name, value in result.log.items():
                logs[name] = logs[name] + value.mean() if name in logs else value.mean()
            self.seconds["env"] += stepped - acted
            self.seconds["inference"] += acted - start + self.clock() - stepped
        self.diagnostics = {f"env/{name}": total / self.settings.horizon for name, total in logs.items()}
        buffer.obs[-1, :envs] = self.obs
        with self.autocast():
            return policy(policy.obs_moments.normalize(self.obs), rows, self.state).value

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
        self.lacks_final_obs |= result.final_obs is None
        final_obs = self.buffer.obs[t, cut] if result.final_obs is None else result.final_obs[cut]
        if result.final_obs is None:
            state = self.state
        obs = self.policy.obs_moments.normalize(final_obs)
        master = self.policy.express(torch.full_like(cut, MASTER))
        own = Expression(rows.genes[cut], rows.log_std[cut])
        for row, expression in enumerate((own, master)):
            with self.autocast():
                self.buffer.final_values[row, t, cut] = self.policy(obs, expression, state[:, cut]).value

    def _normalize_observations(self) -> None:
        """Normalise in place with the moments the rollout was made with; then take its observations in."""
        buffer, moments = self.buffer, self.policy.obs_moments
        collected = buffer.obs[:, : self.population.num_envs]
        variance, mean = torch.var_mean(collected[:-1], dim=(0, 1), correction=0)
        moments.normalize(collected, out=collected)
        count = torch.full_like(moments.count, collected[:-1].shape[0] * collected.shape[1])
        moments.merge(count, mean.double(), variance.double())

    def _compute_targets(self, last_value: Tensor, done: Tensor) -> None:
        """Targets and advantages of all columns, and the values, in the critic's normalised units."""
        buffer, settings, envs = self.buffer, self.settings, self.population.num_envs
        moments = self.policy.value_moments
        buffer.values[-1, :envs] = last_value
        own_values = moments.denormalize(buffer.values[:, :envs])
        final_values = moments.denormalize(buffer.final_values)
        rewards = buffer.rewards * settings.reward_scale
        following = bootstrap_values(own_values, final_values[0], buffer.terminated, buffer.truncated)
        values = own_values[:-1]
        if settings.estimator == "gae":
            targets = gae_targets(rewards, values, following, done, settings.gamma, settings.gae_lambda)
        else:
            targets = n_step_targets(rewards, following, done, settings.gamma, settings.n_step)
        self.diagnostics["losses/explained_variance"] = explained_variance(values, targets)
        if self.buffer.shape.off_policy_columns:
            off_values, off_targets = self._aggregate(rewards, final_values[1])
            values, targets = torch.cat([values, off_values], dim=1), torch.cat([targets, off_targets], dim=1)
        buffer.advantages.copy_(normalize_across_ranks(targets - values))
        self.policy.update_value_moments(targets)
        moments.normalize(values, out=buffer.values[:-1])
        moments.normalize(targets, out=buffer.targets)

    def _aggregate(self, rewards: Tensor, final_values: Tensor) -> tuple[Tensor, Tensor]:
        """Fill the off-policy columns; returns values and one-step targets of them, (T, W - N) each (EPO eq. 8)."""
        buffer, horizon, envs = self.buffer, self.settings.horizon, self.population.num_envs
        columns, source = buffer.shape.off_policy_columns, self.settings.off_policy_source
        rows = self.policy.express(torch.full((columns,), MASTER, device=self.device))
        time_axis = torch.arange(horizon + 1, device=self.device)[:, None]
        if self.policy.recurrent:
            _, env = sample_followers(self.population, columns, 1, source, self.generator)
            step, env = time_axis[:-1].expand(-1, columns), env.expand(horizon, -1)
            buffer.states[:, envs:] = buffer.states[:, env[0]]
            buffer.resets[:, envs:] = buffer.resets[:, env[0]]
            with self.autocast():
                output = self.policy(buffer.obs[:, env[0]], rows, buffer.states[:, envs:], buffer.resets[:, envs:])
            mean, values = output.mean[:-1], output.value
            now, following = values[:-1], values[1:]
        else:
            step, env = sample_followers(self.population, horizon * columns, horizon, source, self.generator)
            step, env = step.view(horizon, columns), env.view(horizon, columns)
            both = torch.stack([buffer.obs[step, env], buffer.obs[step + 1, env]])
            with self.autocast():
                output = self.policy(both.flatten(0, 1), rows, self.state[:, :0])
            mean, (now, following) = output.mean[:horizon], output.value.unflatten(0, (2, horizon))
        buffer.obs[:-1, envs:] = buffer.obs[step, env]
        buffer.actions[:, envs:] = buffer.actions[step, env]
        log_probs = gaussian_log_prob(mean, rows.log_std, buffer.actions[:, envs:])
        relabelled = relabel(log_probs, buffer.log_probs[step, env], self.settings.mu_cap)
        buffer.log_probs[:, envs:], buffer.log_mu[:, envs:] = relabelled
        self.diagnostics["losses/off_policy_ess"] = effective_sample_fraction(relabelled.log_mu)
        denormalize = self.policy.value_moments.denormalize
        following = torch.where(buffer.truncated[step, env], final_values[step, env], denormalize(following))
        following = following.masked_fill(buffer.terminated[step, env], 0.0)
        return denormalize(now), one_step_targets(rewards[step, env], following, self.settings.gamma)

    def _refuse_nonfinite(self) -> None:
        """One scalar per rollout goes to the host; the search for the culprits only when there are some."""
        buffer, envs = self.buffer, self.population.num_envs
        if bool(torch.isfinite(buffer.obs[:, :envs].sum() + buffer.rewards.sum())):
            return
        finite = torch.isfinite(buffer.obs[:, :envs]).all(-1).all(0) & torch.isfinite(buffer.rewards).all(0)
        bad = (~finite).nonzero().squeeze(1).tolist()
        if bad:
            name = self.env.spec.name
            raise ValueError(f"data.env: {name} returned observations or rewards that are not finite in envs {bad}")

    def start_new_gene(self, agents: Tensor) -> None:
        """Nothing that `agents` (M,) did so far counts for their fitness; their recurrent state is zeroed."""
        self.fitness.forget(agents)
        envs = torch.isin(self.agent_ids, agents)
        self.ledger.disown(envs)
        self.state = self.state.masked_fill(envs[:, None], 0.0)

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next rollout depends on, on this rank."""
        return {
            "env": self.env.state_dict(),
            "obs": self.obs,
            "state": self.state,
            "ledger": self.ledger.state_dict(),
            "fitness": self.fitness.sums(),
            "generator": self.generator.get_state(),
            "env_steps": self.env_steps,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue exactly where `state_dict` was taken."""
        self.env.load_state_dict(state["env"])
        self.obs = state["obs"].to(self.device)
        self.state = state["state"].to(self.device)
        self.ledger.load_state_dict(state["ledger"])
        self.fitness.load_sums(state["fitness"])
        self.generator.set_state(state["generator"])
        self.env_steps = state["env_steps"]


def rollout_shape(
    env: VectorEnv, state_shape: tuple[int, int], population: Population, settings: RolloutSettings
) -> RolloutShape:
    """Sizes of the rollouts of `population` in `env`."""
    columns = off_policy_envs(population, settings.off_policy_ratio, settings.off_policy_source)
    spec = env.spec
    return RolloutShape(settings.horizon, population, columns, spec.obs_dim, spec.act_dim, state_shape)
