"""What the tasks with bodies share: physics, clock, resets, the random generator, the saved state, pictures.

Shape legend: N environments of this rank, O observation entries, A action entries, Q positions, V velocities, M chosen
environments.
"""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from epo_lightning.envs.base import EnvSpec, StepResult, VectorEnv
from epo_lightning.envs.threads import OneThread
from epo_lightning.limits import Mistake
from epo_lightning.physics.base import WantedThreads

if TYPE_CHECKING:
    import mujoco

    from epo_lightning.physics.drawing import SceneDrawing

CAMERA = "side"
"""Name of the camera that every scene has."""


class Verdict(NamedTuple):
    """What a task's rules say of one env step, before the time limit and the reset.

    Attributes:
        reward: (N,) float32.
        terminated: (N,) bool.
        successes: (N,) float32.
        log: As in `StepResult`.
    """

    reward: Tensor
    terminated: Tensor
    successes: Tensor
    log: Mapping[str, Tensor] = {}


class BodyEnv(VectorEnv):
    """A task on N copies of a MuJoCo model, whose actions drive the model's actuators.

    A subclass writes `_starts`, `_observe` and `_judge`. An environment whose simulation blows up terminates, with
    reward 0.

    Args:
        spec: The task; `spec.max_episode_steps` is the time limit.
        device: Where tensors are handed over; physics and rules run on the CPU.
        seed: Seed of this environment's own generator.
        model: The scene, with a camera `CAMERA`.
        decimation: Physics steps per env step.
        threads: CPU threads, as each task's own documentation has it.

    Raises:
        Mistake: When `spec` asks for less than one environment or step, or `threads` is no number of threads.
    """

    def __init__(
        self,
        spec: EnvSpec,
        device: torch.device,
        seed: int,
        model: "mujoco.MjModel",
        decimation: int,
        threads: WantedThreads,
    ) -> None:
        if spec.num_envs < 1:
            raise Mistake(f"data.num_envs must be at least 1, got {spec.num_envs}")
        if spec.max_episode_steps is None or spec.max_episode_steps < 1:
            raise Mistake(f"data.env.init_args.max_steps must be at least 1, got {spec.max_episode_steps}")
        from epo_lightning.physics.worlds import Worlds

        self.spec = spec
        self.worlds = Worlds(model, spec.num_envs, decimation, threads)
        self._device = torch.device(device)
        self._max_steps = spec.max_episode_steps
        self._generator = torch.Generator().manual_seed(seed)
        self._clock = torch.zeros(spec.num_envs, dtype=torch.int64)
        self._met = torch.zeros(spec.num_envs, dtype=torch.bool)
        self._begun = False
        self._drawing: SceneDrawing | None = None

    @abstractmethod
    def _starts(self, count: int) -> tuple[Tensor, Tensor]:
        """Positions (M, Q) and velocities (M, V) of M = `count` new episodes."""

    @abstractmethod
    def _observe(self, position: Tensor, velocity: Tensor) -> Tensor:
        """The observation (M, O) of `position` (M, Q) and `velocity` (M, V), all float32."""

    def _controls(self, actions: Tensor) -> Tensor:
        """What the actuators get, (N, U), for `actions` (N, A) in [-1, 1]: these, unless a task says otherwise."""
        return actions

    @abstractmethod
    def _judge(self, before: Tensor, actions: Tensor, last: Tensor) -> Verdict:
        """The rules' verdict on the step from positions `before` (N, Q) to those of `worlds`.

        `actions` (N, A) lie in [-1, 1]; `last` (N,) bool: time is up. `_met` (N,) bool is the rules' own: whether
        this episode's goal has been met.
        """

    @torch.no_grad()
    @OneThread()
    def reset(self) -> Tensor:
        """Start N new episodes; see `VectorEnv.reset`."""
        self._begun = True
        return self._restart(torch.arange(self.spec.num_envs)).to(self._device)

    def reset_late(self, over: Tensor) -> Tensor:
        """Start N new episodes and set the clocks; see `VectorEnv.reset_late`."""
        obs = self.reset()
        self._clock = (over.cpu() * self._max_steps).long()
        return obs

    @torch.no_grad()
    @OneThread()
    def step(self, actions: Tensor) -> StepResult:
        """Physics, rules, the time limit, and new episodes where one ended; see `VectorEnv.step`."""
        if not self._begun:
            raise RuntimeError("call reset() or load_state_dict() before step()")
        worlds, actions = self.worlds, actions.cpu().clamp(-1.0, 1.0)
        self._clock += 1
        last = self._clock >= self._max_steps
        before = worlds.position.float()
        worlds.step(self._controls(actions))
        verdict = self._judge(before, actions, last)
        sound = ~worlds.blown_up
        terminated = verdict.terminated | worlds.blown_up
        truncated = last & ~terminated
        final_obs = self._observe(worlds.position.float(), worlds.velocity.float())
        obs, ended = final_obs.clone(), (terminated | truncated).nonzero().flatten()
        if len(ended):
            obs[ended] = self._restart(ended)
        device = self._device
        return StepResult(
            obs=obs.to(device),
            reward=torch.where(sound, verdict.reward, 0.0).to(device),
            terminated=terminated.to(device),
            truncated=truncated.to(device),
            successes=torch.where(sound, verdict.successes, 0.0).to(device),
            final_obs=final_obs.to(device),
            log={name: value.to(device) for name, value in verdict.log.items()},
        )

    def _restart(self, ids: Tensor) -> Tensor:
        """New episodes in the environments `ids` (M,); returns their first observations, (M, O)."""
        position, velocity = self._starts(len(ids))
        self.worlds.reset(ids, position, velocity)
        self._clock[ids] = 0
        self._met[ids] = False
        return self._observe(position, velocity)

    def state_dict(self) -> dict[str, Any]:
        """The task's name, the physics, the clocks, what was met, and the random generator."""
        if not self._begun:
            raise RuntimeError("call reset() or load_state_dict() before state_dict()")
        return {
            "task": self.spec.name,
            "physics": self.worlds.state_dict(),
            "clock": self._clock.clone(),
            "met": self._met.clone(),
            "generator": self._generator.get_state(),
        }

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue to the bit from `state`.

        Raises:
            Mistake: When it is of another task, or of other sizes.
        """
        expected = {"task", "physics", "clock", "met", "generator"}
        if set(state) != expected:
            raise Mistake(f"{self.spec.name}: a saved state has {sorted(expected)}, got {sorted(state)}")
        if state["task"] != self.spec.name:
            raise Mistake(f"the saved state belongs to {state['task']}, but data.env is {self.spec.name}")
        self.worlds.load_state_dict(state["physics"])
        self._clock = state["clock"].to("cpu", torch.int64, copy=True)
        self._met = state["met"].to("cpu", torch.bool, copy=True)
        self._generator.set_state(state["generator"].cpu())
        self._begun = True

    def settle(self) -> str:
        """The number of threads, where it is to be measured; see `VectorEnv.settle`."""
        return self.worlds.settle()

    def chosen(self) -> dict[str, Any]:
        """Who steps; see `VectorEnv.chosen`."""
        return self.worlds.chosen()

    def render(self, envs: Sequence[int], width: int, height: int) -> np.ndarray:
        """The scene from its camera; see `VectorEnv.render`."""
        from epo_lightning.physics.drawing import SceneDrawing

        if not self._begun:
            raise RuntimeError("call reset() or load_state_dict() before render()")
        if self._drawing is None or (self._drawing.width, self._drawing.height) != (width, height):
            self._close_drawing()
            self._drawing = SceneDrawing(self.worlds.model, width, height, CAMERA)
        return np.stack([self._drawing.draw(self.worlds.model, self.worlds.snapshot(env)) for env in envs])

    def close(self) -> None:
        """Stop the physics."""
        self._close_drawing()
        self.worlds.close()

    def _close_drawing(self) -> None:
        if self._drawing is not None:
            self._drawing.close()
            self._drawing = None
