"""MuJoCo on CPU threads: N copies of one model, stepped by `mujoco.batch`.

Shape legend: N environments, D actuated joints, H hands, F fingertips per hand, B free blocks, M chosen environments.

What the model must contain (see `envs.allegro_kuka.scene`): the D hinges with their D position actuators come first,
then the free joint `object`, then those of the B blocks; a mocap body `goal`; sensors in the order of `readout`. The
engine keeps float64 rows, of which `state` is the float32 copy, made once per step. Results do not depend on the number
of threads.
"""

import warnings
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import mujoco
import numpy as np
import torch
from mujoco import batch
from torch import Tensor

from epo_lightning.limits import Mistake
from epo_lightning.physics.base import Physics, PhysicsState, WantedThreads
from epo_lightning.physics.forces import ObjectForces
from epo_lightning.physics.readout import Readout
from epo_lightning.physics.threads import Threads
from epo_lightning.physics.variation import Variation, varied_fields

STAGE = mujoco.mjtStage
_WARN = mujoco.mjtWarning
BAD_STATE = slice(int(_WARN.mjWARN_BADQPOS), int(_WARN.mjWARN_BADQACC) + 1)
"""Bad positions, velocities, accelerations: after these warnings MuJoCo has put an environment back by itself."""
RUNAWAY = 1000.0
"""Velocity of a joint, the object or a block (rad/s, m/s) beyond which an environment counts as blown up."""
ANGULAR_DAMPING = 0.5
"""Rate, 1/s, at which the object's spin decays in the air."""


def silence_warnings() -> None:
    """Count MuJoCo's warnings, see `blown_up`, instead of writing them to a file in the working directory."""
    if mujoco.get_mju_user_warning() is None:
        mujoco.set_mju_user_warning(_ignore)


class MujocoPhysics(Physics):
    """N copies of `model`, each with its own size and mass of the object.

    Args:
        model: The scene.
        num_envs: N.
        hands: H.
        half_sizes: (N, 3) half edges of the objects, m.
        masses: (N,) masses of the objects, kg.
        decimation: Physics steps per control step.
        threads: CPU threads, see `physics.threads`.
        varied: Which of `base.FACTORS` `vary` will be given.

    Raises:
        Mistake: When `threads` is no number of threads.
    """

    def __init__(
        self,
        model: mujoco.MjModel,
        num_envs: int,
        hands: int,
        half_sizes: Tensor,
        masses: Tensor,
        decimation: int = 2,
        threads: WantedThreads = None,
        varied: Collection[str] = (),
    ) -> None:
        silence_warnings()
        self.num_envs, self.device = num_envs, torch.device("cpu")
        self.model, self.decimation = model, decimation
        self._objects, self._varied = (half_sizes, masses), tuple(varied)
        self._joints = joints = model.nu
        self._object = model.body("object").id
        self._goal = model.body("goal").mocapid[0]
        self._threads = Threads(threads)
        self._open()

        # a row holds the time, then positions and velocities side by side
        self._moves = torch.zeros(num_envs, model.nq + model.nv)
        self._joint_columns = slice(joints), slice(model.nq, model.nq + joints)
        self._vel = self._moves[:, model.nq :]
        self._readout = Readout(model, hands, num_envs, self.device)
        self.state = self._readout.state(*(self._moves[:, columns] for columns in self._joint_columns))
        self.blown_up, self._some_blown_up = torch.zeros(num_envs, dtype=torch.bool), False
        self._refresh()

    def _open(self) -> None:
        """The batch, and where its numbers stand."""
        model = self.model
        self.batch = self._threads.batch(model, self.num_envs)
        self._set_objects(*self._objects)
        fields = {name: torch.from_numpy(self.batch.expand(name)) for name in varied_fields(model, self._varied)}
        self._variation = Variation(model, fields, self._varied)
        self._rows, self._bad = self.batch.state, self.batch.warning[:, BAD_STATE, 1]
        self._qpos, self._qvel = self.batch.bind("qpos"), self.batch.bind("qvel")
        self._ctrl = torch.from_numpy(self.batch.bind("ctrl"))
        self._forces = ObjectForces(torch.from_numpy(self.batch.bind("xfrc_applied"))[:, self._object, :3])
        self._mocap_pos, self._mocap_quat = self.batch.bind("mocap_pos"), self.batch.bind("mocap_quat")
        with warnings.catch_warnings():  # the engine's outputs are read-only arrays, and we only read them
            warnings.filterwarnings("ignore", message=".*not writable.*")
            self._sensor64 = torch.from_numpy(self.batch.bind("sensordata"))
        self._moves64 = torch.from_numpy(self._rows[:, 1 : 1 + model.nq + model.nv])

    def settle(self, saved: Mapping[str, Any] | None = None) -> str:
        """See `Physics.settle`; nothing has been drawn or varied yet."""
        line, other = self._threads.settle(self.model, self.num_envs, self.decimation, saved)
        if other:
            rows = self._rows.copy()
            self._open()
            self._rows[:] = rows
            self.batch.forward(stage=STAGE.mjSTAGE_VEL)
        return line

    def chosen(self) -> dict[str, Any]:
        """Who steps the environments."""
        return self._threads.choice._asdict()

    def _set_objects(self, half_sizes: Tensor, masses: Tensor) -> None:
        """Give every environment its own cuboid: geometry, mass, inertia, damping, and what MuJoCo derives of them."""
        half, mass = half_sizes.double().numpy(), masses.double().numpy()
        body = self.model.body("object")
        geoms = [g for g in ("object", "goal") if _is_box(self.model, g)]
        for geom in (self.model.geom(name).id for name in geoms):
            self.batch.expand("geom_size")[:, geom] = half
            self.batch.expand("geom_rbound")[:, geom] = np.linalg.norm(half, axis=1)
            self.batch.expand("geom_aabb")[:, geom] = np.concatenate([np.zeros_like(half), half], axis=1)
        # solid cuboid with half edges a: I_x = m (a_y^2 + a_z^2) / 3
        square = half**2
        inertia = mass[:, None] / 3 * (square.sum(1, keepdims=True) - square)
        self.batch.expand("body_mass")[:, body.id] = mass
        self.batch.expand("body_inertia")[:, body.id] = inertia
        spin = self.model.jnt_dofadr[self.model.joint("object").id] + 3
        # torque -c I omega: the spin decays at rate c about every axis
        self.batch.expand("dof_damping")[:, spin : spin + 3] = ANGULAR_DAMPING * inertia
        self.batch.set_const()

    def step(self, targets: Tensor, object_force: Tensor | None = None) -> None:
        """Advance all environments by `decimation` physics steps; see `Physics.step`."""
        self._ctrl.copy_(targets)
        self._forces.write(object_force)
        failed: Sequence[int] = ()
        try:
            self.batch.step(nstep=self.decimation, stage=STAGE.mjSTAGE_VEL)
        except batch.SimulationError as error:  # e.g. out of contact memory: those kept the state before the step
            failed = error.ids
        self._refresh()

        # blown up: MuJoCo gave up on the state, or it is finite but absurd; NaN is not within, either
        slowest, fastest = self._vel.aminmax()
        well = float(slowest) >= -RUNAWAY and float(fastest) <= RUNAWAY and not len(failed) and not self._bad.any()
        if well and not self._some_blown_up:
            return
        torch.logical_not(self._vel.abs().amax(dim=1) <= RUNAWAY, out=self.blown_up)
        self.blown_up |= torch.from_numpy(self._bad.any(axis=1))  # a reset clears these counters
        if len(failed):
            self.blown_up[torch.as_tensor(failed, dtype=torch.int64)] = True
        self._some_blown_up = not well
        if self._some_blown_up:
            for field in (self._moves, self._readout.values):
                field[self.blown_up] = field[self.blown_up].nan_to_num(0, 0, 0).clamp(-RUNAWAY, RUNAWAY)

    def reset(
        self, ids: Tensor, joint_pos: Tensor, joint_vel: Tensor, object_pos: Tensor, object_quat: Tensor
    ) -> PhysicsState:
        """See `Physics.reset`."""
        rows, joints = ids.numpy(), self._joints
        self.batch.reset(rows, stage=STAGE.mjSTAGE_NONE)
        self._qpos[rows, :joints] = joint_pos.numpy()
        self._qvel[rows, :joints] = joint_vel.numpy()
        self.place_object(ids, object_pos, object_quat)
        self.batch.forward(rows, stage=STAGE.mjSTAGE_VEL)
        self._moves[ids] = moves = self._moves64[ids].float()
        sensed = self._readout.take(self._sensor64, ids)
        joint_pos, joint_vel = (moves[:, columns] for columns in self._joint_columns)
        return self._readout.state(joint_pos, joint_vel, sensed)

    def place_object(self, ids: Tensor, pos: Tensor, quat: Tensor) -> None:
        """See `Physics.place_object`."""
        rows, joints = ids.numpy(), self._joints
        self._qpos[rows, joints : joints + 3] = pos.numpy()
        self._qpos[rows, joints + 3 : joints + 7] = _wxyz(quat)
        self._qvel[rows, joints : joints + 6] = 0

    def place_goal(self, ids: Tensor, pos: Tensor, quat: Tensor) -> None:
        """See `Physics.place_goal`."""
        rows = ids.numpy()
        self._mocap_pos[rows, self._goal] = pos.numpy()
        self._mocap_quat[rows, self._goal] = _wxyz(quat)

    def vary(self, ids: Tensor, factors: Mapping[str, Tensor]) -> None:
        """See `Physics.vary`."""
        self._variation.write(ids, factors)

    def state_dict(self) -> dict[str, Any]:
        """The engine's float64 rows: positions, velocities, warm starts, forces, goal poses, time."""
        return {"rows": torch.from_numpy(self._rows.copy()), **self._threads.saved()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """See `Physics.load_state_dict`."""
        rows = state["rows"]
        if rows.shape[0] != self.num_envs:
            raise Mistake(
                f"data.num_envs must be {rows.shape[0]} on this rank, as in the saved state; got {self.num_envs}"
            )
        if rows.shape[1] != self.batch.nstate:
            raise Mistake(
                "data.env.init_args.task must be the task of the saved state: its scene has"
                f" {rows.shape[1]} numbers per environment, this one {self.batch.nstate}"
            )
        self.batch.reset(stage=STAGE.mjSTAGE_NONE)
        self._rows[:] = rows.numpy()
        self.batch.forward(stage=STAGE.mjSTAGE_VEL)
        self.blown_up.zero_()
        self._some_blown_up = False
        self._forces.forget()
        self._refresh()

    def push(self, env: int, force: Tensor) -> None:
        """See `Physics.push`."""
        self._forces.push(env, force)

    def snapshot(self, env: int) -> tuple[mujoco.MjModel, mujoco.MjData]:
        """Copies of the model of environment `env`, with its own object, and of its state, positions up to date."""
        model, data = self.batch.get_model(env), self.batch.get_data(env)
        mujoco.mj_kinematics(model, data)  # the engine's are one physics step old, and do not know of a new goal
        mujoco.mj_camlight(model, data)
        return model, data

    def close(self) -> None:
        """Stop the threads."""
        del self.batch

    def _refresh(self) -> None:
        """float64 to float32."""
        self._moves.copy_(self._moves64)
        self._readout.take(self._sensor64)


def _wxyz(quat: Tensor) -> np.ndarray:
    """(M, 4) quaternions (x, y, z, w) as MuJoCo's (w, x, y, z)."""
    return quat.roll(1, dims=1).numpy()


def _is_box(model: mujoco.MjModel, geom: str) -> bool:
    index = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_GEOM, geom)
    return bool(index >= 0 and model.geom_type[index] == mujoco.mjtGeom.mjGEOM_BOX)


def _ignore(message: str) -> None:
    """MuJoCo's warnings are counted per environment, not printed."""
