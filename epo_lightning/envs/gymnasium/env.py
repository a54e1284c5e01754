"""`GymnasiumEnv`: a task of Gymnasium, N copies of it, under the contract of `envs.base`.

Shape legend: N environments, O observation entries, A action entries, M environments in a picture.

Gymnasium knows three moments at which a copy whose episode has ended is reset. Copies that are made here are reset in
the same step. A vector environment that leaves the reset to its user is asked to reset these copies, and only them. One
that resets in the next step lets a step go by in which the copy takes no action: the observation then has an entry
more, which is 1 between two episodes. That pause is the first step of an episode, with reward 0, and every transition
is what has really happened: the end comes with its own step, and what the pause leads to is a beginning.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from epo_lightning.envs.base import EnvSpec, StepResult, VectorEnv
from epo_lightning.envs.gymnasium.actions import ActionMap
from epo_lightning.envs.gymnasium.clocks import set_clocks
from epo_lightning.envs.gymnasium.fault import FAULT
from epo_lightning.envs.gymnasium.observations import ObservationRows
from epo_lightning.envs.gymnasium.pictures import draw, fit_picture
from epo_lightning.envs.gymnasium.successes import SUCCESS, goals
from epo_lightning.envs.gymnasium.vectors import Vectorization, build_vector
from epo_lightning.envs.signals import Signal, Signals
from epo_lightning.limits import Mistake


class GymnasiumEnv(VectorEnv):
    """Any task that is registered with Gymnasium, or that a function returns.

    Args:
        num_envs: N, environments on this rank.
        device: Where tensors are handed over; the task itself runs where it likes.
        seed: Seed of the resets; every copy has a stream of its own.
        id: A registered id such as CartPole-v1; module:id where a module registers it (ale_py:ALE/Pong-v5); or
            module:function, a function that returns a gymnasium.Env (with vectorization own: that takes num_envs and
            returns a gymnasium.vector.VectorEnv).
        vectorization: How the copies are stepped: sync (one after the other in this process), async (each in a process
            of its own, over shared memory; for steps that take a millisecond and more), or own (the vector environment
            that comes with the task).
        env_args: What the task's constructor takes, and gymnasium.make: max_episode_steps, for instance.
        privileged: Groups that only a critic of its own sees: keys of the task's Dict of observations, or paths of keys
            in it, such as robot.mass; null for none.

    Raises:
        Mistake: When there is no such task, it lacks a library, or its spaces are not supported, or there is no such
            group.
    """

    def __init__(
        self,
        num_envs: int,
        device: torch.device,
        seed: int,
        id: str,
        vectorization: Vectorization = "sync",
        env_args: dict[str, Any] | None = None,
        privileged: list[str] | None = None,
    ) -> None:
        if num_envs < 1:
            raise Mistake(f"data.num_envs must be at least 1, got {num_envs}")
        vector = build_vector(id, num_envs, vectorization, env_args or {})
        self.vector = vector.env
        from gymnasium.vector import AutoresetMode

        mode = AutoresetMode(self.vector.metadata["autoreset_mode"])
        pauses = mode is AutoresetMode.NEXT_STEP
        try:
            self._rows = ObservationRows(self.vector.single_observation_space, privileged or (), pauses)
            self._act = ActionMap(self.vector.single_action_space)
        except ValueError:
            self.vector.close()
            raise
        resets = {
            AutoresetMode.SAME_STEP: self._reset_was_now,
            AutoresetMode.NEXT_STEP: self._reset_comes_next,
            AutoresetMode.DISABLED: self._reset_them,
        }
        self._begin_anew, limit = resets[mode], vector.max_episode_steps
        self.spec = EnvSpec(
            name=id.rpartition(":")[2],
            num_envs=num_envs,
            obs_dim=self._rows.size,
            act_dim=self._act.size,
            max_episode_steps=None if limit is None else limit + pauses,
            step_seconds=vector.step_seconds,
            discrete=self._act.discrete,
            restores=False,
            groups=self._rows.groups,
        )
        self._device, self._seed, self._steps = device, seed, 0
        self._makes_copies = vectorization != "own"
        self._is_seeded = False
        self._obs, self._final_obs, self._first_obs = np.zeros((3, num_envs, self.spec.obs_dim), dtype=np.float32)
        self._paused, self._at_goal = np.zeros((2, num_envs), dtype=bool)

    def signals(self) -> Signals:
        """See `VectorEnv.signals`."""
        observation, pause = super().signals().observation, self._rows.pause
        if pause is not None and not self.spec.groups:
            observation = (Signal("observation", pause), Signal("pause", 1, "", "1 between two episodes"))
        return Signals(observation, self._act.signals())

    def reset(self) -> Tensor:
        """Start N new episodes; see `VectorEnv.reset`."""
        obs, _ = self._unpack("reset()", self.vector.reset(seed=self._new_seed()), 2)
        self._obs[:] = 0.0
        self._rows.write(obs, self._obs)
        self._paused[:] = self._at_goal[:] = False
        return self._tensor(self._obs)

    def reset_late(self, over: Tensor) -> Tensor:
        """With the clocks of Gymnasium's TimeLimit set; see `VectorEnv.reset_late`."""
        obs = self.reset()
        if not set_clocks(self.vector, over.tolist(), self._makes_copies):
            raise Mistake(
                f"model.rollout.staggered_starts: {self.spec.name} cannot set its clock: it has no time limit, or its"
                " vector environment keeps it for itself"
            )
        return obs

    def _new_seed(self) -> int | None:
        """Once; the generators of the copies go on from there. A resumed run begins other episodes than a new one."""
        if self._is_seeded:
            return None
        self._is_seeded = True
        word = np.random.SeedSequence([self._seed, self._steps]).generate_state(1)[0]
        return int(word >> 1)  # Gymnasium adds 0 .. N - 1 for the copies, which must stay below 2^32

    def step(self, actions: Tensor) -> StepResult:
        """One step of every copy; see `VectorEnv.step`."""
        obs, reward, terminated, truncated, infos = self._unpack("step()", self.vector.step(self._act(actions)), 5)
        self._steps += 1
        acted = ~self._paused
        reward = self._numbers("rewards", reward)
        terminated = self._numbers("terminations", terminated).astype(bool)
        truncated = self._numbers("truncations", truncated).astype(bool) & ~terminated
        done = terminated | truncated
        successes = self._reached_goals(infos, acted, done)
        self._rows.write(obs, self._obs)
        final_is_known = self._begin_anew(done, obs, infos)
        return StepResult(
            obs=self._tensor(self._obs),
            reward=self._tensor(np.where(acted, reward, 0.0).astype(np.float32)),
            terminated=self._tensor(terminated),
            truncated=self._tensor(truncated),
            successes=self._tensor(successes),
            final_obs=self._tensor(self._final_obs) if final_is_known else None,
        )

    def _unpack(self, name: str, result: Any, parts: int) -> Any:
        """What `vector` returned, as it should; with the fault that a copy tells raised."""
        if not (isinstance(result, tuple) and len(result) == parts):
            got = f"{len(result)} values" if isinstance(result, tuple) else type(result).__name__
            raise self._mistake(f"{name} must return {parts} values, the last one info; got {got}")
        if not isinstance(result[-1], Mapping):
            raise self._mistake(f"info of {name} must be a dict, got {type(result[-1]).__name__}")
        if FAULT in result[-1]:
            raise self._mistake(next(each for each in result[-1][FAULT] if each is not None))
        return result

    def _numbers(self, name: str, values: object) -> np.ndarray:
        """(N,) numbers or bools out of what `vector` returned."""
        numbers = np.asarray(values)
        if numbers.size != self.spec.num_envs or numbers.dtype.kind not in "biuf":
            raise self._mistake(
                f"{name} must be {self.spec.num_envs} numbers, got {numbers.dtype} of shape {numbers.shape}"
            )
        return numbers.reshape(self.spec.num_envs)

    def _mistake(self, what: str) -> Mistake:
        return Mistake(f"data.env.init_args.id: {self.spec.name}: {' '.join(what.split())}")

    def _reset_was_now(self, done: np.ndarray, obs: Any, infos: Mapping[str, Any]) -> bool:
        """Same step: `obs` has the new episodes; whether `infos` tells the last observations of the old ones."""
        if not done.any():
            return True
        final = infos.get("final_obs")
        if final is None:
            return False
        if isinstance(final, np.ndarray) and final.dtype == object:
            for env in np.flatnonzero(done):
                if final[env] is None:
                    return False
                if fault := self._rows.misfit(final[env]):
                    raise self._mistake(f"infos['final_obs'] is {fault}")
                self._final_obs[env] = self._rows.row(final[env])
        else:
            if self._rows.shares_memory(final, obs):
                raise self._mistake("infos['final_obs'] is the memory of the observations, which a reset overwrites")
            self._rows.write(final, self._final_obs)
        return True

    def _reset_comes_next(self, done: np.ndarray, obs: Any, infos: Mapping[str, Any]) -> bool:
        """Next step: until then these copies pause, which an entry of `obs` says."""
        self._final_obs[done] = self._obs[done]  # in these rows that entry is still 0
        self._paused = done
        self._obs[:, self._rows.pause] = done
        return True

    def _reset_them(self, done: np.ndarray, obs: Any, infos: Mapping[str, Any]) -> bool:
        """Disabled: it is for us to do."""
        if done.any():
            self._final_obs[done] = self._obs[done]
            first, _ = self._unpack("reset()", self.vector.reset(options={"reset_mask": done.copy()}), 2)
            self._rows.write(first, self._first_obs)
            self._obs[done] = self._first_obs[done]
        return True

    def _reached_goals(self, infos: Mapping[str, Any], acted: np.ndarray, done: np.ndarray) -> np.ndarray:
        """(N,) float32: 1 where a copy is successful that was not in the step before."""
        last = infos.get("final_info")
        if not (isinstance(last, Mapping) or any(name in infos for name in SUCCESS)):
            self._at_goal[:] = False
            return np.zeros(len(done), dtype=np.float32)
        try:
            at_goal = goals(infos, len(done))
            if isinstance(last, Mapping):  # `infos` itself is of the new episodes there
                at_goal = np.where(done, goals(last, len(done)), at_goal)
        except ValueError as error:
            raise self._mistake(str(error)) from error
        at_goal &= acted
        reached = at_goal & ~self._at_goal
        self._at_goal = at_goal & ~done
        return reached.astype(np.float32)

    def state_dict(self) -> dict[str, Any]:
        """The number of steps: Gymnasium's tasks cannot be saved, and a resumed run begins new episodes."""
        return {"task": self.spec.name, "steps": self._steps}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Have the next `reset` begin episodes that no run before has seen."""
        if set(state) != {"task", "steps"}:
            raise Mistake(f"data.env: a saved state of GymnasiumEnv has steps and task, this has {sorted(state)}")
        if state["task"] != self.spec.name:
            raise Mistake(f"data.env.init_args.id must be {state['task']}, as in the saved state")
        self._steps, self._is_seeded = state["steps"], False

    def render(self, envs: Sequence[int], width: int, height: int) -> np.ndarray:
        """The task's own pictures, fitted into this size; see `VectorEnv.render`."""
        return np.stack([fit_picture(each, width, height) for each in draw(self.vector, envs, self.spec.name)])

    def close(self) -> None:
        """Close the copies, and end their processes."""
        self.vector.close()

    def _tensor(self, values: np.ndarray) -> Tensor:
        return torch.from_numpy(values).to(self._device)
