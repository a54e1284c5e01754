"""What the classic tasks share: the clock, the masked reset, the random generator and the saved state.

Shape legend: N environments of this rank, O observation entries, A action entries, S state entries, M environments in a
picture.
"""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from epo_lightning.envs.base import EnvSpec, StepResult, VectorEnv
from epo_lightning.limits import Mistake


class Transition(NamedTuple):
    """What a task's dynamics return for one env step, before the time limit and the reset.

    Attributes:
        state: (N, S) float32, the state after the step.
        reward: (N,) float32.
        terminated: (N,) bool.
        successes: (N,) float32.
        log: As in `StepResult`.
    """

    state: Tensor
    reward: Tensor
    terminated: Tensor
    successes: Tensor
    log: Mapping[str, Tensor] = {}


class ClassicEnv(VectorEnv):
    """A task whose whole physical state is one (N, S) tensor.

    A subclass writes `_draw`, `_observe` and `_advance`, all three with tensor operations only. A step makes new
    tensors and reads none back to the host, so its results stay valid for as long as the caller keeps them.

    Args:
        spec: The task; `spec.max_episode_steps` is the time limit.
        device: Where every tensor lives.
        seed: Seed of this environment's own generator.
        state_dim: S.

    Raises:
        Mistake: When `spec` asks for less than one environment or less than one step.
    """

    def __init__(self, spec: EnvSpec, device: torch.device, seed: int, state_dim: int) -> None:
        if spec.num_envs < 1:
            raise Mistake(f"data.num_envs must be at least 1, got {spec.num_envs}")
        if spec.max_episode_steps is None or spec.max_episode_steps < 1:
            raise Mistake(f"data.env.init_args.max_steps must be at least 1, got {spec.max_episode_steps}")
        self.spec = spec
        self.device = torch.device(device)
        self._max_steps = spec.max_episode_steps
        self._state_dim = state_dim
        self._generator = torch.Generator(device=self.device)
        self._generator.manual_seed(seed)
        self._state: Tensor | None = None
        self._clock = torch.zeros(spec.num_envs, dtype=torch.int64, device=self.device)

    @abstractmethod
    def _draw(self) -> Tensor:
        """States of N new episodes, (N, S) float32."""

    @abstractmethod
    def _observe(self, state: Tensor) -> Tensor:
        """The observation (N, O) float32 of `state` (N, S)."""

    @abstractmethod
    def _advance(self, state: Tensor, actions: Tensor, last: Tensor) -> Transition:
        """One env step from `state` (N, S) with `actions` (N, A) in [-1, 1]; `last` (N,) bool: time is up then."""

    def _uniform(self, columns: int) -> Tensor:
        """(N, columns) float32 from this environment's own generator, uniform in [-1, 1)."""
        shape = (self.spec.num_envs, columns)
        return torch.rand(shape, generator=self._generator, device=self.device) * 2.0 - 1.0

    def _present(self) -> Tensor:
        """The states as they are now, (N, S)."""
        if self._state is None:
            raise RuntimeError("call reset() or load_state_dict() before render() or a script")
        return self._state

    def _rows(self, envs: Sequence[int]) -> list[list[float]]:
        """The states of `envs`, M rows of S numbers: what a picture shows."""
        return self._present()[list(envs)].tolist()

    def reset(self) -> Tensor:
        """Draw N new states; see `VectorEnv.reset`."""
        self._state = self._draw()
        self._clock = torch.zeros_like(self._clock)
        return self._observe(self._state)

    def reset_late(self, over: Tensor) -> Tensor:
        """Draw N new states and set the clocks; see `VectorEnv.reset_late`."""
        obs = self.reset()
        self._clock = (over * self._max_steps).long()
        return obs

    def step(self, actions: Tensor) -> StepResult:
        """The task's dynamics, the time limit, and new states where an episode ended; see `VectorEnv.step`."""
        if self._state is None:
            raise RuntimeError("call reset() or load_state_dict() before step()")
        clock = self._clock + 1
        last = clock >= self._max_steps
        moved = self._advance(self._state, actions.clamp(-1.0, 1.0), last)
        truncated = last & ~moved.terminated
        done = moved.terminated | truncated

        # New states are drawn for all N, needed or not: the draw then depends on no data and needs no sync.
        self._state = torch.where(done[:, None], self._draw(), moved.state)
        self._clock = torch.where(done, 0, clock)
        return StepResult(
            obs=self._observe(self._state),
            reward=moved.reward,
            terminated=moved.terminated,
            truncated=truncated,
            successes=moved.successes,
            final_obs=self._observe(moved.state),
            log=moved.log,
        )

    def state_dict(self) -> dict[str, Any]:
        """The task's name, the states, the clocks and the random generator."""
        if self._state is None:
            raise RuntimeError("call reset() or load_state_dict() before state_dict()")
        return {
            "task": self.spec.name,
            "state": self._state.clone(),
            "clock": self._clock.clone(),
            "generator": self._generator.get_state(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue to the bit from `state`.

        Raises:
            Mistake: When it is of another task, or of other sizes.
        """
        expected = {"task", "state", "clock", "generator"}
        if set(state) != expected:
            raise Mistake(f"{self.spec.name}: a saved state has {sorted(expected)}, got {sorted(state)}")
        if state["task"] != self.spec.name:
            raise Mistake(f"the saved state belongs to {state['task']}, but data.env is {self.spec.name}")
        shape, wanted = tuple(state["state"].shape), (self.spec.num_envs, self._state_dim)
        if shape != wanted or tuple(state["clock"].shape) != wanted[:1]:
            raise Mistake(
                f"the saved state of {self.spec.name} has shape {shape}, this environment needs {wanted}:"
                " data.num_envs and data.env.init_args must be those of the saved run"
            )
        self._state = state["state"].to(self.device, torch.float32, copy=True)
        self._clock = state["clock"].to(self.device, torch.int64, copy=True)
        self._generator.set_state(state["generator"].cpu())
