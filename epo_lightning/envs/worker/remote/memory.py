"""Memory that both processes map: where each array lies in it, and how values get there."""

from __future__ import annotations

import mmap
import sys
from typing import Any

import numpy as np

from .mistakes import Mistake

MAX_LOG_NAMES = 256


def layout(num_envs: int, obs_dim: int, act_dim: int, discrete: bool) -> list[list[Any]]:
    """Name, dtype, shape and offset of every array in the shared memory; the last entry ends it."""
    obs, flat = [num_envs, obs_dim], [num_envs]
    arrays = [
        ("actions", "int64" if discrete else "float32", flat if discrete else [num_envs, act_dim]),
        ("obs", "float32", obs),
        ("final_obs", "float32", obs),
        ("reward", "float32", flat),
        ("successes", "float32", flat),
        ("terminated", "bool", flat),
        ("truncated", "bool", flat),
        ("log", "float32", [MAX_LOG_NAMES]),
        ("has_final_obs", "bool", [1]),
        ("end", "bool", [0]),
    ]
    placed, offset = [], 0
    for name, dtype, shape in arrays:
        placed.append([name, dtype, shape, offset])
        offset += -(-int(np.prod(shape)) * np.dtype(dtype).itemsize // 64) * 64
    return placed


def map_arrays(file: int, arrays: list[list[Any]]) -> tuple[mmap.mmap, dict[str, np.ndarray]]:
    """The shared memory behind the file descriptor `file`, and its arrays by name."""
    memory = mmap.mmap(file, arrays[-1][-1])
    return memory, {
        name: np.frombuffer(memory, dtype, int(np.prod(shape)), offset).reshape(shape)
        for name, dtype, shape, offset in arrays
    }


def as_array(value: Any) -> np.ndarray:
    """`value` as a numpy array on the CPU."""
    if hasattr(value, "detach"):
        value = value.detach().cpu().numpy()
    return np.asarray(value)


def put(target: np.ndarray, value: Any, name: str) -> None:
    """Copy `value` into shared memory; a torch tensor directly from its device.

    Raises:
        Mistake: When the shape is wrong.
    """
    if not hasattr(value, "shape"):
        value = as_array(value)
    check_shape(target, value, name)
    if type(value).__module__.split(".")[0] == "torch":
        sys.modules["torch"].from_numpy(target).copy_(value.detach())
    else:
        np.copyto(target, as_array(value), casting="unsafe")


def check_shape(target: np.ndarray, value: Any, name: str) -> None:
    """Refuse what does not fit into shared memory.

    Raises:
        Mistake: When the shape is wrong.
    """
    if tuple(value.shape) != target.shape:
        raise Mistake(f"data.env: {name} must have shape {target.shape}, but the simulator's has {tuple(value.shape)}")


def pin(memory: mmap.mmap) -> None:
    """Lock the memory for fast copies from the GPU, where the simulator uses torch on one."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        error = int(torch.cuda.cudart().cudaHostRegister(np.frombuffer(memory, np.uint8).ctypes.data, len(memory), 1))
        if error:
            raise RuntimeError(f"cudaHostRegister of {len(memory)} bytes failed with error {error}")
