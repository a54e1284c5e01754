"""How every agent compares with the master: how far apart their policies are, and what its samples are worth.

Shape legend: K agents, E environments of an agent that are looked at, T horizon, C off-policy columns,
S recurrent state tensors, H LSTM units.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor

from epo_lightning.algorithm.aggregation import effective_sample_fractions, log_weight_sums
from epo_lightning.algorithm.population import MASTER
from epo_lightning.experience.buffer import RolloutBuffer
from epo_lightning.experience.ranks import of_all_ranks
from epo_lightning.learner.networks import LatentActorCritic

_STATES = 32
"""Most states of an agent in which both policies are asked: of so many environments, spread over the rollout."""


class Comparison:
    """Compares all agents with the master, once per rollout, without waiting for the device.

    Each of E environments of an agent is looked at in one step of the rollout, another one for each, so that a task
    whose episodes all begin together is seen in all of their phases.

    Args:
        buffer: Of the rollouts.
        policy: The network that acts.
    """

    def __init__(self, buffer: RolloutBuffer, policy: LatentActorCritic) -> None:
        self.buffer, self.policy = buffer, policy
        population, device, horizon = buffer.population, buffer.rewards.device, buffer.shape.horizon
        count = min(population.master_envs, population.envs_per_follower, _STATES)
        self._stride = max(horizon // count, 1)
        place = torch.arange(count, device=device)
        first = population.first_envs(device)
        self._step = (place * self._stride % horizon).repeat(len(first))
        self._env = (first[:, None] + place).flatten()
        self._agent_of_env = population.agent_of_env(device)
        agents = self._agent_of_env[self._env]
        self._agents = torch.cat([agents, torch.full_like(agents, MASTER)])
        states, units = policy.state_shape
        self._memory = torch.zeros(states, len(first), count, units, device=device)

    def remember(self, t: int, state: Tensor) -> None:
        """Keep the recurrent states (S, N, H) before step t of those environments that are looked at there."""
        if t % self._stride:
            return
        population, start, step = self.buffer.population, t // self._stride, self.buffer.shape.horizon
        of_agents = state[:, self._env].unflatten(1, (population.num_agents, -1))
        self._memory[:, :, start::step] = of_agents[:, :, start::step]

    @torch.no_grad()
    def tell(self, sources: Tensor | None, autocast: Callable[[], AbstractContextManager[Any]]) -> dict[str, Tensor]:
        """(K,) float64 of each name, over all ranks: with several ranks a collective call.

        Args:
            sources: (T, C) the environment that each off-policy sample is from; None where there is none.
            autocast: Context in which the network runs.

        Returns:
            `entropy`: Of its actions, in nats, mean over the agent's own states. `kl_to_master`: KL(agent || master),
            exact, mean over the same; NaN for the master. `ess`: the fraction of the agent's samples in the master's
            off-policy batch that really counts; NaN where it has none, as the master.
        """
        asked = self._asked(autocast)
        if sources is None:
            parts = of_all_ranks(asked)
        else:
            population = self.buffer.population
            agents = self._agent_of_env[sources].flatten()
            log_mu = self.buffer.log_mu[:, self.buffer.envs : self.buffer.shape.learnt_columns].flatten()
            sums = log_weight_sums(log_mu, agents, population.num_agents)
            both = of_all_ranks(torch.cat([asked.flatten(), sums.flatten()]))  # one call
            parts = both[:, : asked.numel()].unflatten(1, asked.shape)
            weights = both[:, asked.numel() :].unflatten(1, sums.shape)
        entropy, divergence = parts.mean(0).unbind()
        told = {"entropy": entropy, "kl_to_master": divergence}
        return told if sources is None else {**told, "ess": effective_sample_fractions(weights)}

    def _asked(self, autocast: Callable[[], AbstractContextManager[Any]]) -> Tensor:
        """(2, K) mean entropy, and KL(agent || master).

        Both policies have the agent's observations, normalised, and its recurrent state.
        """
        obs, memory = self.buffer.obs[self._step, self._env], self._memory.flatten(1, 2)
        with autocast():
            rows = self.policy.express(self._agents)
            output = self.policy(torch.cat([obs, obs]), rows, torch.cat([memory, memory], dim=1))
        own, masters = output.actions.halves()
        told = torch.stack([own.entropy(), own.kl(masters)]).double()
        means: Tensor = told.unflatten(1, (self.buffer.population.num_agents, -1)).mean(-1)
        means[1, MASTER].fill_(torch.nan)  # `= torch.nan` would wait for a GPU: it copies to a single entry
        return means
