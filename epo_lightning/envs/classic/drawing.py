"""Pictures of flat tasks, in the task's own coordinates.

Shape legend: W and H pixels of a picture.

Needs Pillow, which the extra `video` brings; it is imported when the first picture is asked for.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from epo_lightning.limits import Mistake

LARGEST = 4096
"""Pixels along an edge, as for the tasks on MuJoCo."""
_FINENESS = 2

Point = Sequence[float]
"""x and y."""
Colour = tuple[int, int, int]

GROUND: Colour = (237, 242, 247)
SOLID: Colour = (70, 84, 104)
"""What stops a body."""
BODY: Colour = (235, 119, 40)
"""What the actions move."""
TRAIL: Colour = (240, 160, 100)
"""Where a body came from."""
EARTH: Colour = (194, 158, 117)
DETAIL: Colour = (92, 97, 107)
GOAL: Colour = (26, 191, 89)
NEAR: Colour = (173, 226, 196)
"""Where a body counts as being at the goal."""


def blend(colour: Colour, other: Colour, share: float) -> Colour:
    """`colour` with a `share` in [0, 1] of `other`."""
    red, green, blue = (round(a + share * (b - a)) for a, b in zip(colour, other, strict=True))
    return red, green, blue


class Surface(Protocol):
    """What flat shapes are drawn on."""

    def box(self, low: Point, high: Point, colour: Colour) -> None:
        """Fill a box with edges along the axes."""

    def disc(self, centre: Point, radius: float, colour: Colour) -> None:
        """Fill a disc."""


class Sketch:
    """A list of the shapes that were drawn, for whoever draws them elsewhere.

    Attributes:
        shapes: In the order of drawing: each its kind, where it is, and its colour.
    """

    def __init__(self) -> None:
        self.shapes: list[dict[str, Any]] = []

    def box(self, low: Point, high: Point, colour: Colour) -> None:
        """See `Surface`."""
        self.shapes.append({"box": [*low, *high], "colour": list(colour)})

    def disc(self, centre: Point, radius: float, colour: Colour) -> None:
        """See `Surface`."""
        self.shapes.append({"disc": [*centre, radius], "colour": list(colour)})


class Canvas:
    """A picture of a part of the plane, x to the right and y upwards, with smooth edges.

    Both axes have the same scale, the largest at which the box from `low` to `high` fits; its middle is the picture's.

    Args:
        low: Corner with the smallest x and y that must be seen.
        high: The opposite corner.
        width: W.
        height: H.
        colour: What the picture is filled with at first.

    Attributes:
        low: Corner with the smallest x and y that is seen.
        high: The opposite corner.

    Raises:
        Mistake: When Pillow is missing, or the size is out of range.
    """

    def __init__(self, low: Point, high: Point, width: int, height: int, colour: Colour = GROUND) -> None:
        if not (1 <= width <= LARGEST and 1 <= height <= LARGEST):
            raise Mistake(f"width and height of a picture must be 1 to {LARGEST} pixels, got {width} x {height}")
        try:
            from PIL import Image, ImageDraw
        except ImportError as error:
            raise Mistake(f"pictures need an extra ({error}): pip install 'epo-lightning[video]'") from error
        # drawn larger and shrunk at the end, which smooths the edges
        size = (width * _FINENESS, height * _FINENESS)
        spans = [b - a for a, b in zip(low, high, strict=True)]
        self._scale = min(pixels / span for pixels, span in zip(size, spans, strict=True))
        middle = [(a + b) / 2 for a, b in zip(low, high, strict=True)]
        reach = [pixels / self._scale / 2 for pixels in size]
        self.low = (middle[0] - reach[0], middle[1] - reach[1])
        self.high = (middle[0] + reach[0], middle[1] + reach[1])
        self._image = Image.new("RGB", size, colour)
        self._pen = ImageDraw.Draw(self._image)

    def polygon(self, points: Sequence[Point], colour: Colour) -> None:
        """Fill the polygon with these corners."""
        self._pen.polygon(self._pixels(points), colour)

    def box(self, low: Point, high: Point, colour: Colour) -> None:
        """Fill a box with edges along the axes."""
        self.polygon([low, (high[0], low[1]), high, (low[0], high[1])], colour)

    def disc(self, centre: Point, radius: float, colour: Colour) -> None:
        """Fill a disc."""
        ((x, y),) = self._pixels([centre])
        reach = max(0.0, radius * self._scale - 0.5)  # Pillow counts the pixels at both ends
        self._pen.ellipse((x - reach, y - reach, x + reach, y + reach), colour)

    def line(self, points: Sequence[Point], thickness: float, colour: Colour) -> None:
        """A line through `points`, with round ends, of at least a pixel."""
        pixels = max(_FINENESS, round(thickness * self._scale))
        self._pen.line(self._pixels(points), colour, pixels, joint="curve")
        for end in (points[0], points[-1]):
            self.disc(end, pixels / self._scale / 2, colour)

    def picture(self) -> np.ndarray:
        """What has been drawn, (H, W, 3) uint8."""
        return np.asarray(self._image.reduce(_FINENESS))

    def _pixels(self, points: Sequence[Point]) -> list[Any]:
        """Points of the plane as Pillow counts: from the centre of the pixel in the top left corner."""
        left, top = self.low[0], self.high[1]
        return [((x - left) * self._scale - 0.5, (top - y) * self._scale - 0.5) for x, y in points]
