"""Stands in for the old torch of Isaac Gym's interpreter: numpy arrays behind the few functions that tasks use."""

from types import SimpleNamespace

import numpy as np

__version__ = "0.stand-in"
cuda = SimpleNamespace(is_initialized=lambda: False)
seeds = []


class Tensor:
    """An array that numpy does not recognise as one."""

    __array__ = None

    def __init__(self, array, device="cpu") -> None:
        self.array, self.device = array, device

    shape = property(lambda self: self.array.shape)

    def __len__(self) -> int:
        return len(self.array)

    def detach(self):
        return self

    def cpu(self):
        return Tensor(self.array, "cpu")

    def to(self, device):
        return Tensor(self.array, device)

    def numpy(self):
        assert self.device == "cpu", "stand-in: a tensor on a GPU has no numpy()"
        return self.array

    def copy_(self, other) -> None:
        np.copyto(self.array, other.array, casting="unsafe")

    def __setitem__(self, rows, value) -> None:
        self.array[rows.array if isinstance(rows, Tensor) else rows] = (
            value.array if isinstance(value, Tensor) else value
        )


def from_numpy(array):
    return Tensor(array)


def arange(end, device):
    return Tensor(np.arange(end), device)


def manual_seed(seed) -> None:
    seeds.append(seed)
