"""Observations as named groups: which columns are whose, and which of them an actor may see.

Shape legend: N rows, O observation entries, P those that an actor sees.

An observation is one row of numbers. A task may say of which named groups it is made, one after the other; privileged
groups come last, so that what an actor sees are the first columns. Who says nothing has one group that all see.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from epo_lightning.limits import Mistake


@dataclass(frozen=True)
class Group:
    """Columns of an observation that have a name.

    Args:
        name: What the task calls them.
        shape: How many numbers; of an image height, width and channels, whose entries are 0 to 255.
        privileged: Only a critic with a network of its own sees them, never an actor: what is known in training alone.
    """

    name: str
    shape: int | tuple[int, int, int]
    privileged: bool = False

    @property
    def size(self) -> int:
        """Columns."""
        return self.shape if isinstance(self.shape, int) else math.prod(self.shape)

    @property
    def is_image(self) -> bool:
        """Whether it has height, width and channels."""
        return not isinstance(self.shape, int)

    def __str__(self) -> str:
        """Such as `critic 20 (privileged)` and `camera 64 x 64 x 3`."""
        shape = self.shape if isinstance(self.shape, int) else " x ".join(map(str, self.shape))
        return f"{self.name} {shape}{' (privileged)' if self.privileged else ''}"


Groups = tuple[Group, ...]
"""All of an observation, in the order of its columns; none: one vector that all see."""


def described(groups: Iterable[Group]) -> str:
    """In words, for messages."""
    return ", ".join(map(str, groups)) or "one vector without a name"


def seen_by_actors(groups: Groups, obs_dim: int) -> int:
    """P, how many of the columns (the first ones) an actor sees; O where no group is privileged."""
    return obs_dim - sum(group.size for group in groups if group.privileged)


def seen_groups(groups: Groups) -> Groups:
    """Those that an actor sees."""
    return tuple(group for group in groups if not group.privileged)


def columns(groups: Groups) -> Iterator[tuple[Group, slice]]:
    """Every group with its columns."""
    start = 0
    for group in groups:
        yield group, slice(start, start + group.size)
        start += group.size


def pixels(groups: Groups) -> list[slice]:
    """The columns of every image."""
    return [place for group, place in columns(groups) if group.is_image]


def require_groups(groups: object, obs_dim: int) -> None:
    """Refuse groups that do not make an observation of `obs_dim` entries.

    Raises:
        Mistake: Naming the group and what would be right.
    """
    if not isinstance(groups, tuple) or not all(isinstance(group, Group) for group in groups):
        raise Mistake(f"spec.groups must be a tuple of Group, got {groups!r}")
    known: set[str] = set()
    for group in groups:
        if not (isinstance(group.name, str) and group.name.isprintable() and 0 < len(group.name) < 100):
            raise Mistake(f"spec.groups: a name must be a short text, got {group.name!r}")
        lengths = (group.shape,) if isinstance(group.shape, int) else group.shape
        whole = isinstance(lengths, tuple) and all(type(length) is int and length > 0 for length in lengths)
        if not whole or len(lengths) not in (1, 3) or (group.is_image and len(lengths) != 3):
            raise Mistake(
                f"spec.groups: {group.name} must have a positive number of entries, or (height, width, channels); got"
                f" {group.shape!r}"
            )
        if group.name in known:
            raise Mistake(f"spec.groups: there are several groups {group.name}: every one needs a name of its own")
        known.add(group.name)
    if not groups:
        return
    if (total := sum(group.size for group in groups)) != obs_dim:
        raise Mistake(f"spec.groups: {described(groups)} make {total} entries, and spec.obs_dim is {obs_dim}")
    hidden = [group.privileged for group in groups]
    if hidden != sorted(hidden):
        raise Mistake(f"spec.groups: privileged groups come last, behind what actors see; got {described(groups)}")
    if all(hidden):
        raise Mistake(f"spec.groups: actors would see nothing: all is privileged in {described(groups)}")


def join(groups: Groups, parts: Mapping[str, Tensor]) -> Tensor:
    """(N, O) float32 of the parts (N, size) by name; images may be (N, height, width, channels).

    Raises:
        Mistake: When one is missing, too much, or of another size.
    """
    if strange := sorted(map(str, parts.keys() - {group.name for group in groups})):
        raise Mistake(f"observation: there is no group {strange[0]!r}; the groups are {described(groups)}")
    rows = []
    for group in groups:
        if group.name not in parts:
            raise Mistake(f"observation: the group {group.name!r} is missing; the groups are {described(groups)}")
        part = parts[group.name]
        flat = part.flatten(1) if part.ndim > 1 else part[:, None]
        if flat.shape[1] != group.size:
            raise Mistake(f"observation: the group {group} got {tuple(part.shape)}, rows of {flat.shape[1]} entries")
        rows.append(flat.float())
    if len({len(row) for row in rows}) > 1:
        raise Mistake(f"observation: its groups have different numbers of rows: {[len(row) for row in rows]}")
    return torch.cat(rows, dim=1)


def split(groups: Groups, obs: Tensor) -> dict[str, Tensor]:
    """The groups of observations (..., O) by name, as views; images (..., height, width, channels)."""
    return {
        group.name: obs[..., place] if isinstance(group.shape, int) else obs[..., place].unflatten(-1, group.shape)
        for group, place in columns(groups)
    }


def require_own_critic(groups: Groups, separate_critic: bool) -> None:
    """Refuse a critic that shares its network with the actor where a group is for the critic alone.

    Raises:
        Mistake: Naming the groups.
    """
    hidden = [group for group in groups if group.privileged]
    if hidden and not separate_critic:
        raise Mistake(
            f"model.network.separate_critic must be true: the task's observation has {described(hidden)}, which a"
            " critic that shares the actor's network must not see; or let the task leave that out"
        )


def refuse_images(groups: Groups, who: str, remedy: str) -> None:
    """Refuse images where there is no encoder for them.

    Raises:
        Mistake: Naming the first image, and `who` cannot see it.
    """
    for group in groups:
        if group.is_image:
            raise Mistake(f"{who} takes vectors, and the task's observation has the image {group}: {remedy}")
