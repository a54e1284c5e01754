"""The tables of a task: how good each method is in the end, how soon, and how likely it beats another."""

import math
from collections.abc import Sequence
from html import escape

from epo_lightning.report.efficiency import Reached
from epo_lightning.report.html import UNKNOWN, as_interval, as_number, as_table, plus_minus
from epo_lightning.report.results import Improvement, Result
from epo_lightning.report.statistics import mean

_WIDE = 5
"""Of more methods the columns of a matrix have numbers instead of names."""


def final(results: Sequence[Result]) -> str:
    """How good each method is in the end."""
    successes, evaluated = (any(found) for found in zip(*((r.successes, r.evaluated) for r in results), strict=True))
    drawn = any(result.drawn is not None for result in results)
    header = ["method", "seeds", "return ± s.e.", "95 % interval", "interquartile mean", "95 % interval"]
    header += ["successes ± s.e."] if successes else []
    header += ["evaluated return ± s.e."] if evaluated else []
    header += ["by drawn actions: interquartile mean", "95 % interval"] if drawn else []
    rows = []
    for result in results:
        value = plus_minus(result.returns)
        value = f"<b>{value}</b>" if result.is_best and len(results) > 1 else f"≈ {value}" if result.ties else value
        cells = [escape(result.group.label), str(result.returns.runs), value, as_interval(result.returns.interval)]
        cells += [as_number(result.middle), as_interval(result.middle_interval)]
        if successes:
            cells.append(plus_minus(result.successes) if result.successes else UNKNOWN)
        if evaluated:
            cells.append(plus_minus(result.evaluated) if result.evaluated else UNKNOWN)
        if drawn:
            told = result.drawn
            cells += [UNKNOWN] * 2 if told is None else [as_number(told.middle), as_interval(told.interval)]
        rows.append(cells)
    bold = (
        ""
        if len(results) == 1
        else " Bold: the highest mean. ≈: no different, for their intervals overlap; that of a single seed has no end."
    )
    return f'{as_table(header, rows)}<p class="quiet">Over seeds; the interval of the mean is Student\'s.{bold}</p>'


def efficiency(results: Sequence[Result]) -> str:
    """How soon each method is good; nothing where the runs of the task have no env steps in common."""
    start, end = results[0].efficiency.start, results[0].efficiency.end
    levels = next((result.efficiency.reached for result in results if result.efficiency.reached), ())
    if end <= start and not levels:
        return ""
    counted = any(result.efficiency.successes is not None for result in results)
    header = ["method", "mean return ± s.e.", *(["mean successes ± s.e."] if counted else [])]
    for one in levels:
        header += [f"env steps to {one.level:g} successes", f"seconds to {one.level:g}"]
    rows = []
    for result in results:
        found = result.efficiency
        cells = [escape(result.group.label), plus_minus(mean(found.returns))]
        if found.successes is not None:
            cells.append(plus_minus(mean(found.successes)))
        reached = [cell for one in found.reached for cell in _reached(one)]
        rows.append([*cells, *(reached or [UNKNOWN] * 2 * len(levels))])
    told = f"Means are over {start:,.0f} to {end:,.0f} env steps, which all runs of the task cover: the area under the"
    told += " learning curve, divided by its width."
    if not counted:
        told += " No run of this task had a success, or tells of any."
    if levels:
        told += (
            " Successes are those an episode of the master while it explores; when it first had so many is the median"
            " over all seeds, and without a number where half of them never had."
        )
    return f'<h3>How soon</h3>{as_table(header, rows)}<p class="quiet">{told}</p>'


def _reached(one: Reached) -> tuple[str, str]:
    runs = len(one.env_steps)
    never = f"<br><small>{one.never} of {runs} never</small>" if one.never else ""
    steps, seconds = one.median_env_steps, one.median_seconds
    told = f"{steps:,.0f}" if math.isfinite(steps) else UNKNOWN
    return f"{told}{never}", f"{seconds:,.1f}" if math.isfinite(seconds) else UNKNOWN


def matrix(labels: Sequence[str], pairs: Sequence[Improvement]) -> str:
    """How likely a run of the row's method beats one of the column's."""
    cells = {(one.method, one.other): _probability(one) for one in pairs}
    rows = [[escape(a), *("" if a == b else cells.get((a, b), UNKNOWN) for b in labels)] for a in labels]
    if len(labels) > _WIDE:
        rows = [[f"{place} {name}", *row] for place, (name, *row) in enumerate(rows, 1)]
        return as_table(["", *map(str, range(1, len(labels) + 1))], rows)
    return as_table(["", *map(escape, labels)], rows)


def _probability(one: Improvement) -> str:
    low, high = one.interval
    told = "" if math.isinf(low) else f"<br><small>[{low:.2f}, {high:.2f}]</small>"
    return f"{one.probability:.2f}{told}"
