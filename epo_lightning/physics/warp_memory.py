"""What a world of MuJoCo Warp takes of the device's memory, known before one is made."""

import dataclasses

import mujoco

from epo_lightning.physics.warp_worlds import CONVEX, mjw, wp

FEW = 8
"""Worlds with which it is tried, and twice as many: what all share drops out."""
SCRATCH, SCRATCH_OF_CONVEX = 0.75, 2.15
"""What a model's own values and the work of a step take beside the data, in units of these: measured, see
`docs/gpu.md`. Pairs of shapes that have no formula need more."""
_GEOM = mujoco.mjtGeom
_NO_FORMULA = [int(kind) for kind in (_GEOM.mjGEOM_CYLINDER, _GEOM.mjGEOM_ELLIPSOID, _GEOM.mjGEOM_MESH)]


def world_bytes(model: mujoco.MjModel, contacts: int, constraints: int) -> int:
    """Bytes of each world of `model`, on any device, as an estimate.

    Args:
        model: The scene.
        contacts: Room for contacts, per world.
        constraints: Room for rows of constraints in each world.
    """
    few, many = (_held(model, worlds, contacts, constraints) for worlds in (FEW, 2 * FEW))
    collides = (model.geom_contype | model.geom_conaffinity) != 0
    convex = any(int(kind) in _NO_FORMULA for kind in model.geom_type[collides])
    return round((many - few) / FEW * (1 + (SCRATCH_OF_CONVEX if convex else SCRATCH)))


def _held(model: mujoco.MjModel, worlds: int, contacts: int, constraints: int) -> int:
    wp.config.log_level = wp.LOG_ERROR
    with wp.ScopedDevice("cpu"):
        sizes = {"nconmax": contacts, "nccdmax": min(CONVEX, contacts), "njmax": constraints}
        return _nbytes(mjw.make_data(model, worlds, **sizes), set())


def _nbytes(part: object, counted: set[int]) -> int:
    """Bytes of all arrays in `part`, each once."""
    if isinstance(part, wp.array):
        if part.ptr in counted:
            return 0
        counted.add(part.ptr)
        return int(part.capacity)
    if not dataclasses.is_dataclass(part):
        return 0
    return sum(_nbytes(getattr(part, field.name, None), counted) for field in dataclasses.fields(part))
