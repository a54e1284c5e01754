"""What a population learns from each other's rollouts: samples relabelled for another agent, and their targets.

Shape legend: N environments, T horizon, W = N + off-policy and coupled columns, C = columns of one of the two kinds.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import torch
from torch import Tensor

from epo_lightning.algorithm.advantages import one_step_targets
from epo_lightning.algorithm.aggregation import effective_sample_fraction, relabel, sample_followers
from epo_lightning.algorithm.coupling import draw_coupled
from epo_lightning.algorithm.distributions import ActionDistribution
from epo_lightning.algorithm.population import MASTER
from epo_lightning.experience.buffer import RolloutBuffer
from epo_lightning.experience.diversity import Diversity
from epo_lightning.experience.mirror import Mirror
from epo_lightning.experience.settings import RolloutSettings
from epo_lightning.experience.targets import Targets
from epo_lightning.learner.networks import LatentActorCritic


class _Sampled(NamedTuple):
    """Samples under another agent's gene: where they come from, (T, C) each, and what the network says.

    `final_value` is that of the final observation; only what was truncated is read.
    """

    step: Tensor
    env: Tensor
    policy: ActionDistribution
    value: Tensor
    next_value: Tensor
    final_value: Tensor


class RelabelledTargets(Targets):
    """Also draws what the master learns from its followers, and what they learn from it.

    Args:
        buffer: Raw observations, actions, log-probs, values and outcomes of T steps.
        policy: The network that acted; its normalisers take the rollout in.
        settings: Of the rollout.
        generator: Draws the samples that are relabelled.
        autocast: Context in which the network runs.
        diversity: Rewards followers for being told apart; None where nothing does.
        mirror: Of the samples; None where their images are not learned from.

    Attributes:
        sources: (T, C) the environments that the master's extra samples are from, once they are drawn; None without.
    """

    policy: LatentActorCritic
    settings: RolloutSettings

    def __init__(
        self,
        buffer: RolloutBuffer,
        policy: LatentActorCritic,
        settings: RolloutSettings,
        generator: torch.Generator,
        autocast: Callable[[], AbstractContextManager[Any]],
        diversity: Diversity | None = None,
        mirror: Mirror | None = None,
    ) -> None:
        super().__init__(buffer, policy, settings, mirror)
        self.generator, self.autocast, self.diversity = generator, autocast, diversity
        self.sources: Tensor | None = None
        self._told_apart: Tensor | None = None  # (T, N, K) log-probabilities of the classifier of the agents

    def _own_rewards(self) -> Tensor:
        """Also for being told apart."""
        rewards, buffer = super()._own_rewards(), self.buffer
        if self.diversity is None:
            return rewards
        self._told_apart, agents = self.diversity.log_probs(buffer), buffer.column_agents[: buffer.envs]
        bonus = self.diversity.bonus(self._told_apart, agents)
        self.diagnostics |= self.diversity.tell(self._told_apart, bonus, agents)
        return rewards + bonus

    def _with_relabelled(self, values: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The columns behind those of the environments; the critic learns the off-policy ones among them."""
        buffer, rewards = self.buffer, self._rewards()
        if buffer.shape.off_policy_columns:
            off_values, off_targets = self._aggregate(rewards)
            values, targets = torch.cat([values, off_values], dim=1), torch.cat([targets, off_targets], dim=1)
            log_mu = buffer.log_mu[:, buffer.envs : values.shape[1]]
            self.diagnostics["losses/off_policy_ess"] = effective_sample_fraction(log_mu)
        learnt = targets
        if buffer.shape.coupled_columns:
            coupled_values, coupled_targets = self._couple(rewards)
            values, targets = torch.cat([values, coupled_values], dim=1), torch.cat([targets, coupled_targets], dim=1)
        return values, targets, learnt

    def _aggregate(self, rewards: Tensor) -> tuple[Tensor, Tensor]:
        """Fill the off-policy columns; returns values and one-step targets of them, (T, C) each (EPO eq. 8)."""
        buffer, columns = self.buffer, slice(self.buffer.envs, self.buffer.shape.learnt_columns)
        sampled = self._sample()
        self.sources = sampled.env
        log_probs = self._log_probs(sampled, columns)
        relabelled = relabel(log_probs, buffer.log_probs[sampled.step, sampled.env], self.settings.mu_cap)
        buffer.log_probs[:, columns], buffer.log_mu[:, columns] = relabelled
        return self._one_step_targets(sampled, rewards)

    def _couple(self, rewards: Tensor) -> tuple[Tensor, Tensor]:
        """Fill the coupled columns: the master's environments as drawn followers see them, each with its own reward.

        Returns:
            Values and one-step targets of them by the followers' critic, (T, C) each.
        """
        buffer, population = self.buffer, self.buffer.population
        columns = slice(buffer.shape.learnt_columns, None)
        followers = buffer.shape.coupled_columns // population.master_envs
        env, agents = draw_coupled(population, followers, self.generator)
        buffer.column_agents[columns] = agents
        sampled = self._sequences(env, agents, columns)
        buffer.log_probs[:, columns], buffer.log_mu[:, columns] = self._log_probs(sampled, columns), 0.0
        values, targets = self._one_step_targets(sampled, rewards)
        if self.diversity is not None and self._told_apart is not None:
            targets = targets + self.diversity.bonus(self._told_apart[:, env], agents)
        return values, targets

    def _log_probs(self, sampled: _Sampled, columns: slice) -> Tensor:
        """(T, C) of the actions under the other agent; copies observations and actions into the columns."""
        buffer, step, env = self.buffer, sampled.step, sampled.env
        buffer.obs[:-1, columns] = buffer.obs[step, env]
        buffer.actions[:, columns] = buffer.actions[step, env]
        return sampled.policy.log_prob(buffer.actions[:, columns])

    def _one_step_targets(self, sampled: _Sampled, rewards: Tensor) -> tuple[Tensor, Tensor]:
        """Values and targets in units of the reward, (T, C) each."""
        buffer, step, env = self.buffer, sampled.step, sampled.env
        denormalize = self.policy.value_moments.denormalize
        following = denormalize(torch.where(buffer.truncated[step, env], sampled.final_value, sampled.next_value))
        following = following.masked_fill(buffer.terminated[step, env], 0.0)
        return denormalize(sampled.value), one_step_targets(rewards[step, env], following, self.settings.gamma)

    def _sample(self) -> _Sampled:
        """Transitions of the followers, or whole sequences with an LSTM, seen with the master's gene."""
        if not self.policy.recurrent:
            return self._sample_transitions()
        shape, source = self.buffer.shape, self.settings.off_policy_source
        _, env = sample_followers(shape.population, shape.off_policy_columns, 1, source, self.generator)
        return self._sequences(env, torch.full_like(env, MASTER), slice(self.buffer.envs, shape.learnt_columns))

    def _sequences(self, env: Tensor, agents: Tensor, columns: slice) -> _Sampled:
        """What the environments `env` (C,) went through, seen with the genes of `agents` (C,); goes into `columns`."""
        buffer, horizon, recurrent = self.buffer, self.settings.horizon, self.policy.recurrent
        states, resets = buffer.states[:, env], buffer.resets[:, env]
        buffer.states[:, columns], buffer.resets[:, columns] = states, resets
        buffer.image_states[:, columns] = buffer.image_states[:, env]
        known = bool(buffer.final_obs)
        with self.autocast():
            rows = self.policy.express(agents)
            output = self.policy(buffer.obs[:, env], rows, states, resets, every_state=known and recurrent)
        value = output.value[:-1]
        final_value = self._value_of_final_observations(env, agents, output.state, value) if known else value
        step = torch.arange(horizon, device=env.device)[:, None].expand(-1, len(env))
        policy = output.actions.steps(horizon)
        return _Sampled(step, env.expand(horizon, -1), policy, value, output.value[1:], final_value)

    def _value_of_final_observations(self, env: Tensor, agents: Tensor, states: Tensor, value: Tensor) -> Tensor:
        """(T, C) V(final_obs) with the gene of the agent that learns and its own recurrent state after that step.

        Args:
            env: (C,) environments of the sampled sequences.
            agents: (C,) who learns from them.
            states: (S, T + 1, C, H) that agent's state after every step; without an LSTM it is not read.
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
            state = states[:, step, column] if self.policy.recurrent else states
            with self.autocast():
                output = self.policy(obs[sampled[step, column]], self.policy.express(agents[column]), state)
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
        policy, final_value = output.actions.steps(horizon), buffer.master_final_values[step, env]
        return _Sampled(step, env, policy, output.value[:horizon], output.value[horizon:], final_value)
