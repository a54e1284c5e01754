"""Gymnasium's observations as rows of float32.

Shape legend: N environments, O observation entries.

The same numbers in the same order as `gymnasium.spaces.flatten`, which takes one observation at a time; this takes a
batch of them.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from gymnasium import Space


class ObservationRows:
    """Writes observations of one space into rows.

    Args:
        space: Observation space of a single environment: Box, MultiBinary, Discrete and MultiDiscrete, or Dict and
            Tuple of these.

    Attributes:
        size: O.

    Raises:
        ValueError: When the space holds something else, or nothing.
    """

    def __init__(self, space: "Space[Any]") -> None:
        self.space = space
        self._parts = list(_parts(space, ()))
        self.size = sum(part.size for part in self._parts)
        if not self.size:
            raise ValueError(f"data.env.init_args.id: the observation must have an entry, got {space}")

    def write(self, batch: Any, out: np.ndarray) -> None:
        """Put a batch, as a `gymnasium.vector.VectorEnv` returns it, into the first O columns of `out` (N, ...)."""
        start = 0
        for part in self._parts:
            part.write(batch, out[:, start : start + part.size])
            start += part.size

    def row(self, observation: Any) -> np.ndarray:
        """A single environment's observation, (O,)."""
        from gymnasium import spaces

        return np.asarray(spaces.flatten(self.space, observation))


class _Numbers:
    """Box and MultiBinary: the numbers themselves."""

    def __init__(self, shape: tuple[int, ...], path: tuple[Any, ...]) -> None:
        self.size, self._path = int(np.prod(shape)), path

    def write(self, batch: Any, out: np.ndarray) -> None:
        values = np.asarray(_at(batch, self._path))
        out[:] = values.reshape(len(out), -1)


class _Choices:
    """Discrete and MultiDiscrete: each choice as a block of zeros with a single 1."""

    def __init__(self, counts: np.ndarray, starts: np.ndarray, path: tuple[Any, ...]) -> None:
        self.size, self._path = int(counts.sum()), path
        blocks = np.cumsum(counts) - counts
        self._offsets = blocks - starts

    def write(self, batch: Any, out: np.ndarray) -> None:
        values = np.asarray(_at(batch, self._path)).reshape(len(out), -1)
        out[:] = 0.0
        np.put_along_axis(out, (values + self._offsets).astype(np.int64), 1.0, axis=1)


def _parts(space: "Space[Any]", path: tuple[Any, ...]) -> Iterator[_Numbers | _Choices]:
    """The writers of a space, in the order of `gymnasium.spaces.flatten`."""
    from gymnasium import spaces

    if isinstance(space, spaces.Box | spaces.MultiBinary):
        yield _Numbers(space.shape, path)
    elif isinstance(space, spaces.Discrete):
        yield _Choices(np.array([space.n]), np.array([space.start]), path)
    elif isinstance(space, spaces.MultiDiscrete):
        yield _Choices(space.nvec.ravel().astype(np.int64), space.start.ravel().astype(np.int64), path)
    elif isinstance(space, spaces.Dict):
        for key, inner in space.spaces.items():
            yield from _parts(inner, (*path, key))
    elif isinstance(space, spaces.Tuple):
        for index, inner in enumerate(space.spaces):
            yield from _parts(inner, (*path, index))
    else:
        raise ValueError(
            "data.env.init_args.id: observations must be Box, Discrete, MultiDiscrete, MultiBinary, or Dict and Tuple"
            f" of these; got {space}"
        )


def _at(batch: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        batch = batch[key]
    return batch
