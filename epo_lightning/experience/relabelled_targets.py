"""What a population learns from each other's rollouts: samples relabelled for another agent, and their targets.

Shape legend: N environments, T horizon, W = N + off-policy and coupled columns, C = columns of one of the two kinds.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import torch
from torch import Tensor

from epo_lightning.algorithm.advantages import VTrace, bootstrap_values, gae_targets, one_step_targets, v_trace
from epo_lightning.algorithm.aggregation import (
    effective_sample_fraction,
    effective_sample_fractions,
    log_weight_sums,
    relabel,
    sample_followers,
    source_chances,
)
from epo_lightning.algorithm.coupling import draw_coupled
from epo_lightning.algorithm.distributions import ActionDistribution
from epo_lightning.algorithm.imitation import best_sequences, best_transitions, draw_imitators
from epo_lightning.algorithm.population import MASTER, Population
from epo_lightning.experience.buffer import RolloutBuffer
from epo_lightning.experience.diversity import Diversity
from epo_lightning.experience.ranks import of_all_ranks
from epo_lightning.experience.settings import RolloutSettings
from epo_lightning.experience.targets import Learnt, Targets
from epo_lightning.learner.networks import LatentActorCritic

_MEASURED = 256
"""About so many samples of each follower tell what they are worth to the master."""


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
    ) -> None:
        super().__init__(buffer, policy, settings)
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

    def _with_relabelled(self, own: Learnt) -> Learnt:
        """The critic learns the off-policy columns among them."""
        buffer, rewards, learnt = self.buffer, self._rewards(), own
        if buffer.shape.off_policy_columns:
            learnt = learnt.followed_by(*self._aggregate(rewards))
            learnt = learnt._replace(of_critic=learnt.targets)
            log_mu = buffer.log_mu[:, buffer.envs : buffer.shape.learnt_columns]
            self.diagnostics["losses/off_policy_ess"] = effective_sample_fraction(log_mu)
        if buffer.shape.coupled_columns:
            values, targets = self._couple(rewards)
            learnt = learnt.followed_by(values, targets, targets - values)
        if buffer.shape.imitated_columns:
            learnt = learnt.followed_by(*self._imitate(own))
        return learnt

    def _normalized(self, advantages: Tensor) -> Tensor:
        """Those of what is imitated are all large: they have the unit of the others, and do not move their mean."""
        count = self.buffer.shape.imitated_columns
        if not count:
            return super()._normalized(advantages)
        others, imitated = advantages[:, :-count], advantages[:, -count:]
        return torch.cat([super()._normalized(others), imitated / (others.std() + 1e-8)], dim=1)

    def _imitate(self, own: Learnt) -> tuple[Tensor, Tensor, Tensor]:
        """Fill the imitated columns; (T, C) imitators' values, returns to go of who acted, and what these are above."""
        buffer, population, count = self.buffer, self.buffer.population, self.buffer.shape.imitated_columns
        columns, moments = slice(buffer.shape.columns - count, None), self.policy.value_moments
        known = moments.denormalize(buffer.values[:, : buffer.envs])
        following = bootstrap_values(
            known, moments.denormalize(buffer.final_values), buffer.terminated, buffer.truncated
        )
        done = buffer.terminated | buffer.truncated
        returns = gae_targets(self._rewards(), own.values, following, done, self.settings.gamma, 1.0)
        surplus = returns - own.values
        agents = buffer.column_agents[columns] = draw_imitators(population, count, self.generator)
        if self.policy.recurrent:
            sampled = self._sequences(best_sequences(surplus, count), agents, columns)
        else:
            step, env = best_transitions(surplus, count)
            with self.autocast():
                output = self.policy(buffer.obs[step, env], self.policy.express(agents), self.policy.initial_state(0))
            sampled = _Sampled(step, env, output.actions, output.value, output.value, output.value)
        log_probs, behaviour = self._log_probs(sampled, columns), buffer.log_probs[sampled.step, sampled.env]
        buffer.log_probs[:, columns], buffer.log_mu[:, columns] = relabel(log_probs, behaviour, 1.0)
        values, targets = moments.denormalize(sampled.value), returns[sampled.step, sampled.env]
        return values, targets, targets - values

    def _aggregate(self, rewards: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Fill the off-policy columns; returns values, targets (EPO eq. 8, or V-trace) and advantages, (T, C) each."""
        buffer, columns = self.buffer, slice(self.buffer.envs, self.buffer.shape.learnt_columns)
        sampled = self._sample()
        self.sources = sampled.env
        log_probs, behaviour = self._log_probs(sampled, columns), buffer.log_probs[sampled.step, sampled.env]
        relabelled = relabel(log_probs, behaviour, self.settings.mu_cap)
        buffer.log_probs[:, columns], buffer.log_mu[:, columns] = relabelled
        values, targets = self._one_step_targets(sampled, rewards)
        if self.settings.off_policy_target == "one_step":
            return values, targets, targets - values
        return values, *self._v_trace(sampled, rewards, values, log_probs - behaviour)

    def _couple(self, rewards: Tensor) -> tuple[Tensor, Tensor]:
        """Fill the coupled columns: the master's environments as drawn followers see them, each with its own reward.

        Returns:
            Values and one-step targets of them by the followers' critic, (T, C) each.
        """
        buffer, population = self.buffer, self.buffer.population
        first = buffer.shape.learnt_columns
        columns = slice(first, first + buffer.shape.coupled_columns)
        followers = buffer.shape.coupled_columns // population.envs_per_agent
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
        values = self.policy.value_moments.denormalize(sampled.value)
        following = self._following(sampled)
        return values, one_step_targets(rewards[sampled.step, sampled.env], following, self.settings.gamma)

    def _v_trace(self, sampled: _Sampled, rewards: Tensor, values: Tensor, log_mu: Tensor) -> VTrace:
        """Of sequences, in units of the reward; `log_mu` (T, C) is not capped."""
        step, env = sampled.step, sampled.env
        done = self.buffer.terminated[step, env] | self.buffer.truncated[step, env]
        return v_trace(rewards[step, env], values, self._following(sampled), done, self.settings.gamma, log_mu)

    def _following(self, sampled: _Sampled) -> Tensor:
        """(T, C) value of what follows in the same episode, in units of the reward."""
        buffer, step, env = self.buffer, sampled.step, sampled.env
        following = torch.where(buffer.truncated[step, env], sampled.final_value, sampled.next_value)
        return self.policy.value_moments.denormalize(following).masked_fill(buffer.terminated[step, env], 0.0)

    def _sample(self) -> _Sampled:
        """Transitions of the followers, or whole sequences with an LSTM or V-trace, seen with the master's gene."""
        recurrent = self.policy.recurrent
        if not recurrent and self.settings.off_policy_target == "one_step":
            return self._sample_transitions()
        shape = self.buffer.shape
        _, env = self._draw(shape.off_policy_columns, 1)
        sampled = self._sequences(env, torch.full_like(env, MASTER), slice(self.buffer.envs, shape.learnt_columns))
        return sampled if recurrent else sampled._replace(final_value=self.buffer.master_final_values[:, env])

    def _draw(self, count: int, steps: int) -> tuple[Tensor, Tensor]:
        """(M,) step and (M,) environment of so many of the followers' samples, or sequences where `steps` is 1."""
        source, population = self.settings.off_policy_source, self.buffer.population
        chances = source_chances(self._effective()) if source == "by_ess" else None
        return sample_followers(population, count, steps, source, self.generator, chances)

    def _effective(self) -> Tensor:
        """(K,) effective fraction of each follower's samples under the master, over all ranks: a collective call.

        It takes one pass forward of `_MEASURED` samples of each follower, in whole sequences that are spread over its
        environments.
        """
        buffer, population, horizon = self.buffer, self.buffer.population, self.settings.horizon
        env = _spread(population, -(-_MEASURED // horizon), buffer.rewards.device)
        with self.autocast():
            rows = self.policy.express(torch.full_like(env, MASTER))
            output = self.policy(buffer.obs[:-1, env], rows, buffer.states[:, env], buffer.resets[:-1, env])
        log_mu = output.actions.log_prob(buffer.actions[:, env]) - buffer.log_probs[:, env]
        agents = (env // population.envs_per_agent).expand(horizon, -1)
        sums = log_weight_sums(log_mu.flatten(), agents.flatten(), population.num_agents)
        return effective_sample_fractions(of_all_ranks(sums))

    def _sequences(self, env: Tensor, agents: Tensor, columns: slice) -> _Sampled:
        """What the environments `env` (C,) went through, seen with the genes of `agents` (C,); goes into `columns`."""
        buffer, horizon, recurrent = self.buffer, self.settings.horizon, self.policy.recurrent
        states, resets = buffer.states[:, env], buffer.resets[:, env]
        buffer.states[:, columns], buffer.resets[:, columns] = states, resets
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
        step, env = (part.view(shape) for part in self._draw(shape[0] * shape[1], horizon))
        now_and_next = torch.cat([buffer.obs[step, env], buffer.obs[step + 1, env]])
        with self.autocast():
            master = self.policy.express(torch.full_like(env[0], MASTER))
            output = self.policy(now_and_next, master, self.policy.initial_state(0))
        policy, final_value = output.actions.steps(horizon), buffer.master_final_values[step, env]
        return _Sampled(step, env, policy, output.value[:horizon], output.value[horizon:], final_value)


def _spread(population: Population, count: int, device: torch.device) -> Tensor:
    """At most `count` environments of each follower, evenly spread over those that it has."""
    block = population.envs_per_agent
    places = torch.arange(min(count, block), device=device) * block // min(count, block)
    first = torch.arange(MASTER + 1, population.num_agents, device=device) * block
    return (first[:, None] + places).flatten()
