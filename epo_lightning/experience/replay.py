"""The last transitions of every environment, to learn from again and again.

Shape legend: N environments, C capacity per environment, O observation, A action, B samples, W = 2 O + A + 2.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

import torch
from torch import Tensor

from epo_lightning.envs.base import StepResult
from epo_lightning.limits import require_range

CAPACITY = "model.replay.capacity_per_env"


@dataclass(frozen=True)
class ReplaySettings:
    """What is remembered, and how much of it each update sees.

    Args:
        capacity_per_env: Transitions that are kept of every environment; older ones make room.
        batch_size: Transitions of one update, on every rank.
        warmup: Env steps of random actions that every environment makes before anything is learnt.
        horizon: T, env steps that every environment makes per iteration; it says how often something is logged,
            evaluated and saved, and nothing about what is learnt.
    """

    capacity_per_env: int = 1024
    batch_size: int = 8192
    warmup: int = 10
    horizon: int = 16

    def __post_init__(self) -> None:
        for name in ("capacity_per_env", "batch_size", "warmup", "horizon"):
            require_range(f"model.replay.{name}", getattr(self, name), 1)


class ReplayShape(NamedTuple):
    """Sizes of a replay buffer: C, N, O, A."""

    capacity_per_env: int
    num_envs: int
    obs_dim: int
    act_dim: int

    @property
    def row(self) -> int:
        """W: numbers of a transition."""
        return 2 * self.obs_dim + self.act_dim + 2


class Transitions(NamedTuple):
    """What was seen, done and got.

    Attributes:
        obs: (B, O) raw observations.
        actions: (B, A) as the environment took them.
        rewards: (B,).
        next_obs: (B, O) what followed in the same episode; means nothing where `terminated`.
        terminated: (B,) bool, nothing follows.
    """

    obs: Tensor
    actions: Tensor
    rewards: Tensor
    next_obs: Tensor
    terminated: Tensor


class NStepTransitions(NamedTuple):
    """What was seen, done, and got in the n steps from there on; fewer where the episode ended.

    Attributes:
        obs: (B, O) raw observations.
        actions: (B, A) as the environment took them.
        rewards: (B,) discounted sum of those steps.
        next_obs: (B, O) what followed on the last of them in the same episode; means nothing where nothing follows.
        discount: (B,) what the return from `next_obs` on counts: gamma^m after m steps, 0 where nothing follows.
    """

    obs: Tensor
    actions: Tensor
    rewards: Tensor
    next_obs: Tensor
    discount: Tensor


Sample = TypeVar("Sample", Transitions, NStepTransitions)


class Ring(ABC, Generic[Sample]):
    """A ring of transitions per environment, allocated once; all of them turn together.

    One row holds a whole transition, so that a sample is one read of W neighbouring numbers. The observation that
    follows is stored again, which doubles the memory: wherever an episode was truncated, it is not the next row's.

    Args:
        shape: Sizes.
        device: Where it lies.

    Attributes:
        position: Where the next step goes, 0 .. C - 1.
        filled: Steps that are stored, at most C.
    """

    def __init__(self, shape: ReplayShape, device: torch.device) -> None:
        self.shape = shape
        self.position = self.filled = 0
        self._rows = torch.zeros(_sizes(shape), device=device)
        self._widths = (shape.obs_dim, shape.act_dim, 1, shape.obs_dim, 1)

    @staticmethod
    def nbytes(shape: ReplayShape) -> int:
        """Bytes that a buffer of this shape takes: linear in capacity x environments."""
        return 4 * math.prod(_sizes(shape))

    def __len__(self) -> int:
        """Transitions that are stored."""
        return self.filled * self.shape.num_envs

    @abstractmethod
    def insert(self, obs: Tensor, actions: Tensor, result: StepResult) -> None:
        """Keep one env step of every environment.

        Args:
            obs: (N, O) raw observations in which they acted.
            actions: (N, A) as the environment took them.
            result: What came of it. Where it was truncated, its final observation follows; `obs` again where the
                environment does not tell that.
        """

    def cut(self) -> None:
        """What comes next does not follow on what is known: nothing to do where every row is whole by itself."""

    def store(self, parts: list[Tensor]) -> None:
        """Write the next row of every environment: the (N, ...) columns of a transition, which make W."""
        torch.cat(parts, dim=-1, out=self._rows[self.position])
        self.position = (self.position + 1) % self.shape.capacity_per_env
        self.filled = min(self.filled + 1, self.shape.capacity_per_env)

    def draw(self, batch: int, generator: torch.Generator) -> Tensor:
        """(B,) numbers of stored transitions, uniformly and with replacement.

        The number of the environment is the remainder by N.
        """
        return torch.randint(len(self), (batch,), generator=generator, device=self._rows.device)

    @abstractmethod
    def gather(self, numbers: Tensor) -> Sample:
        """The transitions that are stored under `numbers` (B,)."""

    def columns(self, numbers: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Observations, actions, rewards (B,), what follows, and the last column (B,), of `numbers` (B,)."""
        rows = self._rows.flatten(0, 1).index_select(0, numbers)
        obs, actions, rewards, next_obs, last = rows.split(self._widths, dim=-1)
        return obs, actions, rewards.squeeze(-1), next_obs, last.squeeze(-1)

    def state_dict(self) -> dict[str, Any]:
        """Where the ring stands, and copies of the filled rows on the CPU."""
        return {
            "capacity_per_env": self.shape.capacity_per_env,
            "position": self.position,
            "rows": self._rows[: self.filled].to("cpu", copy=True),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state`: exactly, or with its latest steps where another capacity wrote it."""
        rows, capacity = state["rows"], self.shape.capacity_per_env
        self.position = state["position"]
        if state["capacity_per_env"] != capacity:
            rows = rows.roll(-self.position, 0) if len(rows) == state["capacity_per_env"] else rows  # the oldest first
            rows = rows[-capacity:]
            self.position = len(rows) % capacity
        self.filled = len(rows)
        self._rows[: self.filled] = rows


class ReplayBuffer(Ring[Transitions]):
    """Single steps."""

    def insert(self, obs: Tensor, actions: Tensor, result: StepResult) -> None:
        """Keep one env step of every environment: see `Ring.insert`."""
        self.store([obs, actions, result.reward[:, None], following(obs, result), result.terminated[:, None]])

    def gather(self, numbers: Tensor) -> Transitions:
        """The transitions that are stored under `numbers` (B,)."""
        obs, actions, rewards, next_obs, terminated = self.columns(numbers)
        return Transitions(obs, actions, rewards, next_obs, terminated > 0)


def following(obs: Tensor, result: StepResult) -> Tensor:
    """(N, O) what followed on `obs` (N, O) in the same episode: the final observation where it was truncated."""
    final_obs = obs if result.final_obs is None else result.final_obs
    return torch.where(result.truncated[:, None], final_obs, result.obs)


def _sizes(shape: ReplayShape) -> tuple[int, int, int]:
    return shape.capacity_per_env, shape.num_envs, shape.row
