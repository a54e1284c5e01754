"""Gymnasium's observations as rows of float32.

Shape legend: N environments, O observation entries.

The same numbers in the same order as `gymnasium.spaces.flatten`, which takes one observation at a time; this takes a
batch of them. What is privileged comes behind the rest.
"""

from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import numpy as np

from epo_lightning.learner.observations import Group
from epo_lightning.limits import Mistake

if TYPE_CHECKING:
    from gymnasium import Space, spaces


_ID = "data.env.init_args.id"
_CHANNELS = (1, 3, 4)
"""Of a picture whose channels come last: grey, or colours, or these with opacity."""
_PAUSE = "pause"
"""Group of the entry of a copy that pauses."""


class ObservationRows:
    """Writes observations of one space into rows.

    Args:
        space: Observation space of a single environment: Box, MultiBinary, Discrete and MultiDiscrete, or Dict and
            Tuple of these.
        privileged: Names of groups that only a critic sees: keys of the Dict, or their paths, such as `robot.mass`.
            They come last.
        pauses: There is an entry more behind what actors see, for the caller: whether the copy pauses.

    Attributes:
        size: O.
        pause: Where that entry is; None without.
        groups: Every part of a Dict or Tuple by its path, an image that is alone as `image`; () for one vector.

    Raises:
        Mistake: When the space holds something else, or nothing, or no such group.
    """

    def __init__(self, space: "Space[Any]", privileged: Sequence[str] = (), pauses: bool = False) -> None:
        self.space = space
        parts = list(_parts(space, ()))
        hidden = _privileged(parts, privileged)
        self._parts = [part for part in parts if part not in hidden] + hidden
        widths = [part.size for part in self._parts]
        if not sum(widths):
            raise Mistake(f"{_ID}: the observation must have an entry, got {space}")
        seen = sum(widths) - sum(part.size for part in hidden)
        self.size, self.pause = sum(widths) + pauses, seen if pauses else None
        starts = [start + (pauses and start >= seen) for start in accumulate([0, *widths[:-1]])]
        self._columns = [slice(start, start + width) for start, width in zip(starts, widths, strict=True)]
        named = [part.group(part in hidden) for part in self._parts if (part.path or part.image) and part.size]
        if pauses and named:
            named.insert(len(named) - sum(group.privileged for group in named), Group(_PAUSE, 1))
        self.groups = tuple(named)

    def write(self, batch: object, out: np.ndarray) -> None:
        """Put a batch, as a `gymnasium.vector.VectorEnv` returns it, into `out` (N, O)."""
        for part, place in zip(self._parts, self._columns, strict=True):
            part.fill(_batch_of(part.shape, batch, part.path, len(out)), out[:, place])

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
        out = np.zeros((1, self.size), dtype=np.float32)
        for part, place in zip(self._parts, self._columns, strict=True):
            part.fill(np.asarray(_at(observation, part.path)).reshape(1, -1), out[:, place])
        row: np.ndarray = out[0]
        return row


class _Part:
    """Entries that stand side by side in the space.

    Args:
        shape: In the space.
        size: Columns.
        path: Keys on the way to it.

    Attributes:
        image: Height, width and channels; None for what is no image.
    """

    image: tuple[int, int, int] | None = None

    def __init__(self, shape: tuple[int, ...], size: int, path: tuple[Any, ...]) -> None:
        self.shape, self.size, self.path = shape, size, path
        self.name = ".".join(map(str, path)) or "image"

    def group(self, privileged: bool) -> Group:
        """As the learner knows it."""
        return Group(self.name, self.image or self.size, privileged)

    def fill(self, values: np.ndarray, out: np.ndarray) -> None:
        """Write the flat `values` (N, entries) into its columns `out` (N, size)."""
        out[:] = values


class _Image(_Part):
    """Pixels: height, width and channels; of stacked frames the frames, which come first, are the channels."""

    def __init__(self, shape: tuple[int, ...], path: tuple[Any, ...]) -> None:
        super().__init__(shape, int(np.prod(shape)), path)
        whole = shape if len(shape) == 3 else (*shape, 1)
        self._channels_first = whole[2] not in _CHANNELS and whole[0] < whole[2]
        height, width, channels = (*whole[1:], whole[0]) if self._channels_first else whole
        self.image = height, width, channels

    def fill(self, values: np.ndarray, out: np.ndarray) -> None:
        if self._channels_first:
            values = np.moveaxis(values.reshape(-1, *self.shape), 1, -1).reshape(len(values), -1)
        out[:] = values


class _Choices(_Part):
    """Discrete and MultiDiscrete: each choice as a block of zeros with a single 1."""

    def __init__(self, counts: np.ndarray, starts: np.ndarray, path: tuple[Any, ...]) -> None:
        super().__init__(counts.shape, int(counts.sum()), path)
        counts, self._starts = counts.ravel(), starts.ravel()
        blocks = np.cumsum(counts) - counts
        self._offsets, self._ends = blocks - self._starts, self._starts + counts

    def fill(self, values: np.ndarray, out: np.ndarray) -> None:
        if not ((values >= self._starts) & (values < self._ends)).all():
            raise Mistake(f"{_ID}: an observation {_name(self.path)}is no choice of observation_space")
        out[:] = 0.0
        np.put_along_axis(out, (values + self._offsets).astype(np.int64), 1.0, axis=1)


def _privileged(parts: Sequence[_Part], names: Sequence[str]) -> list[_Part]:
    """The parts that `names` mean, in their own order.

    Raises:
        Mistake: When a name means none.
    """
    for name in names:
        if not any(_is_of(part, name) for part in parts):
            known = ", ".join(part.name for part in parts if part.path)
            has = f"has the groups {known}" if known else "is no Dict: it has no groups"
            raise Mistake(f"data.env.init_args.privileged: the observation {has}; got {name!r}")
    hidden = [part for part in parts if any(_is_of(part, name) for name in names)]
    if hidden and len(hidden) == len(parts):
        raise Mistake(f"data.env.init_args.privileged: actors would see nothing: leave them one of {', '.join(names)}")
    return hidden


def _is_of(part: _Part, name: str) -> bool:
    """Whether the part is called so, or stands below a key that is."""
    return bool(part.path) and (part.name == name or part.name.startswith(f"{name}."))


def _parts(space: "Space[Any]", path: tuple[Any, ...]) -> Iterator[_Part]:
    """The writers of a space, in the order of `gymnasium.spaces.flatten`."""
    from gymnasium import spaces

    if isinstance(space, spaces.Box) and _is_image(space):
        yield _Image(space.shape, path)
    elif isinstance(space, spaces.Box | spaces.MultiBinary):
        yield _Part(space.shape, int(np.prod(space.shape)), path)
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


def _is_image(space: "spaces.Box") -> bool:
    """Whether its entries are pixels: bytes from 0 to 255, two or three of its axes."""
    bytes_ = space.dtype == np.uint8 and len(space.shape) in (2, 3)
    return bytes_ and bool((space.low == 0).all()) and bool((space.high == 255).all())


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
