"""What stands on the table: boxes as data, and where they may not be."""

from collections.abc import Sequence
from dataclasses import dataclass

from epo_lightning.limits import Mistake, require_range

MAX_OBSTACLES = 8
KEY = "data.env.init_args.obstacles"
TOUCH = 1e-6
"""Boxes that share less than this, in m, only touch each other."""

Box = tuple[tuple[float, float], tuple[float, float], tuple[float, float]]
"""Ranges of x, y and z, m."""


@dataclass(frozen=True)
class Block:
    """An upright box.

    Args:
        size: Full edges along x, y and z, m.
        pos: Centre, m; the table's top is at z = 0.53, its middle at x = y = 0.
        mass: Mass in kg of a block that can be pushed and stands there at the beginning of an episode only; null: the
            block never moves.
    """

    size: tuple[float, float, float]
    pos: tuple[float, float, float]
    mass: float | None = None

    @property
    def box(self) -> Box:
        """What it fills."""
        x, y, z = ((centre - edge / 2, centre + edge / 2) for centre, edge in zip(self.pos, self.size, strict=True))
        return x, y, z


def check_obstacles(blocks: Sequence[Block], starts: Sequence[Box], reach: float) -> None:
    """Refuse blocks that cannot stand where they are; `scene` checks table and robots.

    Args:
        blocks: The obstacles.
        starts: Where the object's centre begins.
        reach: How far the object reaches from its centre, m.

    Raises:
        Mistake: When there are too many, or one has no size or mass, lies below the ground, where the object starts,
            or in another one.
    """
    if len(blocks) > MAX_OBSTACLES:
        raise Mistake(f"{KEY}: the scene has room for {MAX_OBSTACLES} blocks; got {len(blocks)}")
    for number, block in enumerate(blocks):
        key = f"{KEY}[{number}]"
        for edge in block.size:
            require_range(f"{key}.size", edge, 0, 10, open_low=True)
        for centre in block.pos:
            require_range(f"{key}.pos", centre, -10, 10)
        if block.mass is not None:
            require_range(f"{key}.mass", block.mass, 0, 1000, open_low=True)
        if (lowest := block.box[2][0]) < -TOUCH:
            raise Mistake(f"{key} must not reach below the ground, z = 0; its lowest point is at z = {lowest:.3g}")
        for start in starts:
            if overlap(block.box, grown := _grown(start, reach)):
                x, y, z = (f"{low:.3g} to {high:.3g}" for low, high in grown)
                raise Mistake(f"{key} must leave room for the object, which may start in x {x}, y {y}, z {z}")
        for other in range(number):
            if overlap(block.box, blocks[other].box):
                raise Mistake(f"{key} overlaps {KEY}[{other}]: move or shrink one of them")


def overlap(a: Box, b: Box) -> bool:
    """Whether two boxes have more than their surface in common."""
    return all(min(p[1], q[1]) - max(p[0], q[0]) > TOUCH for p, q in zip(a, b, strict=True))


def _grown(box: Box, by: float) -> Box:
    x, y, z = ((low - by, high + by) for low, high in box)
    return x, y, z
