"""The cuboids to be handled: two families of boxes and one of sticks, all made of one base cube.

A shape is three scale factors of a 5 cm cube of 400 kg/m3, so its mass is 50 g times their product. All three axis
orders of a shape occur.

Agents own contiguous blocks of environments whose size no environment knows, and they must be compared on alike
objects. So the S shapes stand in a ring in which neighbours are alike, and environment e has the one at place o + e m
modulo S: with m near S times the golden ratio's fraction any block of environments is spread evenly over the ring, and
with m coprime to S any S consecutive environments have every shape once. The seed draws o.
"""

from collections.abc import Callable, Sequence
from itertools import product
from math import gcd, prod, sqrt

import numpy as np
import torch
from torch import Tensor

from epo_lightning.limits import Mistake

EDGE = 0.05
"""Edge of the base cube, m."""
MAX_EDGE = 0.5
"""Of a user's own shape, m."""
DENSITY = 400.0
"""kg/m3."""
GOLDEN = (sqrt(5) - 1) / 2

Scales = tuple[float, float, float]


def _family(factors: Sequence[float], low: float, high: float) -> list[Scales]:
    """All shapes with factors from `factors` whose product lies in [low, high], as a ring."""
    return _ring([(x, y, z) for x, y, z in product(factors, repeat=3) if low <= x * y * z <= high])


def _ring(shapes: Sequence[Scales]) -> list[Scales]:
    """`shapes` from light to heavy and back, longer ones later among equals: neighbours are alike, also at the ends."""
    ordered = sorted(shapes, key=lambda shape: (prod(shape), max(shape), *shape))
    return ordered[::2] + ordered[1::2][::-1]


def _thin_plate(shape: Scales) -> bool:
    thin, middle, _ = sorted(shape)
    return 3 * thin <= middle


def _elongated(shape: Scales) -> bool:
    thin, middle, long = sorted(shape)
    return long > 3 * thin and long > 3 * middle


def small_cuboids() -> list[Scales]:
    """654 boxes with edges of 2.5 to 15 cm and 50 to 125 g, the base cube among them."""
    return _family((0.5, 0.66, 0.75, 0.9, 1, 1.1, 1.25, 1.5, 1.75, 2, 2.5, 3), 1, 2.5)


def big_cuboids() -> list[Scales]:
    """248 boxes with edges of 5 to 17.5 cm and 125 to 750 g, no thin plates."""
    return [s for s in _family((1, 1.25, 1.5, 2, 2.5, 3, 3.5), 2.5, 15) if not _thin_plate(s)]


def sticks() -> list[Scales]:
    """45 sticks of 20 to 30 cm and 125 to 300 g."""
    return [s for s in _family((0.5, 0.75, 1, 2, 3, 4, 5, 6), 2.5, 6) if _elongated(s) and not _thin_plate(s)]


OBJECT_SETS: dict[str, Callable[[], list[Scales]]] = {
    "all": lambda: small_cuboids() + big_cuboids() + sticks(),
    "small": small_cuboids,
    "big": big_cuboids,
    "sticks": sticks,
    "cube": lambda: [(1.0, 1.0, 1.0)],
}
"""Shapes by set name: a ring, or one ring of each kind after the other."""


def object_shapes(objects: str | Sequence[Scales]) -> list[Scales]:
    """The shapes of a set or one's own, in an order in which neighbours are alike.

    Args:
        objects: A key of `OBJECT_SETS`, or shapes.

    Raises:
        Mistake: When there is no such set, no shape, or one with an edge that is not above 0 and at most 50 cm.
    """
    key, names = "data.env.init_args.objects", ", ".join(OBJECT_SETS)
    if isinstance(objects, str):
        if objects not in OBJECT_SETS:
            raise Mistake(f"{key} must be one of {names}, or a list of scale factors; got {objects!r}")
        return OBJECT_SETS[objects]()
    if not objects:
        raise Mistake(f"{key} must have at least one shape, or be one of {names}; got an empty list")
    for number, shape in enumerate(objects):
        if not all(0 < factor <= MAX_EDGE / EDGE for factor in shape):
            raise Mistake(
                f"{key}[{number}] must be three factors of a 5 cm edge, above 0 and at most {MAX_EDGE / EDGE:g}"
                f" ({MAX_EDGE} m); got {list(shape)}"
            )
    return _ring(objects)


def object_scales(objects: str | Sequence[Scales], num_envs: int, seed: int) -> Tensor:
    """The scale factors of every environment's object.

    Args:
        objects: See `object_shapes`.
        num_envs: N.
        seed: Draws the first environment's shape, and so all others'.

    Returns:
        (N, 3) float64.
    """
    shapes = torch.tensor(object_shapes(objects), dtype=torch.float64)
    first = int(np.random.default_rng(seed).integers(len(shapes)))
    return shapes[(first + torch.arange(num_envs) * _stride(len(shapes))) % len(shapes)]


def _stride(shapes: int) -> int:
    """The number coprime to `shapes` that is nearest to GOLDEN times `shapes`."""
    coprime = (number for number in range(1, shapes + 1) if gcd(number, shapes) == 1)
    return min(coprime, key=lambda number: abs(number - GOLDEN * shapes))


def half_sizes(scales: Tensor) -> Tensor:
    """(N, 3) half edges in metres of objects with `scales`, (N, 3)."""
    return scales * (EDGE / 2)


def reach(shapes: Sequence[Scales]) -> float:
    """How far the largest of `shapes` reaches from its centre, m: half its diagonal."""
    return float(half_sizes(torch.tensor(shapes, dtype=torch.float64)).norm(dim=1).max())


def masses(scales: Tensor) -> Tensor:
    """(N,) masses in kilograms of objects with `scales`, (N, 3)."""
    return DENSITY * EDGE**3 * scales.prod(dim=1)
