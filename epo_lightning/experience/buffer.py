"""The tensors of one rollout, allocated once and written in place.

Shape legend: N environments, W = N + off-policy + coupled columns, T horizon, O observation, A action, S recurrent
state tensors, H LSTM units, B minibatch.

Columns 0..N-1 are the environments; the columns behind them hold followers' samples relabelled for the master: with an
LSTM a column is a sequence; without, its T entries are unrelated transitions. Last come the master's environments as
seen by followers that are coupled to it, a sequence a column.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from epo_lightning.algorithm.batch import RolloutBatch
from epo_lightning.algorithm.population import MASTER, Population


class RolloutShape(NamedTuple):
    """Sizes of a rollout: T, who acts where, off-policy columns, O, stored action, (S, H), coupled columns.

    `mirrored`: recurrent states of the mirror images are kept, too.
    """

    horizon: int
    population: Population
    off_policy_columns: int
    obs_dim: int
    action_dim: int
    state_shape: tuple[int, int]
    coupled_columns: int = 0
    mirrored: bool = False

    @property
    def columns(self) -> int:
        """W."""
        return self.learnt_columns + self.coupled_columns

    @property
    def learnt_columns(self) -> int:
        """Those that the critic learns from: N + off-policy columns."""
        return self.population.num_envs + self.off_policy_columns

    @property
    def recurrent(self) -> bool:
        """Whether samples are sequences."""
        return self.state_shape[0] > 0

    @property
    def units(self) -> int:
        """How many samples there are to shuffle: transitions, or whole sequences with an LSTM."""
        return self.columns * (1 if self.recurrent else self.horizon)

    @property
    def steps_per_unit(self) -> int:
        """Transitions of each: 1, or those of a sequence."""
        return self.horizon if self.recurrent else 1


class RolloutBuffer:
    """Everything that is kept of one rollout.

    Attributes:
        obs: (T + 1, W, O) observations, raw while collecting and normalised afterwards.
        actions: (T, W, A) unclipped samples; (T, W, 1) numbers of the choices of a discrete task.
        log_probs, log_mu, targets, advantages: (T, W), see `RolloutBatch`.
        values: (T + 1, W); the last row is the value of the state after the rollout.
        scalars: (T + 1, W, 5) log_probs, log_mu, targets, advantages and values side by side: they are views of it.
        rewards, successes: (T, N); terminated, truncated: (T, N) bool.
        final_values: (T, N) value of the final observation of truncated episodes, under the agent's own gene.
        master_final_values: The same under the master's gene; without an LSTM only.
        final_obs: With an LSTM, the final observations that are known, normalised: for each step with such the step,
            the environments (M,), and the observations (M, O). The master's value of them needs its own state. With
            coupled columns only, those of the master's environments.
        resets: (T + 1, W) bool, an episode starts with this row.
        states: (S, W, H) recurrent state at the start of the rollout.
        image_states: The same of the mirror images; S = 0 where nothing is mirrored.
        column_agents: (W,) whose gene evaluates the column; coupled columns get another one in every rollout.
    """

    def __init__(self, shape: RolloutShape, device: torch.device) -> None:
        self.shape = shape
        sizes, booleans = _sizes(shape)
        self.obs, self.actions, self.scalars = (
            torch.zeros(sizes[name], device=device) for name in ("obs", "actions", "scalars")
        )
        # One tensor behind them all, so that a minibatch takes one gather for the five
        self.log_probs, self.log_mu, self.targets, self.advantages = self.scalars[:-1, :, :4].unbind(-1)
        self.values = self.scalars[..., 4]
        names = ("rewards", "successes", "final_values", "master_final_values", "states")
        self.rewards, self.successes, self.final_values, self.master_final_values, self.states = (
            torch.zeros(sizes[name], device=device) for name in names
        )
        self.resets, self.terminated, self.truncated = (
            torch.zeros(booleans[name], dtype=torch.bool, device=device)
            for name in ("resets", "terminated", "truncated")
        )
        self.image_states = self.states.clone() if shape.mirrored else self.states[:0]
        self.final_obs: list[tuple[int, Tensor, Tensor]] = []
        off_policy = torch.full((shape.off_policy_columns + shape.coupled_columns,), MASTER, device=device)
        self.column_agents = torch.cat([shape.population.agent_of_env(device), off_policy])

    @staticmethod
    def nbytes(shape: RolloutShape) -> int:
        """Bytes that a buffer of this shape takes: linear in environments x horizon."""
        sizes, booleans = _sizes(shape)
        return 4 * sum(map(math.prod, sizes.values())) + sum(map(math.prod, booleans.values()))

    @property
    def population(self) -> Population:
        """Who acts in which column."""
        return self.shape.population

    @property
    def envs(self) -> int:
        """N: the columns before those of relabelled samples."""
        return self.shape.population.num_envs

    @property
    def units(self) -> int:
        """How many samples there are to shuffle: transitions, or whole sequences with an LSTM."""
        return self.shape.units

    @property
    def recurrent(self) -> bool:
        """Whether samples are sequences."""
        return self.shape.recurrent

    def minibatches(self, units: Tensor, count: int) -> Iterator[RolloutBatch]:
        """The samples `units` (U,), in this order, as `count` minibatches."""
        samples: tuple[Tensor, ...] = (self.obs[:-1], self.actions, self.scalars[:-1])
        if self.recurrent:
            columns = units
        else:
            columns = units % self.shape.columns
            samples = tuple(field.flatten(0, 1) for field in samples)
        indices = (units, columns, self.column_agents[columns], columns >= self.envs)
        for places in zip(*(each.tensor_split(count) for each in indices), strict=True):
            yield self._gather(samples, *places)

    def _gather(
        self, samples: tuple[Tensor, ...], units: Tensor, column: Tensor, agent_ids: Tensor, off_policy: Tensor
    ) -> RolloutBatch:
        obs, actions, scalars = (field.index_select(-2, units) for field in samples)
        log_probs, log_mu, targets, advantages, values = scalars.unbind(-1)
        return RolloutBatch(
            obs=obs,
            actions=actions,
            agent_ids=agent_ids,
            log_probs=log_probs,
            log_mu=log_mu,
            values=values,
            targets=targets,
            advantages=advantages,
            off_policy=off_policy,
            states=self.states[:, column] if self.recurrent else self.states[:, :0],
            resets=self.resets[:-1, column] if self.recurrent else off_policy,
        )


def _sizes(shape: RolloutShape) -> tuple[dict[str, tuple[int, ...]], dict[str, tuple[int, ...]]]:
    """Sizes of the float32 tensors and of the boolean ones, by name."""
    horizon, columns, envs = shape.horizon, shape.columns, shape.population.num_envs
    floats: dict[str, tuple[int, ...]] = {
        "obs": (horizon + 1, columns, shape.obs_dim),
        "actions": (horizon, columns, shape.action_dim),
        "scalars": (horizon + 1, columns, 5),
        "states": (shape.state_shape[0], columns, shape.state_shape[1]),
    }
    if shape.mirrored:
        floats["image_states"] = floats["states"]
    floats |= dict.fromkeys(("rewards", "successes", "final_values", "master_final_values"), (horizon, envs))
    booleans: dict[str, tuple[int, ...]] = {"resets": (horizon + 1, columns)}
    booleans |= dict.fromkeys(("terminated", "truncated"), (horizon, envs))
    return floats, booleans
