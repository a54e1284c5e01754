"""What the ranks of a training tell each other; alone, a rank tells itself."""

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


def several_ranks() -> bool:
    """Whether there are others."""
    return dist.is_available() and dist.is_initialized()
