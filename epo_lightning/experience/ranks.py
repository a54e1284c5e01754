"""What the ranks of a training tell each other; alone, a rank tells itself."""

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor


def sum_over_ranks(x: Tensor) -> None:
    """Add up `x` over the ranks, in place: a collective call."""
    if several_ranks():
        dist.all_reduce(x)


def of_all_ranks(x: Tensor) -> Tensor:
    """(R, ...) `x` (...) of each of R ranks, in their order: a collective call."""
    if not several_ranks():
        return x[None]
    parts = [torch.empty_like(x) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, x.contiguous())
    return torch.stack(parts)


def average_over_ranks(values: Sequence[Tensor]) -> None:
    """Replace each by its mean over the ranks, in place: one collective call for all of them."""
    if not several_ranks():
        return
    flat = torch.cat([value.flatten() for value in values])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    for value, mean in zip(values, flat.split([value.numel() for value in values]), strict=True):
        value.copy_(mean.view_as(value))


def several_ranks() -> bool:
    """Whether there are others."""
    return dist.is_available() and dist.is_initialized()
