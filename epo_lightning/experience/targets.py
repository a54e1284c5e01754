"""What turns a collected rollout into something to learn from: normalisation, targets, the master's extra samples.

Shape legend: N environments, T horizon, W = N + off-policy columns, C = W - N.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import torch
from torch import Tensor

from epo_lightning.algorithm.advantages import bootstrap_values, gae_targets, n_step_targets, one_step_targets
from epo_lightning.algorithm.aggregation import effective_sample_fraction, relabel, sample_followers
from epo_lightning.algorithm.distributions import ActionDistribution
from epo_lightning.algorithm.population import MASTER
from epo_lightning.experience.buffer import RolloutBuffer
from epo_lightning.experience.episodes import explained_variance
from epo_lightning.experience.settings import RolloutSettings
from epo_lightning.learner.networks import LatentActorCritic
from epo_lightning.learner.normalization import normalize_across_ranks


class _Sampled(NamedTuple):
    """Followers' samples under the master's gene: where they come from, (T, C) each, and what the network says.

    `final_value` is that of the final observation; only what was truncated is read.
    """

    step: Tensor
    env: Tensor
    actions: ActionDistribution
    value: Tensor
    next_value: Tensor
    final_value: Tensor


class Targets:
    """Completes the buffer of a rollout, under the parameters that it was collected with.

    Args:
        buffer: Raw observations, actions, log-probs, values and outcomes of T steps.
        policy: The network that acted; its normalisers take the rollout in.
        settings: Of the rollout.
        generator: Draws the master's extra samples.
        autocast: Context in which the network runs.

    Attributes:
        sources: (T, C) the environments that the master's extra samples are from, once they are drawn; None without.
    """

    def __init__(
        self,
        buffer: RolloutBuffer,
        policy: LatentActorCritic,
        settings: RolloutSettings,
        generator: torch.Generator,
        autocast: Callable[[], AbstractContextManager[Any]],
    ) -> None:
        self.buffer, self.policy, self.settings = buffer, policy, settings
        self.generator, self.autocast = generator, autocast
        self.sources: Tensor | None = None

    def complete(self, last_value: Tensor) -> dict[str, Tensor]:
        """Fill in everything that the losses need, in normalised units; `last_value` (N,) follows the last step.

        Returns:
            Scalars for the log.
        """
        self._normalize_observations()
        buffer, moments, envs = self.buffer, self.policy.value_moments, self.buffer.envs
        buffer.values[-1, :envs] = last_value
        own_values = moments.denormalize(buffer.values[:, :envs])
        final_values = moments.denormalize(buffer.final_values)
        rewards = buffer.rewards * self.settings.reward_scale
        values, targets = own_values[:-1], self._on_policy_targets(rewards, own_values, final_values)
        diagnostics = {"losses/explained_variance": explained_variance(values, targets)}
        if buffer.shape.off_policy_columns:
            off_values, off_targets = self._aggregate(rewards)
            values, targets = torch.cat([values, off_values], dim=1), torch.cat([targets, off_targets], dim=1)
            diagnostics["losses/off_policy_ess"] = effective_sample_fraction(buffer.log_mu[:, envs:])
        buffer.advantages.copy_(normalize_across_ranks(targets - values))
        self.policy.update_value_moments(targets)
        moments.normalize(values, out=buffer.values[:-1])
        moments.normalize(targets, out=buffer.targets)
        return diagnostics

    def _normalize_observations(self) -> None:
        """Normalise in place with the moments the rollout was made with; then take its observations in."""
        moments = self.policy.obs_moments
        collected = self.buffer.obs[:, : self.buffer.envs]
        variance, mean = torch.var_mean(collected[:-1], dim=(0, 1), correction=0)
        moments.normalize(collected, out=collected)
        count = torch.full_like(moments.count, collected[:-1].shape[0] * collected.shape[1])
        moments.merge(count, mean.double(), variance.double())

    def _on_policy_targets(self, rewards: Tensor, values: Tensor, final_values: Tensor) -> Tensor:
        """(T, N) targets of the agents' own samples; `values` is (T + 1, N)."""
        buffer, settings = self.buffer, self.settings
        done = buffer.terminated | buffer.truncated
        following = bootstrap_values(values, final_values, buffer.terminated, buffer.truncated)
        if settings.estimator == "gae":
            return gae_targets(rewards, values[:-1], following, done, settings.gamma, settings.gae_lambda)
        return n_step_targets(rewards, following, done, settings.gamma, settings.n_step)

    def _aggregate(self, rewards: Tensor) -> tuple[Tensor, Tensor]:
        """Fill the off-policy columns; returns values and one-step targets of them, (T, C) each (EPO eq. 8)."""
        buffer, envs = self.buffer, self.buffer.envs
        denormalize = self.policy.value_moments.denormalize
        step, env, master, value, next_value, final_value = self._sample()
        self.sources = env
        buffer.obs[:-1, envs:] = buffer.obs[step, env]
        buffer.actions[:, envs:] = buffer.actions[step, env]
        log_probs = master.log_prob(buffer.actions[:, envs:])
        relabelled = relabel(log_probs, buffer.log_probs[step, env], self.settings.mu_cap)
        buffer.log_probs[:, envs:], buffer.log_mu[:, envs:] = relabelled
        following = denormalize(torch.where(buffer.truncated[step, env], final_value, next_value))
        following = following.masked_fill(buffer.terminated[step, env], 0.0)
        return denormalize(value), one_step_targets(rewards[step, env], following, self.settings.gamma)

    def _sample(self) -> _Sampled:
        """Transitions of the followers, or whole sequences with an LSTM, seen with the master's gene."""
        return self._sample_sequences() if self.policy.recurrent else self._sample_transitions()

    def _sample_sequences(self) -> _Sampled:
        buffer, population = self.buffer, self.buffer.population
        columns, horizon = buffer.shape.off_policy_columns, self.settings.horizon
        source = self.settings.off_policy_source
        _, env = sample_followers(population, columns, 1, source, self.generator)
        states, resets = buffer.states[:, env], buffer.resets[:, env]
        buffer.states[:, population.num_envs :], buffer.resets[:, population.num_envs :] = states, resets
        with self.autocast():
            master = self.policy.express(torch.full_like(env, MASTER))
            output = self.policy(buffer.obs[:, env], master, states, resets, every_state=bool(buffer.final_obs))
        value = output.value[:-1]
        final_value = self._master_value_of_final_observations(env, output.state, value) if buffer.final_obs else value
        step = torch.arange(horizon, device=env.device)[:, None].expand(-1, columns)
        actions = output.actions.steps(horizon)
        return _Sampled(step, env.expand(horizon, -1), actions, value, output.value[1:], final_value)

    def _master_value_of_final_observations(self, env: Tensor, states: Tensor, value: Tensor) -> Tensor:
        """(T, C) V(final_obs) with the master's gene and its own recurrent state after that step.

        Args:
            env: (C,) environments of the sampled sequences.
            states: (S, T + 1, C, H) the master's state after every step.
            value: (T, C) V(s_t), which stands where the environment did not tell the final observation.
        """
        buffer = self.buffer
        row = torch.full_like(buffer.truncated, -1, dtype=torch.long)  # of each known final observation in `obs`
        obs = torch.cat([each for _, _, each in buffer.final_obs])
        first = 0
        for t, cut, _ in buffer.final_obs:
            row[t, cut] = torch.arange(first, first + len(cut), device=row.device)
            first += len(cut)
        sampled = row[:, env]
        step, column = (sampled >= 0).nonzero(as_tuple=True)  # one wait for the device per rollout
        final_value = value.clone()
        if len(step):
            with self.autocast():
                master = self.policy.express(torch.full_like(step, MASTER))
                output = self.policy(obs[sampled[step, column]], master, states[:, step, column])
            final_value[step, column] = output.value
        return final_value

    def _sample_transitions(self) -> _Sampled:
        buffer, horizon = self.buffer, self.settings.horizon
        shape = (horizon, buffer.shape.off_policy_columns)
        count, source = shape[0] * shape[1], self.settings.off_policy_source
        drawn = sample_followers(buffer.population, count, horizon, source, self.generator)
        step, env = (part.view(shape) for part in drawn)
        now_and_next = torch.cat([buffer.obs[step, env], buffer.obs[step + 1, env]])
        with self.autocast():
            master = self.policy.express(torch.full_like(env[0], MASTER))
            output = self.policy(now_and_next, master, self.policy.initial_state(0))
        actions, final_value = output.actions.steps(horizon), buffer.master_final_values[step, env]
        return _Sampled(step, env, actions, output.value[:horizon], output.value[horizon:], final_value)
