"""Gymnasium's observations as rows of float32.

Shape legend: N environments, O observation entries.

The same numbers in the same order as `gymnasium.spaces.flatten`, which takes one observation at a time; this takes a
batch of them.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from epo_lightning.envs.signals import Signal
from epo_lightning.limits import Mistake

if TYPE_CHECKING:
    from gymnasium import Space


_ID = "data.env.init_args.id"


class ObservationRows:
    """Writes observations of one space into rows.

    Args:
        space: Observation space of a single environment: Box, MultiBinary, Discrete and MultiDiscrete, or Dict and
            Tuple of these.

    Attributes:
        size: O.

    Raises:
        Mistake: When the space holds something else, or nothing.
    """

    def __init__(self, space: "Space[Any]") -> None:
        self.space = space
        self._parts = list(_parts(space, ()))
        self.size = sum(part.size for part in self._parts)
        if not self.size:
            raise Mistake(f"{_ID}: the observation must have an entry, got {space}")

    def write(self, batch: object, out: np.ndarray) -> None:
        """Put a batch, as a `gymnasium.vector.VectorEnv` returns it, into the first O columns of `out` (N, ...)."""
        start = 0
        for part in self._parts:
            part.write(batch, out[:, start : start + part.size])
            start += part.size

    def signals(self) -> tuple[Signal, ...]:
        """The parts by their keys, in the order of a row; Gymnasium tells no units."""
        names = ["_".join(map(str, part.path)) or "observation" for part in self._parts]
        if len(set(names)) < len(names):  # such as ("a", "b") and ("a_b",)
            names = [f"{name}_{place}" for place, name in enumerate(names)]
        return tuple(Signal(name, part.size) for name, part in zip(names, self._parts, strict=True) if part.size)

    def misfit(self, observation: object) -> str:
        """How a single environment's observation differs from the space, in words; empty where it fits."""
        for part in self._parts:
            try:
                value = np.asarray(_at(observation, part.path))
            except Exception:  # no such key, or nothing that has keys
                return f"an observation {_name(part.path)}that is not there: got {type(observation).__name__}"
            if value.shape != part.shape or value.dtype.kind not in "biuf":
                wanted = f"must be numbers of shape {part.shape}, as observation_space says"
                return f"an observation {_name(part.path)}that {wanted}; got {value.dtype} of shape {value.shape}"
        return ""

    def shares_memory(self, batch: object, other: object) -> bool:
        """Whether two batches, of arrays, overlap in memory."""
        pairs = ((_at(batch, part.path), _at(other, part.path)) for part in self._parts)
        return any(isinstance(a, np.ndarray) and isinstance(b, np.ndarray) and np.shares_memory(a, b) for a, b in pairs)

    def row(self, observation: object) -> np.ndarray:
        """A single environment's observation, (O,)."""
        from gymnasium import spaces

        return np.asarray(spaces.flatten(self.space, observation))


class _Numbers:
    """Box and MultiBinary: the numbers themselves."""

    def __init__(self, shape: tuple[int, ...], path: tuple[Any, ...]) -> None:
        self.size, self.shape, self.path = int(np.prod(shape)), shape, path

    def write(self, batch: object, out: np.ndarray) -> None:
        out[:] = _batch_of(self.shape, batch, self.path, len(out))


class _Choices:
    """Discrete and MultiDiscrete: each choice as a block of zeros with a single 1."""

    def __init__(self, counts: np.ndarray, starts: np.ndarray, path: tuple[Any, ...]) -> None:
        self.size, self.shape, self.path = int(counts.sum()), counts.shape, path
        counts, self._starts = counts.ravel(), starts.ravel()
        blocks = np.cumsum(counts) - counts
        self._offsets, self._ends = blocks - self._starts, self._starts + counts

    def write(self, batch: object, out: np.ndarray) -> None:
        values = _batch_of(self.shape, batch, self.path, len(out))
        if not ((values >= self._starts) & (values < self._ends)).all():
            raise Mistake(f"{_ID}: an observation {_name(self.path)}is no choice of observation_space")
        out[:] = 0.0
        np.put_along_axis(out, (values + self._offsets).astype(np.int64), 1.0, axis=1)


def _parts(space: "Space[Any]", path: tuple[Any, ...]) -> Iterator[_Numbers | _Choices]:
    """The writers of a space, in the order of `gymnasium.spaces.flatten`."""
    from gymnasium import spaces

    if isinstance(space, spaces.Box | spaces.MultiBinary):
        yield _Numbers(space.shape, path)
    elif isinstance(space, spaces.Discrete):
        yield _Choices(np.array(space.n), np.array(space.start), path)
    elif isinstance(space, spaces.MultiDiscrete):
        yield _Choices(space.nvec.astype(np.int64), space.start.astype(np.int64), path)
    elif isinstance(space, spaces.Dict):
        for key, inner in space.spaces.items():
            yield from _parts(inner, (*path, key))
    elif isinstance(space, spaces.Tuple):
        for index, inner in enumerate(space.spaces):
            yield from _parts(inner, (*path, index))
    else:
        raise Mistake(
            f"{_ID}: observations must be Box, Discrete, MultiDiscrete, MultiBinary, or Dict and Tuple"
            f" of these; got {space}"
        )


def _batch_of(shape: tuple[int, ...], batch: object, path: tuple[Any, ...], num_envs: int) -> np.ndarray:
    """(N, entries) numbers of one part of a batch; a wrong shape would be spread without a word."""
    values = np.asarray(_at(batch, path))
    if values.shape != (num_envs, *shape):
        raise Mistake(
            f"{_ID}: an observation {_name(path)}must have shape {(num_envs, *shape)}, as observation_space says; got"
            f" {values.shape}"
        )
    return values.reshape(num_envs, -1)


def _name(path: tuple[Any, ...]) -> str:
    return "".join(f"[{key!r}]" for key in path) + " " if path else ""


def _at(batch: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        batch = batch[key]
    return batch
