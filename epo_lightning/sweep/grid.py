"""Lists of values, crossed: what a point of a grid is, and what it is called."""

import itertools
import re
from collections.abc import Mapping, Sequence
from typing import Any

from epo_lightning.limits import Mistake

Point = dict[str, Any]
"""A value for each key of a grid."""


def cross(where: str, grid: object) -> list[Point]:
    """Every combination of the values; the last key varies fastest. Without a grid: the one empty point.

    Raises:
        Mistake: When there are no keys, or a key has no list of values, or one of them twice.
    """
    if grid is None:
        return [{}]
    if not isinstance(grid, Mapping) or not grid:
        raise Mistake(f"{where} must be keys with lists of values, such as model.num_agents: [8, 16]; got {grid!r}")
    for key, values in grid.items():
        if not isinstance(key, str):
            raise Mistake(f"{where}: {key!r} is not a key of a configuration, such as model.num_agents")
        if not isinstance(values, list) or not values:
            raise Mistake(f"{where}.{key} must be a list of values to try, such as [1, 2]; got {values!r}")
        if twice := [value for place, value in enumerate(values) if repr(value) in map(repr, values[:place])]:
            raise Mistake(f"{where}.{key} has {twice[0]!r} twice; leave one out")
    return [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]


def point_names(points: Sequence[Point]) -> list[str]:
    """A name for each point, which can be a folder's: `num_agents=8,estimator=gae`; no two are the same."""
    names: list[str] = []
    for point in points:
        short = [key.rpartition(".")[2] for key in point]
        keys = short if len({*short}) == len(short) else list(point)
        name = ",".join(f"{key}={_told(value)}" for key, value in zip(keys, point.values(), strict=True))
        name = re.sub(r"[^\w.+=,-]+", "-", name).strip("-.")
        same = sum(re.fullmatch(rf"{re.escape(name)}(#\d+)?", other) is not None for other in names)
        names.append(f"{name}#{same + 1}" if same else name)
    return names


def _told(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return "-".join(map(_told, value)) or "empty"
    if isinstance(value, Mapping):
        return str(value.get("class_path", "settings")).rpartition(".")[2]
    return str(value)
