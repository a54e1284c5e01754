"""What is seen of a task of Isaac Lab or mjlab: groups of observations, side by side."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from .mistakes import OPTIONS, Mistake, choice

_WHITE = 255.0
_CHANNELS = (1, 3, 4)


class Part(NamedTuple):
    """A vector or an image of an observation.

    Attributes:
        group: The group that has it.
        term: Which of the group's terms it is, where they are not concatenated; else None.
        shape: As the task has it.
        privileged: Only a critic of its own sees it.
    """

    group: str
    term: str | None
    shape: tuple[int, ...]
    privileged: bool

    @property
    def label(self) -> str:
        """What it is called here."""
        return self.group if self.term is None else f"{self.group}.{self.term}"

    @property
    def size(self) -> int:
        """Its entries."""
        return int(np.prod(self.shape))

    @property
    def is_image(self) -> bool:
        """Whether it is no vector."""
        return len(self.shape) == 3

    @property
    def channels_first(self) -> bool:
        """Whether the axis of the channels is the first one of an image."""
        return self.is_image and self.shape[0] in _CHANNELS and self.shape[-1] not in _CHANNELS

    @property
    def image(self) -> list[int]:
        """Height, width and channels of an image."""
        shape = [int(length) for length in self.shape]
        return [*shape[1:], shape[0]] if self.channels_first else shape


class Observed:
    """Groups of observations as rows of numbers.

    A group is a vector, an image, or several terms that are not concatenated, each of which is one of these. An image
    has three axes, its channels last or, where only the first axis can be theirs, first. The networks see an image's
    entries divided by 255: bytes go as they are, and all other entries times 255, so that they reach the networks as
    the task gives them.

    Args:
        torch: The package.
        spaces: Of the task, by group.
        task: Its name.
        seen: Groups that actors see.
        hidden: Groups that only a critic of its own sees.

    Raises:
        Mistake: When the task has no such group, or none of vectors and images, or one is asked for twice.

    Attributes:
        parts: What an observation consists of, in order.
        obs_dim: O.
        groups: (name, length or [height, width, channels], privileged) of each part; empty for one vector alone.
    """

    def __init__(self, torch: Any, spaces: dict[str, Any], task: str, seen: list[str], hidden: list[str]) -> None:
        self.torch = torch
        usable = [name for name, space in spaces.items() if _terms(space)]
        for key, names in (("observations", seen), ("privileged", hidden)):
            for name in names:
                if name not in usable:
                    has = "has the groups of vectors and images"
                    what = choice(has, name, usable) if usable else "has no group of vectors and images"
                    raise Mistake(f"{OPTIONS}.{key}: {task} {what}")
                if [*seen, *hidden].count(name) > 1:
                    raise Mistake(
                        f"{OPTIONS}.privileged: {name} is among the groups twice: what actors see is no secret"
                    )
        self.parts = [
            Part(name, term, shape, name in hidden)
            for name in (*seen, *hidden)
            for term, shape in _terms(spaces[name]).items()
        ]
        self.obs_dim = sum(part.size for part in self.parts)
        named = len(self.parts) > 1 or self.parts[0].is_image
        self.groups = [
            (part.label, part.image if part.is_image else part.size, part.privileged) for part in self.parts if named
        ]

    def rows(self, obs: dict[str, Any]) -> Any:
        """(N, O) what is asked for, side by side."""
        rows = [self._row(obs[part.group], part) for part in self.parts]
        return self.torch.cat(rows, dim=1) if rows[1:] else rows[0]

    def _row(self, value: Any, part: Part) -> Any:
        value = value if part.term is None else value[part.term]
        if not part.is_image:
            return value
        image = value.permute(0, 2, 3, 1) if part.channels_first else value
        pixels = image.reshape(len(image), -1).float()
        return pixels if value.dtype == self.torch.uint8 else pixels * _WHITE


def _terms(space: Any) -> dict[str | None, tuple[int, ...]]:
    """The shapes of a group's terms, of the whole group under None; nothing where one is no vector or image."""
    inner = getattr(space, "spaces", None)
    terms = {name: tuple(getattr(each, "shape", None) or ()) for name, each in (inner or {None: space}).items()}
    return terms if all(len(shape) in (1, 3) for shape in terms.values()) else {}
