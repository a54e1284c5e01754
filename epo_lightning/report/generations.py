"""A population over its generations as SVG: a heat map of fitness, a family tree."""

from collections.abc import Sequence

import numpy as np

from epo_lightning.report.statistics import Array
from epo_lightning.report.svg import LEFT, RIGHT, TOP, WIDTH, few, heat, picture, text


def heat_map(values: Array, columns: Sequence[str], marked: Sequence[Sequence[int]], *, has_master: bool = True) -> str:
    """Fitness (agents, generations), dark to bright; a dot marks the elites of a generation."""
    agents, generations = values.shape
    width, height = (WIDTH - LEFT - RIGHT) / generations, max(7.0, 200 / agents)
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    parts = []
    for g in range(generations):
        for k in range(agents):
            share = (values[k, g] - low) / (high - low) if high > low else 0.5
            x, y = LEFT + g * width, TOP + k * height
            parts.append(f'<rect x="{x:.1f}" y="{y:.1f}" width="{width + 0.3:.1f}" height="{height:.1f}"')
            parts.append(f' fill="{heat(share)}"/>')
            if k in marked[g]:
                ink = "#000" if share > 0.5 else "#fff"
                radius = min(2.5, width / 3)
                parts.append(f'<circle cx="{x + width / 2:.1f}" cy="{y + height / 2:.1f}" r="{radius:.1f}"')
                parts.append(f' fill="{ink}"/>')
    bottom = TOP + agents * height
    parts += _agents(agents, height, has_master)
    parts += [text(LEFT + (g + 0.5) * width, bottom + 16, columns[g], "middle") for g in few(generations, 10)]
    parts.append(text(LEFT + generations * width / 2, bottom + 33, "generation", "middle"))
    title = f"Fitness by agent and generation, from {low:.4g} (dark) to {high:.4g} (bright)"
    return picture(bottom + 40, title, parts)


def family_tree(
    agents: int, columns: Sequence[str], links: Sequence[tuple[int, int, int, str]], *, has_master: bool = True
) -> str:
    """Who comes from whom: a row an agent, a column a generation.

    Args:
        agents: Rows.
        columns: Names of the columns.
        links: (column, row, row in the next column, kind): of kind `stays`, `child` or `line` (drawn last, thick).
        has_master: Whether agent 0 is the master.
    """
    width, height = (WIDTH - LEFT - RIGHT) / max(1, len(columns) - 1), max(9.0, 200 / agents)
    looks = {"stays": ("#ccc", 1.0), "child": ("#7fb3d5", 0.7), "line": ("#d55e00", 2.2)}
    parts = []
    for kind, (color, thickness) in looks.items():
        path = "".join(
            f"M{LEFT + g * width:.1f} {TOP + (a + 0.5) * height:.1f}"
            f"L{LEFT + (g + 1) * width:.1f} {TOP + (b + 0.5) * height:.1f}"
            for g, a, b, name in links
            if name == kind
        )
        parts.append(f'<path d="{path}" stroke="{color}" stroke-width="{thickness}" fill="none"/>' if path else "")
    bottom = TOP + agents * height
    parts += _agents(agents, height, has_master)
    parts += [text(LEFT + g * width, bottom + 16, columns[g], "middle") for g in few(len(columns), 10)]
    parts.append(text(LEFT + (WIDTH - LEFT - RIGHT) / 2, bottom + 33, "generation", "middle"))
    return picture(bottom + 40, "Parents and children over generations", parts)


def _agents(agents: int, height: float, has_master: bool) -> list[str]:
    names = {0: "master"} if has_master else {}
    return [text(LEFT - 6, TOP + (k + 0.5) * height + 4, names.get(k, str(k)), "end") for k in few(agents, 12)]
