"""A rollout in environments of two halves: while one steps, the next actions of the other are inferred.

Shape legend: N environments, N / 2 in each half, T horizon, S recurrent state tensors, H units of each.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from epo_lightning.algorithm.distributions import Sampler
from epo_lightning.envs.base import StepResult
from epo_lightning.envs.halves import COLUMNS, Halves, joined
from epo_lightning.experience.base import Experience
from epo_lightning.experience.buffer import RolloutBuffer
from epo_lightning.experience.env_log import EnvLog
from epo_lightning.learner.actor_critic import ActorCritic
from epo_lightning.learner.normalization import Normalizer


class Alternation:
    """The halves in turn, always in the same order, whether they step at once or while others are inferred.

    Args:
        experience: Whose agents act, from their present recurrent state on.
        env: Its environments.
        policy: The network that acts.
        buffer: Takes observations, values and where episodes begin.
        sampler: Of the actions.
        normalize: Of the observations.
        log: Of what the environments tell.
    """

    def __init__(
        self,
        experience: Experience[Any],
        env: Halves,
        policy: ActorCritic,
        buffer: RolloutBuffer,
        sampler: Sampler,
        normalize: Normalizer,
        log: EnvLog,
    ) -> None:
        self._experience, self._env, self._policy = experience, env, policy
        self._sampler, self._normalize, self._log = sampler, normalize, log
        envs = experience.population.num_envs
        self._obs, self._values, self._resets = (
            field[:, :envs] for field in (buffer.obs, buffer.values, buffer.resets)
        )
        with experience.autocast():
            self._rows = [policy.express(experience.agent_ids[columns]) for columns in COLUMNS]
        self._states = [experience.state[:, columns] for columns in COLUMNS]
        self._outputs = list(self._states)  # after the step that was begun last

    def steps(self, obs: Tensor, horizon: int) -> Iterator[tuple[StepResult, Tensor]]:
        """What each of T steps gave in both halves, and the recurrent state (S, N, H) after it; `obs` (N, O) first."""
        halves = range(len(COLUMNS))
        for half in halves:
            self._act(0, half, obs[COLUMNS[half]])
        for t in range(horizon):
            results, states = [], []
            for half in halves:
                results.append(result := self._take(t, half))
                states.append(self._outputs[half])
                if t + 1 < horizon:
                    self._act(t + 1, half, result.obs)
            yield joined(*results), torch.stack(states, dim=2).flatten(1, 2)

    def _act(self, t: int, half: int, obs: Tensor) -> None:
        """Begin step t of a half, whose episodes are at `obs` (N / 2, O)."""
        columns = COLUMNS[half]
        self._obs[t, columns] = obs
        with self._experience.autocast():
            output = self._policy(self._normalize(obs), self._rows[half], self._states[half])
        self._values[t, columns] = output.value
        self._outputs[half] = output.state
        self._env.submit(half, self._sampler.sample(t, output.actions, columns))

    def _take(self, t: int, half: int) -> StepResult:
        """What step t gave in a half, copied: it steps again before the other half is done."""
        env = self._env
        result = self._experience.outcome(lambda: env.receive(half), env.halves[half].spec, self._log)
        copies = {name: value.clone() for name, value in result._asdict().items() if isinstance(value, Tensor)}
        done = result.terminated | result.truncated
        self._resets[t + 1, COLUMNS[half]] = done
        state = self._outputs[half]
        self._states[half] = state.masked_fill(done[:, None], 0.0) if self._policy.recurrent else state
        return result._replace(**copies, log={})
