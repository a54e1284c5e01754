"""The contract between an environment and the learner.

Shape legend: N environments of this rank, O observation entries, A action entries.

An environment is one object that steps N copies of a task at once with torch tensors on one device. It resets a copy by
itself in the step in which that copy's episode ends. Write one with these members, name it by `class_path`, and every
command of this package works with it; `check_env` tells whether it keeps the contract.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from epo_lightning.algorithm.symmetry import Symmetry
from epo_lightning.envs.signals import Signal, Signals, signal_of
from epo_lightning.learner.observations import Group as Group  # what a task describes itself with
from epo_lightning.learner.observations import Groups, join, seen_by_actors
from epo_lightning.limits import Mistake
from epo_lightning.physics.base import Physics

if TYPE_CHECKING:
    from epo_lightning.physics.drawing import Marker


@dataclass(frozen=True)
class EnvSpec:
    """What the learner must know before the first step.

    Args:
        name: Task name, for tables and file names; a network is only given to the task of this name.
        num_envs: N, environments on this rank.
        obs_dim: O, length of one float32 observation.
        act_dim: A, length of one action; every entry lies in [-1, 1] (the learner clips its samples to that range). Of
            a discrete task: the number of actions to choose from.
        max_episode_steps: Upper bound of an episode's length in env steps, or None when there is none.
        step_seconds: Simulated time of one env step, in seconds; None where the task has no clock.
        discrete: The actions are (N,) int64, each one of 0 .. A - 1, instead of (N, A) float32.
        restores: `load_state_dict` brings running episodes back. Where the simulator cannot, a resumed run starts new
            ones by `reset`.
        groups: Of what the observation is made, in the order of its columns, privileged groups last; () for one vector
            that all see.
    """

    name: str
    num_envs: int
    obs_dim: int
    act_dim: int
    max_episode_steps: int | None = None
    step_seconds: float | None = None
    discrete: bool = False
    restores: bool = True
    groups: Groups = ()

    @property
    def seen(self) -> int:
        """P, how many entries of an observation, the first ones, actors see."""
        return seen_by_actors(self.groups, self.obs_dim)

    def join(self, parts: Mapping[str, Tensor]) -> Tensor:
        """(N, O) float32, the observation that `groups` with these names (N, size) make.

        Raises:
            Mistake: When a group is missing, unknown or of another size.
        """
        return join(self.groups, parts)

    def zero_actions(self) -> Tensor:
        """All zero, or choice 0 everywhere; on the CPU."""
        return torch.zeros(self.num_envs, dtype=torch.int64) if self.discrete else torch.zeros(*self._action_shape)

    def random_actions(self, generator: torch.Generator) -> Tensor:
        """Uniform over the actions; on the CPU."""
        if self.discrete:
            return torch.randint(self.act_dim, (self.num_envs,), generator=generator)
        return 2 * torch.rand(self._action_shape, generator=generator) - 1

    @property
    def _action_shape(self) -> tuple[int, int]:
        return self.num_envs, self.act_dim


class StepResult(NamedTuple):
    """What one env step returns. Every tensor is on the environment's device and is valid until the next step.

    Attributes:
        obs: (N, O) float32. Where an episode ended: the first observation of the next episode.
        reward: (N,) float32, unscaled.
        terminated: (N,) bool. The episode ended in a state without a future: its value is 0.
        truncated: (N,) bool. The episode was cut (time limit): its last state is bootstrapped. Never true together
            with `terminated`.
        successes: (N,) float32. Goals reached in this very step; their sum over an episode is its success count.
        final_obs: (N, O) float32, the last observation of the old episode; only rows with `truncated` are read. None
            when the environment cannot tell: the learner then bootstraps with the value of the last observation it saw.
        log: Named numbers, or () or (N,) tensors of any real type. `env/<name>` is the mean over the steps of a rollout
            in which the name was reported; NaN is the same as not to report it.
    """

    obs: Tensor
    reward: Tensor
    terminated: Tensor
    truncated: Tensor
    successes: Tensor
    final_obs: Tensor | None = None
    log: Mapping[str, Tensor | float] = {}


class VectorEnv(ABC):
    """N copies of a task behind one tensor interface.

    A subclass's constructor takes `num_envs: int`, `device: torch.device`, `seed: int` first; whatever follows can be
    set in YAML under `data.env.init_args`. Two environments built with the same arguments behave alike to the bit.

    Attributes:
        spec: What the learner must know; set in the constructor.
        curriculum_units: Units of those values of `curriculum()` that have one, such as {"tolerance": "m"}; captions
            tell lengths in m as centimetres.
    """

    spec: EnvSpec
    curriculum_units: Mapping[str, str] = {}

    @abstractmethod
    def reset(self) -> Tensor:
        """Start N new episodes and return their first observations, (N, O) float32."""

    def reset_late(self, over: Tensor) -> Tensor:
        """Start N new episodes that meet their time limit early; returns their first observations, (N, O) float32.

        Everything but the clock is as after `reset`: what comes of an episode that began late is real, it is only
        shorter.

        Args:
            over: (N,) float32 in [0, 1): the share of its time limit that counts as over in each environment.

        Raises:
            Mistake: When the task cannot set its clock.
        """
        raise Mistake(
            f"model.rollout.staggered_starts: {self.spec.name} cannot set its clock: its environment does not implement"
            " reset_late()"
        )

    @abstractmethod
    def step(self, actions: Tensor) -> StepResult:
        """Apply `actions` for one env step; finished copies are reset before returning.

        Args:
            actions: (N, A) float32 in [-1, 1]; (N,) int64 where `spec.discrete`.
        """

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """Everything that the future depends on (state, clocks, random generators), as tensors and plain values.

        Where `spec.restores` is false: what can be kept, such as a curriculum.
        """

    @abstractmethod
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state` exactly; raises `Mistake` when it does not fit this environment."""

    def settle(self) -> str:
        """Choose what results do not depend on, such as a number of threads, where that is to be measured.

        Called once when a training begins, before the first `reset`, or goes on, after `load_state_dict`: a choice that
        the saved state knows is not made again.

        Returns:
            One line that tells the choice, for the user; empty where there is none to tell.
        """
        return ""

    def chosen(self) -> dict[str, Any]:
        """What was chosen, as plain values by name, for the record of the run."""
        return {}

    def curriculum(self) -> dict[str, float]:
        """What the task has learnt about its own difficulty, independent of N: an evaluation takes it over."""
        return {}

    def set_curriculum(self, values: Mapping[str, float]) -> None:  # noqa: B027  (a task may have none)
        """Take over the difficulty that another instance's `curriculum()` returned, and hold it.

        From then on the difficulty does not change by itself: that is what an evaluation needs. A saved state says
        whether it is held.

        Raises:
            Mistake: When a value is out of range.
        """

    def begin_at(self, values: Mapping[str, float]) -> None:
        """Take over the difficulty that another instance's `curriculum()` returned, and go on from there.

        Of `set_curriculum` it differs in that nothing is held. A training that goes on on more ranks needs it.

        Raises:
            Mistake: When the task cannot.
        """
        if values:
            raise Mistake(
                f"--ckpt_path: {self.spec.name} cannot go on on another number of ranks, since new environments cannot"
                " begin at its difficulty: its environment does not implement begin_at()"
            )

    def true_objective(self, successes: Tensor) -> Tensor:
        """What episodes with so many `successes`, of any shape, are worth at the present difficulty.

        One number for successes and difficulty: what a population is selected by whose rewards differ.

        Raises:
            Mistake: When the task has none.
        """
        raise Mistake(
            f"{self.spec.name} has no true objective: its environment does not implement true_objective(); select by"
            " successes or return"
        )

    def symmetry(self) -> Symmetry:
        """How observations and actions are mirrored: mirrored episodes are as likely, and as good, as their originals.

        Raises:
            Mistake: When the task is not symmetric, or does not tell.
        """
        raise Mistake(
            f"model.rollout.symmetry: {self.spec.name} has no mirror image: its environment does not implement"
            " symmetry()"
        )

    def reward_parameters(self) -> dict[str, float]:
        """The numbers of the reward that may be set, by name, as the task sets them; none by default."""
        return {}

    def set_reward_parameters(self, values: Mapping[str, Tensor]) -> None:
        """From the next step on the reward is computed with `values`; every other number stays what it is.

        A saved state holds what was set. What is observed must not depend on it: an evaluation sets nothing.

        Args:
            values: (N,) float32 of each name.

        Raises:
            Mistake: When the task has no such number.
        """
        require_reward_parameters(self, values)

    def signals(self) -> Signals:
        """What the entries of observations and actions are, for whoever feeds an exported policy; nobody must tell.

        By default the groups that actors see.
        """
        seen = tuple(signal_of(group) for group in self.spec.groups if not group.privileged)
        action = Signal("action", self.spec.act_dim)
        return Signals(seen or (Signal("observation", self.spec.obs_dim),), (action,))

    def render(self, envs: Sequence[int], width: int, height: int) -> np.ndarray:
        """Pictures of the environments `envs` as they are now: (M, height, width, 3) uint8.

        Raises:
            Mistake: When the task cannot be drawn, or this machine cannot draw.
        """
        raise Mistake(f"{self.spec.name} has no pictures: its environment does not implement render()")

    def script(self) -> Callable[[], Tensor]:
        """A controller written by hand: each call returns the actions, (N, A), for the present state.

        Raises:
            Mistake: When the task has none.
        """
        raise Mistake(f"{self.spec.name} has no scripted policy: its environment does not implement script()")

    def close(self) -> None:  # noqa: B027  (nothing to free is the common case)
        """Free threads, processes and device memory."""


@runtime_checkable
class Simulated(Protocol):
    """What `view` needs beyond `VectorEnv`: an environment that a MuJoCo scene stands behind."""

    @property
    def physics(self) -> Physics:
        """The engine with the scene."""

    def markers(self, env: int) -> "Sequence[Marker]":
        """What is drawn of environment number `env` beyond its scene."""


def require_reward_parameters(env: VectorEnv, names: Iterable[str]) -> None:
    """Refuse names of numbers that the reward of `env` does not have.

    Raises:
        Mistake: One line that names the first, and those that there are.
    """
    known = env.reward_parameters()
    for name in names:
        if name not in known:
            has = f"has {', '.join(known)}" if known else "has none that can be set"
            raise Mistake(f"the reward of {env.spec.name} has no parameter {name!r}: it {has}")


EnvFactory = Callable[[int, torch.device, int], VectorEnv]
"""`factory(num_envs, device, seed)`: what `data.env` becomes after parsing."""
