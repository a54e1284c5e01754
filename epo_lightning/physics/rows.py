"""Some of the environments: by their numbers, or by a mask, which no host has to wait for.

Shape legend: N environments, M chosen environments.

Chosen are (M,) int64, or (N,) bool. With a mask whatever is computed has all N rows, of which those that are not chosen
are not written: on a GPU that costs less than to ask it how many there are.
"""

import torch
from torch import Tensor


def is_mask(chosen: Tensor) -> bool:
    """Whether `chosen` is (N,) bool."""
    return chosen.dtype is torch.bool


def take(field: Tensor, chosen: Tensor) -> Tensor:
    """A copy of the chosen rows of `field` (N, ...): (M, ...), or all of them where `chosen` is a mask."""
    return field.clone() if is_mask(chosen) else field[chosen]


def put(field: Tensor, chosen: Tensor, values: Tensor | float) -> None:
    """Write `values`, one number or a row for each that `take` gives, into the chosen rows of `field` (N, ...)."""
    if not is_mask(chosen):
        field[chosen] = values
        return
    mask = chosen.view(-1, *[1] * (field.dim() - 1))
    if isinstance(values, Tensor):
        field.copy_(values.to(field.dtype).where(mask, field))
    else:
        field.masked_fill_(mask, values)
