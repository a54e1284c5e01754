"""Rotations as unit quaternions (x, y, z, w)."""

import torch
from torch import Tensor


def rotate(quat: Tensor, vectors: Tensor) -> Tensor:
    """Vectors from the rotated frame to the fixed one.

    Args:
        quat: (..., 4) unit quaternions.
        vectors: (..., 3), broadcast against the quaternions.

    Returns:
        (..., 3) rotated vectors.
    """
    axis, w = quat[..., :3], quat[..., 3:]
    # v' = v + w t + u x t  with  t = 2 u x v
    axis, vectors = torch.broadcast_tensors(axis, vectors)
    t: Tensor = torch.linalg.cross(axis, vectors).mul_(2)
    turned: Tensor = torch.linalg.cross(axis, t).add_(vectors).addcmul_(w, t)
    return turned


def random_rotations(count: int, generator: torch.Generator) -> Tensor:
    """(count, 4) quaternions, uniform over all rotations."""
    quat = torch.randn(count, 4, generator=generator, device=generator.device)
    length: Tensor = quat.norm(dim=1, keepdim=True)
    return quat / length
