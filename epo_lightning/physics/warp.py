"""MuJoCo Warp: N copies of one model on a GPU (or, slowly, on the CPU), in single precision.

Shape legend: N environments, D actuated joints, H hands, F fingertips per hand, B free blocks, M chosen environments.

What the model must contain is documented in `physics.mujoco`, whose scenes run here unchanged. A control step is one
recorded graph of kernels (`warp_worlds`). State stays on the device and `step` does not wait for it, except for every
64th, which checks whether the buffers were large enough. The future depends on positions, velocities, the solver's last
acceleration and the poses of the goals; everything else is computed from these in every step.
"""

import warnings
from collections.abc import Collection, Mapping
from typing import Any

import mujoco
import torch
from torch import Tensor

from epo_lightning.learner.memory import require_memory
from epo_lightning.limits import Mistake
from epo_lightning.physics.base import Physics, PhysicsState
from epo_lightning.physics.forces import ObjectForces
from epo_lightning.physics.readout import Readout
from epo_lightning.physics.rows import put
from epo_lightning.physics.variation import Variation
from epo_lightning.physics.warp_memory import world_bytes
from epo_lightning.physics.warp_worlds import TOO_FEW_CONSTRAINTS, TOO_FEW_CONTACTS, Worlds

CONTACTS, CONSTRAINTS = 48, 160
"""Default room per environment: contacts (a pool that all share) and rows of constraints (everyone its own)."""
CHECK_EVERY = 64
"""Control steps between two checks whether the buffers were large enough."""
KEPT = ("qpos", "qvel", "qacc_warmstart", "mocap_pos", "mocap_quat")
"""What the future depends on."""


class WarpPhysics(Physics):
    """N copies of `model`, each with its own size and mass of the object; chosen ones may be given as a mask.

    Args:
        model: The scene.
        num_envs: N.
        hands: H.
        half_sizes: (N, 3) half edges of the objects, m.
        masses: (N,) masses of the objects, kg.
        device: A CUDA device or the CPU.
        decimation: Physics steps per control step.
        contacts: Room for contacts, per environment on the average of all environments; None: `CONTACTS`.
        constraints: Room for rows of constraints in each environment, which are 3 or 4 per contact and 1 per joint at a
            limit; None: `CONSTRAINTS`.
        varied: Which of `base.FACTORS` `vary` will be given.

    Raises:
        Mistake: When a size is not positive, or the device is of another kind.
    """

    masked = True

    def __init__(
        self,
        model: mujoco.MjModel,
        num_envs: int,
        hands: int,
        half_sizes: Tensor,
        masses: Tensor,
        device: torch.device,
        decimation: int = 2,
        contacts: int | None = None,
        constraints: int | None = None,
        varied: Collection[str] = (),
    ) -> None:
        if device.type not in ("cuda", "cpu"):
            raise Mistake(
                f"data.env.init_args.physics must be mujoco on {device.type}: warp runs on NVIDIA GPUs and on the CPU"
            )
        self._room = {
            "contacts_per_world": CONTACTS if contacts is None else contacts,
            "constraints_per_world": CONSTRAINTS if constraints is None else constraints,
        }
        for key, value in self._room.items():
            if value < 1:
                raise Mistake(f"data.env.init_args.{key} must be at least 1; got {value}")
        self.num_envs, self.device, self.model = num_envs, device, model
        room = self._room["contacts_per_world"], self._room["constraints_per_world"]
        each = world_bytes(model, *room)
        require_memory(each * num_envs, device, "data.num_envs", num_envs, f"MuJoCo Warp, {each / 2**10:.0f} KiB each")
        cuboids = torch.cat([half_sizes, masses[:, None]], dim=1)
        self._worlds = worlds = Worlds(model, cuboids, hands, device, decimation, *room, varied)
        self._variation = Variation(model, worlds.own_fields(), varied)

        self._joints, self._goal = model.nu, model.body("goal").mocapid[0]
        self._kept = {name: worlds.field(name) for name in KEPT}
        self._forces = ObjectForces(worlds.field("xfrc_applied")[:, model.body("object").id, :3])
        self._ctrl, self._overflow = worlds.field("ctrl"), worlds.field("overflow")
        self._sensordata, self.blown_up = worlds.field("sensordata"), worlds.failures()
        start = mujoco.MjData(model)
        self._start = {name: torch.tensor(getattr(start, name)).float().to(device) for name in KEPT}

        self._readout = Readout(model, hands, num_envs, device)
        self.state = self._readout.state(*(self._kept[name][:, : self._joints] for name in ("qpos", "qvel")))
        self._steps = 0
        self._restore(self._start)

    def step(self, targets: Tensor, object_force: Tensor | None = None) -> None:
        """Advance all environments by `decimation` physics steps; see `Physics.step`."""
        self._ctrl.copy_(targets)
        self._forces.write(object_force)
        self._worlds.launch("advance")
        self._readout.take(self._sensordata)
        self._steps += 1
        if self._steps % CHECK_EVERY == 0:
            self._check_room()

    def reset(
        self, ids: Tensor, joint_pos: Tensor, joint_vel: Tensor, object_pos: Tensor, object_quat: Tensor
    ) -> PhysicsState:
        """See `Physics.reset`."""
        for name, start in self._start.items():
            put(self._kept[name], ids, start)
        put(self._kept["qpos"][:, : self._joints], ids, joint_pos)
        put(self._kept["qvel"][:, : self._joints], ids, joint_vel)
        self.place_object(ids, object_pos, object_quat)
        self._worlds.launch("read")
        self._readout.take(self._sensordata, ids)
        return self.state.rows(ids)

    def place_object(self, ids: Tensor, pos: Tensor, quat: Tensor) -> None:
        """See `Physics.place_object`."""
        joints = self._joints
        put(self._kept["qpos"][:, joints : joints + 7], ids, torch.cat([pos, _wxyz(quat)], dim=1))
        put(self._kept["qvel"][:, joints : joints + 6], ids, 0)

    def place_goal(self, ids: Tensor, pos: Tensor, quat: Tensor) -> None:
        """See `Physics.place_goal`."""
        put(self._kept["mocap_pos"][:, self._goal], ids, pos)
        put(self._kept["mocap_quat"][:, self._goal], ids, _wxyz(quat))

    def state_dict(self) -> dict[str, Any]:
        """Positions, velocities, warm starts and goal poses."""
        self._check_room()
        return {"engine": "warp"} | {name: value.clone() for name, value in self._kept.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """See `Physics.load_state_dict`."""
        rows, numbers = state["qpos"].shape
        if rows != self.num_envs:
            raise Mistake(f"data.num_envs must be {rows} on this rank, as in the saved state; got {self.num_envs}")
        if numbers != self.model.nq:
            raise Mistake(
                "data.env.init_args.task must be the task of the saved state: its scene has"
                f" {numbers} positions per environment, this one {self.model.nq}"
            )
        self._restore(state)

    def _restore(self, state: Mapping[str, Tensor]) -> None:
        for name, value in self._kept.items():
            value.copy_(state[name])
        self.blown_up.zero_()
        self._forces.forget()
        self._worlds.launch("read")
        self._readout.take(self._sensordata)

    def vary(self, ids: Tensor, factors: Mapping[str, Tensor]) -> None:
        """See `Physics.vary`."""
        self._variation.write(ids, factors)

    def push(self, env: int, force: Tensor) -> None:
        """See `Physics.push`."""
        self._forces.push(env, force)

    def snapshot(self, env: int) -> tuple[mujoco.MjModel, mujoco.MjData]:
        """The model of environment `env`, with its own object, and its state in MuJoCo's own form."""
        model = self._worlds.model_of(env)
        data = mujoco.MjData(model)
        for name, kept in self._kept.items():
            getattr(data, name)[:] = kept[env].cpu().numpy()
        mujoco.mj_kinematics(model, data)
        mujoco.mj_comPos(model, data)
        mujoco.mj_camlight(model, data)
        return model, data

    def close(self) -> None:
        """Free the device's memory, as far as no caller holds `state`."""
        del self._worlds

    def _check_room(self) -> None:
        """Warn when contacts or constraints were dropped since the last check; waits for the device."""
        bits = torch.tensor([TOO_FEW_CONTACTS, TOO_FEW_CONSTRAINTS], device=self.device)
        counts = ((self._overflow[:, None] & bits) != 0).sum(dim=0).tolist()
        if not any(counts):
            return
        self._overflow.zero_()
        for (key, room), count in zip(self._room.items(), counts, strict=True):
            if count:
                warnings.warn(
                    f"data.env.init_args.{key} is too small: {room} was not enough in {count} of {self.num_envs}"
                    f" environments, and contacts were dropped; try {2 * room}",
                    stacklevel=2,
                )


def _wxyz(quat: Tensor) -> Tensor:
    """(M, 4) quaternions (x, y, z, w) as MuJoCo's (w, x, y, z)."""
    return quat.roll(1, dims=1)
