"""Two environments as one: while one half steps in a thread of its own, the other half's next actions are inferred.

Shape legend: N environments, N / 2 in each half, O observation entries, A action entries.

Every other environment belongs to the second half, so that each agent has as many in either. The halves step in one
fixed order, one at a time, and each draws its own random numbers: nothing depends on what happens at the same time.
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from epo_lightning.algorithm.symmetry import Symmetry
from epo_lightning.envs.base import StepResult, VectorEnv
from epo_lightning.envs.signals import Signals
from epo_lightning.limits import Mistake

KEY = "data.double_buffer"
COLUMNS = slice(0, None, 2), slice(1, None, 2)
"""The environments of each half."""
_SAVED = "halves of data.double_buffer"


class Halves(VectorEnv):
    """Two environments of N / 2 that step one after the other, from one call or while the caller does something else.

    Args:
        halves: Both, of equal size.
        overlap: Step in a thread of their own; else `submit` steps at once, with the same results.
    """

    def __init__(self, halves: tuple[VectorEnv, VectorEnv], *, overlap: bool = True) -> None:
        self.halves = halves
        self.spec = replace(halves[0].spec, num_envs=sum(half.spec.num_envs for half in halves))
        self.curriculum_units = halves[0].curriculum_units
        self._steps: dict[int, Future[StepResult]] = {}
        self._worker = None
        if overlap:
            device = torch.cuda.current_device() if torch.cuda.is_initialized() else None
            same = torch.get_num_threads(), device
            self._worker = ThreadPoolExecutor(1, "environments", initializer=_like_the_caller, initargs=same)

    def submit(self, half: int, actions: Tensor) -> None:
        """Begin a step of `half`, 0 or 1, after those that were begun before; `actions` (N / 2, A) are kept as is."""
        assert half not in self._steps, "take what the last step came to first"
        if self._worker is not None:
            self._steps[half] = self._worker.submit(self.halves[half].step, actions)
            return
        done: Future[StepResult] = Future()
        self._steps[half] = done
        done.set_result(self.halves[half].step(actions))

    def receive(self, half: int) -> StepResult:
        """Wait for the step of `half`; its tensors are valid until the next `submit` of this half."""
        return self._steps.pop(half).result()

    def step(self, actions: Tensor) -> StepResult:
        """One step of both; see `VectorEnv.step`."""
        for half, columns in enumerate(COLUMNS):
            self.submit(half, actions[columns])
        first, second = self.receive(0), self.receive(1)
        return joined(first, second)

    def _settled(self) -> tuple[VectorEnv, VectorEnv]:
        """Both, once what was begun has ended: after an interruption in the middle of a rollout something may run."""
        for half in list(self._steps):
            self.receive(half)
        return self.halves

    def reset(self) -> Tensor:
        """See `VectorEnv.reset`."""
        return interleaved(*(half.reset() for half in self._settled()))

    def reset_late(self, over: Tensor) -> Tensor:
        """See `VectorEnv.reset_late`."""
        parts = zip(self._settled(), COLUMNS, strict=True)
        return interleaved(*(half.reset_late(over[columns]) for half, columns in parts))

    def state_dict(self) -> dict[str, Any]:
        """Of both."""
        return {_SAVED: [half.state_dict() for half in self._settled()]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Of both."""
        for half, saved in zip(self._settled(), state[_SAVED], strict=True):
            half.load_state_dict(saved)

    def settle(self) -> str:
        """What the first half chooses; the second one chooses the same, as they are alike."""
        line, _ = (half.settle() for half in self._settled())
        return line

    def chosen(self) -> dict[str, Any]:
        """Of the first half."""
        return self.halves[0].chosen()

    def curriculum(self) -> dict[str, float]:
        """Of the first half: each has its own, as every rank has."""
        return self.halves[0].curriculum()

    def set_curriculum(self, values: Mapping[str, float]) -> None:
        """Of both."""
        for half in self._settled():
            half.set_curriculum(values)

    def begin_at(self, values: Mapping[str, float]) -> None:
        """Of both."""
        for half in self._settled():
            half.begin_at(values)

    def true_objective(self, successes: Tensor) -> Tensor:
        """As the first half has it."""
        return self.halves[0].true_objective(successes)

    def symmetry(self) -> Symmetry:
        """The task's."""
        return self.halves[0].symmetry()

    def reward_parameters(self) -> dict[str, float]:
        """The task's."""
        return self.halves[0].reward_parameters()

    def set_reward_parameters(self, values: Mapping[str, Tensor]) -> None:
        """Of both."""
        for half, columns in zip(self._settled(), COLUMNS, strict=True):
            half.set_reward_parameters({name: value[columns] for name, value in values.items()})

    def signals(self) -> Signals:
        """The task's."""
        return self.halves[0].signals()

    def render(self, envs: Sequence[int], width: int, height: int) -> np.ndarray:
        """See `VectorEnv.render`."""
        halves = self._settled()
        return np.concatenate([halves[env % 2].render([env // 2], width, height) for env in envs])

    def script(self) -> Callable[[], Tensor]:
        """See `VectorEnv.script`."""
        first, second = (half.script() for half in self._settled())
        return lambda: interleaved(first(), second())

    def close(self) -> None:
        """Both, and the thread."""
        if self._worker is not None:
            self._worker.shutdown()
        for half in self.halves:
            half.close()


def in_halves(
    build: Callable[[int, int], VectorEnv], num_envs: int, seeds: tuple[int, int], *, overlap: bool = True
) -> Halves:
    """N environments, half of them made by `build(N / 2, seed)` with each seed.

    Raises:
        Mistake: When N is odd.
    """
    if num_envs % 2:
        raise Mistake(f"{KEY} needs two halves: data.num_envs must be even, such as {num_envs + 1}; got {num_envs}")
    first, second = (build(num_envs // 2, seed) for seed in seeds)
    return Halves((first, second), overlap=overlap)


def _like_the_caller(threads: int, device: int | None) -> None:
    """What torch keeps for each thread: sums depend on the number of threads."""
    torch.set_num_threads(threads)
    if device is not None:
        torch.cuda.set_device(device)


def require_same_halves(env: VectorEnv, state: Mapping[str, Any]) -> None:
    """Refuse a state that was saved with the other value of `data.double_buffer`.

    Raises:
        Mistake: That names both values.
    """
    now, then = isinstance(env, Halves), _SAVED in state
    if now != then:
        raise Mistake(f"{KEY} must be {str(then).lower()}, as in the saved state; got {str(now).lower()}")


def interleaved(first: Tensor, second: Tensor) -> Tensor:
    """(N, ...) of the halves' rows (N / 2, ...), a copy."""
    return torch.stack([first, second], dim=1).flatten(0, 1)


def joined(first: StepResult, second: StepResult) -> StepResult:
    """What a step of both halves gave, copied; numbers of a whole half become their mean."""
    final_obs = None
    if first.final_obs is not None and second.final_obs is not None:
        final_obs = interleaved(first.final_obs, second.final_obs)
    return StepResult(
        obs=interleaved(first.obs, second.obs),
        reward=interleaved(first.reward, second.reward),
        terminated=interleaved(first.terminated, second.terminated),
        truncated=interleaved(first.truncated, second.truncated),
        successes=interleaved(first.successes, second.successes),
        final_obs=final_obs,
        log={name: _both(first.log[name], second.log[name]) for name in first.log.keys() & second.log.keys()},
    )


def _both(first: Tensor | float, second: Tensor | float) -> Tensor | float:
    if isinstance(first, Tensor) and isinstance(second, Tensor) and first.ndim:
        return interleaved(first, second)
    return (first + second) / 2
