"""N copies of any MuJoCo model on CPU threads, driven by the model's own actuators.

Shape legend: N environments, Q positions, V velocities, U actuators, M chosen environments.

Where `mujoco.MujocoPhysics` knows hands, an object and a goal, this knows positions and velocities only.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import mujoco
import torch
from mujoco import batch
from torch import Tensor

from epo_lightning.limits import Mistake
from epo_lightning.physics.base import WantedThreads
from epo_lightning.physics.mujoco import BAD_STATE, RUNAWAY, STAGE, silence_warnings
from epo_lightning.physics.threads import Threads


class Worlds:
    """N copies of `model`; results do not depend on the number of threads.

    Args:
        model: The scene.
        num_envs: N.
        decimation: Physics steps per control step.
        threads: CPU threads, see `physics.threads`.

    Attributes:
        model: The scene.
        position: (N, Q) float64, the engine's own positions: a view, to be read only.
        velocity: (N, V) float64, likewise.
        blown_up: (N,) bool, environments whose simulation failed in the last `step`: their state is finite but
            meaningless, and the caller must `reset` them.

    Raises:
        Mistake: When `threads` is no number of threads.
    """

    def __init__(self, model: mujoco.MjModel, num_envs: int, decimation: int, threads: WantedThreads = None) -> None:
        silence_warnings()
        self.model, self.decimation = model, decimation
        self.blown_up = torch.zeros(num_envs, dtype=torch.bool)
        self._threads = Threads(threads)
        self._open()

    def _open(self) -> None:
        """The batch, and where its numbers stand."""
        self._batch = self._threads.batch(self.model, len(self.blown_up))
        self._rows, self._warning = self._batch.state, self._batch.warning
        self._control = torch.from_numpy(self._batch.bind("ctrl"))
        self.position = torch.from_numpy(self._batch.bind("qpos"))
        self.velocity = torch.from_numpy(self._batch.bind("qvel"))

    def settle(self, saved: Mapping[str, Any] | None = None) -> str:
        """As `base.Physics.settle`."""
        line, other = self._threads.settle(self.model, len(self.blown_up), self.decimation, saved)
        if other:
            rows = self._rows.copy()
            self._open()
            self._rows[:] = rows
            self._batch.forward(stage=STAGE.mjSTAGE_VEL)
        return line

    def chosen(self) -> dict[str, Any]:
        """Who steps the environments."""
        return self._threads.choice._asdict()

    def step(self, control: Tensor) -> None:
        """Advance all environments by `decimation` physics steps under `control` (N, U), in the actuators' units."""
        self._control.copy_(control)
        failed: Sequence[int] = ()
        try:
            self._batch.step(nstep=self.decimation, stage=STAGE.mjSTAGE_VEL)
        except batch.SimulationError as error:  # those kept the state before the step
            failed = error.ids
        # blown up: MuJoCo gave up on the state, or it is finite but absurd
        torch.logical_not(self.velocity.abs().amax(dim=1) <= RUNAWAY, out=self.blown_up)  # true for NaN, too
        self.blown_up |= torch.from_numpy(self._warning[:, BAD_STATE, 1].any(axis=1))  # a reset clears these counters
        if len(failed):
            self.blown_up[torch.as_tensor(failed, dtype=torch.int64)] = True
        for field in (self.position, self.velocity) if self.blown_up.any() else ():
            field[self.blown_up] = field[self.blown_up].nan_to_num(0, 0, 0).clamp(-RUNAWAY, RUNAWAY)

    def reset(self, ids: Tensor, position: Tensor, velocity: Tensor) -> None:
        """Put the environments `ids` (M,) to `position` (M, Q) and `velocity` (M, V); nothing else is remembered."""
        rows = ids.numpy()
        self._batch.reset(rows, stage=STAGE.mjSTAGE_NONE)
        self.position[ids] = position.double()
        self.velocity[ids] = velocity.double()
        self._batch.forward(rows, stage=STAGE.mjSTAGE_VEL)

    def state_dict(self) -> dict[str, Any]:
        """The engine's float64 rows: positions, velocities, warm starts, controls, time."""
        return {"rows": torch.from_numpy(self._rows.copy()), **self._threads.saved()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue to the bit from `state`.

        Raises:
            Mistake: When it is of another number of environments, or of another scene.
        """
        self.settle(state)
        rows = state["rows"]
        if tuple(rows.shape) != self._rows.shape:
            raise Mistake(
                f"the saved state's physics has shape {tuple(rows.shape)}, this environment needs {self._rows.shape}:"
                " data.num_envs and data.env.init_args must be those of the saved run"
            )
        self._batch.reset(stage=STAGE.mjSTAGE_NONE)
        self._rows[:] = rows.numpy()
        self._batch.forward(stage=STAGE.mjSTAGE_VEL)
        self.blown_up.zero_()

    def snapshot(self, env: int) -> mujoco.MjData:
        """A copy of the state of environment `env`, to be drawn."""
        data = self._batch.get_data(env)
        mujoco.mj_kinematics(self.model, data)
        mujoco.mj_camlight(self.model, data)
        mujoco.mj_tendon(self.model, data)
        return data

    def close(self) -> None:
        """Stop the threads."""
        del self._batch
