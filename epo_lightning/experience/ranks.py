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


def sum_together(values: Sequence[Tensor]) -> list[Tensor]:
    """The sum of each over the ranks: one collective call for all of them; float64 of whole numbers, too."""
    if not several_ranks():
        return [*values]
    flat = torch.cat([value.double().flatten() for value in values])
    dist.all_reduce(flat)
    return _as(values, flat)


def average_over_ranks(values: Sequence[Tensor]) -> list[Tensor]:
    """The mean of each over the ranks: one collective call for all of them, of one flat tensor; they are its parts."""
    if not several_ranks():
        return [*values]
    flat = torch.cat([value.flatten() for value in values])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    return _as(values, flat)


def _as(values: Sequence[Tensor], flat: Tensor) -> list[Tensor]:
    """The parts of `flat`, of the shapes of `values`."""
    parts = flat.split([value.numel() for value in values])
    return [part.view_as(value) for part, value in zip(parts, values, strict=True)]


def several_ranks() -> bool:
    """Whether there are others."""
    return dist.is_available() and dist.is_initialized()
