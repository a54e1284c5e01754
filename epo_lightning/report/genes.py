"""The genes of a population over its generations, as small maps side by side.

Shape legend: G + 1 generations, K agents, Z gene entries.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from epo_lightning.report.statistics import Array
from epo_lightning.report.svg import MASTER_INK, WIDTH, picture, text

_MAPS = 6
_GAP, _TOP, _LEGEND = 8, 20, 26
_ELITE, _CHILD, _OTHER = "#0072b2", "#d55e00", "#888"


class Plane(NamedTuple):
    """Genes seen on the plane that shows most of them.

    Attributes:
        places: (G + 1, K, 2) first and second principal component; NaN where a gene is not known.
        shares: (2,) of the variance of all genes of all generations that each component has.
    """

    places: Array
    shares: Array


def plane(genes: Array) -> Plane | None:
    """Of genes (G + 1, K, Z), all generations together; None where they do not differ."""
    flat = genes.reshape(-1, genes.shape[-1])
    known = np.isfinite(flat).all(1)
    if known.sum() < 2:
        return None
    centered = flat - flat[known].mean(0)
    _, spread, axes = np.linalg.svd(centered[known], full_matrices=False)
    if not spread[0] > 1e-9 * max(1.0, float(np.abs(flat[known]).max())):
        return None
    largest = axes[:2][np.arange(len(axes[:2])), np.abs(axes[:2]).argmax(1)]
    axes = axes[:2] * np.sign(largest)[:, None]  # a component has no sign of its own
    places = np.full((len(flat), 2), np.nan)
    places[known, : len(axes)] = centered[known] @ axes.T
    places[known, len(axes) :] = 0.0
    shares = np.zeros(2)
    shares[: len(axes)] = (spread**2 / (spread**2).sum())[:2]
    return Plane(places.reshape(*genes.shape[:2], 2), shares)


def gene_map(seen: Plane, records: Sequence[dict[str, Any]]) -> str:
    """Up to six generations evenly, the population before the first and the last one among them, on the same scale.

    Args:
        seen: Where everybody is.
        records: The lineage: that of generation g tells who its children and elites are.
    """
    known = np.isfinite(seen.places[..., 0])  # (G + 1, K)
    generations = np.flatnonzero(np.any(known, axis=1))
    chosen = generations[np.unique(np.linspace(0, len(generations) - 1, _MAPS).round().astype(int))]
    everybody = seen.places[known]
    low, high = everybody.min(0), everybody.max(0)
    columns = 2 if len(chosen) in (1, 2, 4) else 3
    size = (WIDTH - (columns - 1) * _GAP) / columns
    scale = (size - 16) / max(float((high - low).max()), 1e-12)
    middle = (low + high) / 2
    rows = -(-len(chosen) // columns)
    parts = []
    for place, generation in enumerate(chosen.tolist()):
        left, top = (place % columns) * (size + _GAP), (place // columns) * (size + _TOP + _GAP) + _TOP
        title = "before the first" if generation == 0 else f"generation {generation}"
        parts.append(text(left + 2, top - 5, title, "start"))
        parts.append(f'<rect x="{left:.1f}" y="{top:.1f}" width="{size:.1f}" height="{size:.1f}"')
        parts.append(' fill="none" stroke="#bbb"/>')
        offset = (seen.places[generation] - middle) * scale * np.array([1, -1]) + size / 2
        record = records[generation - 1] if generation else {}
        parts += _dots(offset + np.array([left, top]), record)
    bottom = rows * (size + _TOP + _GAP)
    return picture(bottom + _LEGEND, "Genes of the population in some generations", [*parts, *_legend(bottom + 12)])


def _dots(places: Array, record: dict[str, Any]) -> list[str]:
    """Followers first, the master on top of them."""
    children, elites = set(record.get("children", ())), set(record.get("elites", ()))
    parts = []
    for agent in [*range(1, len(places)), 0]:
        x, y = places[agent].tolist()
        if np.isfinite(x):
            parts.append(_mark(x, y, _kind(agent, children, elites)))
    return parts


def _kind(agent: int, children: set[int], elites: set[int]) -> str:
    if agent == 0:
        return "master"
    return "elite" if agent in elites else "child" if agent in children else "other"


def _mark(x: float, y: float, kind: str) -> str:
    """Told apart by shape, too: a diamond, a full dot, a ring, a small grey dot."""
    if kind == "master":
        return f'<path d="M{x:.1f} {y - 6:.1f}l6 6l-6 6l-6 -6z" fill="{MASTER_INK}" stroke="#fff"/>'
    if kind == "child":
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.2" fill="#fff" stroke="{_CHILD}" stroke-width="1.6"/>'
    radius, ink = (4, _ELITE) if kind == "elite" else (2.6, _OTHER)
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" fill="{ink}"/>'


def _legend(y: float) -> list[str]:
    named = (("master", "master", 8), ("elite", "elites", 100), ("child", "children", 190), ("other", "others", 296))
    return [part for kind, words, x in named for part in (_mark(x, y, kind), text(x + 11, y + 4, words, "start"))]
