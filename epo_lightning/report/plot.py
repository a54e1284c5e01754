"""The curves of a report as a PNG, where matplotlib is installed."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from epo_lightning.report.curves import Axis, curve_of, env_steps, time_axis
from epo_lightning.report.reading import RETURN
from epo_lightning.report.results import Table
from epo_lightning.report.svg import COLORS, DASHES
from epo_lightning.run.folder import part_of, writing


def draw(path: Path, tables: Sequence[Table], metrics: Sequence[str] = ()) -> bool:
    """Returns over env steps and over time, and other metrics over env steps, a row for each task.

    Returns:
        Whether matplotlib could draw it.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return False
    figure = Figure(figsize=(5.5 * (2 + len(metrics)), 3.4 * len(tables)), layout="constrained")
    panels = figure.subplots(len(tables), 2 + len(metrics), squeeze=False)
    experience: tuple[str, Axis] = ("env steps", env_steps)
    for row, table in zip(panels, tables, strict=True):
        runs = [run for result in table.results for run in result.group.runs]
        shown = [(RETURN, "return while exploring", axis) for axis in (experience, time_axis(runs))]
        shown += [(metric, metric, experience) for metric in metrics]
        for panel, (metric, name, (xlabel, axis)) in zip(row, shown, strict=True):
            _panel(panel, table, metric, axis)
            panel.set(title=table.task, xlabel=xlabel, ylabel=name)
    temporary = part_of(path)
    with writing(path):
        figure.savefig(temporary, dpi=130, format="png")
        os.replace(temporary, path)
    return True


def _panel(panel: Any, table: Table, metric: str, axis: Axis) -> None:  # noqa: ANN401  (matplotlib's)
    for number, result in enumerate(table.results):
        curve, color = curve_of(result.group.runs, metric, axis), COLORS[number % len(COLORS)]
        if curve is None:
            continue
        for line in curve.runs:
            panel.plot(line.x, line.y, color=color, linewidth=0.6, alpha=0.45)
        if curve.mean is not None:
            (mean,) = panel.plot(curve.mean.x, curve.mean.y, color=color, linewidth=2, label=result.group.label)
            if dash := DASHES[number % len(DASHES)]:
                mean.set_dashes([float(length) / 2 for length in dash.split()])
        if curve.mean is not None and curve.low is not None and curve.high is not None:
            panel.fill_between(curve.mean.x, curve.low, curve.high, color=color, alpha=0.15, linewidth=0)
    panel.grid(alpha=0.3)
    if panel.get_legend_handles_labels()[0]:
        panel.legend(fontsize=8)
