"""SVG text: what every picture of a page is made of."""

import math
from collections.abc import Sequence
from html import escape

import numpy as np

WIDTH = 480
LEFT, RIGHT, TOP, BOTTOM = 58, 24, 12, 44
"""Of every picture, in its own units; a page scales it."""
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#8a6d00", "#56b4e9", "#333333", "#e69f00")
DASHES = ("", "7 3", "2 3", "9 3 2 3", "12 3", "1 2", "5 2 1 2")
"""A method's colour and dashes: with both, methods can be told apart in print without colours."""

MASTER_INK = "#000"


def text(x: float, y: float, words: str, anchor: str) -> str:
    """Words at a place; `anchor` is start, middle or end."""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'


def picture(height: float, title: str, parts: Sequence[str]) -> str:
    """A whole picture; the title is for who cannot see it."""
    return (
        f'<svg class="picture" viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{escape(title)}">'
        f"{''.join(parts)}</svg>"
    )


def few(count: int, most: int) -> range:
    """At most that many of `count` places, evenly, from the first."""
    return range(0, count, -(-count // most))


def heat(share: float) -> str:
    """Dark blue over green to yellow; grey where nothing is known."""
    if math.isnan(share):
        return "#ddd"
    stops = np.array([[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [253, 231, 37]])
    rgb = [np.interp(share * 4, range(5), stops[:, c]) for c in range(3)]
    return "#" + "".join(f"{round(float(value)):02x}" for value in rgb)


def agent_ink(number: int, agents: int, has_master: bool) -> str:
    """Of agent `number`, no master, of a population: from dark to a yellow that can still be seen on white."""
    first = int(has_master)
    return heat(0.9 * (number - first) / max(1, agents - first - 1))
