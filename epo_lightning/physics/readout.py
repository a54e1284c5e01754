"""The sensors of a scene as the fields of `PhysicsState`.

Shape legend: N environments, S sensor values, D actuated joints, H hands, F fingertips per hand, B free blocks,
M chosen environments.

Sensors of the model, in this order: palm point of every hand; orientation, linear and angular velocity of every wrist;
the same of the object; fingertip points, hand by hand; centre of the object; centre, orientation, linear and angular
velocity of every block. MuJoCo's quaternions begin with w, ours end with it.
"""

import mujoco
import torch
from torch import Tensor

from epo_lightning.physics.base import PhysicsState
from epo_lightning.physics.rows import put, take


class Readout:
    """What an engine's sensors said last.

    Args:
        model: The scene.
        hands: H.
        num_envs: N.
        device: Where the values are kept.

    Attributes:
        values: (N, S) float32.
    """

    def __init__(self, model: mujoco.MjModel, hands: int, num_envs: int, device: torch.device) -> None:
        blocks = int((model.jnt_type == mujoco.mjtJoint.mjJNT_FREE).sum()) - 1
        fingers = (model.nsensordata - 13 - 13 * hands - 13 * blocks) // 3 // hands
        self._shapes = {
            "palm_pos": (hands, 3),
            "wrist": (hands, 10),
            "object_frame": (10,),
            "tip_pos": (hands, fingers, 3),
            "object_pos": (3,),
            "blocks": (blocks, 13),
        }
        frames = 3 * hands
        first_block = frames + 10 * hands + 10 + 3 * hands * fingers + 3
        self._sizes = [int(torch.Size(shape).numel()) for shape in self._shapes.values()]
        columns = list(range(model.nsensordata))
        for quat in [*range(frames, frames + 10 * (hands + 1), 10), *range(first_block + 3, len(columns), 13)]:
            columns[quat : quat + 4] = [quat + 1, quat + 2, quat + 3, quat]
        self._columns = torch.tensor(columns, device=device)
        self.values = torch.zeros(num_envs, len(columns), device=device)

    def state(self, joint_pos: Tensor, joint_vel: Tensor, values: Tensor | None = None) -> PhysicsState:
        """Joints, (N, D) each, and views of `values`; of rows that `take` has returned, (M, D) and (M, S)."""
        parts = (self.values if values is None else values).split(self._sizes, dim=1)
        fields = {
            name: part.unflatten(1, shape) for (name, shape), part in zip(self._shapes.items(), parts, strict=True)
        }
        return PhysicsState(joint_pos=joint_pos, joint_vel=joint_vel, **fields)

    def take(self, sensordata: Tensor, ids: Tensor | None = None) -> Tensor:
        """Copy the sensors of all environments, (N, S), or of the environments `ids` (M,) alone, into `values`.

        Returns:
            What was copied, (N, S) or (M, S).
        """
        if ids is None:
            return torch.index_select(sensordata.float(), 1, self._columns, out=self.values)
        rows = take(sensordata, ids).float().index_select(1, self._columns)
        put(self.values, ids, rows)
        return rows
