"""What a run's `metrics.csv` says of the metric that is searched for, while it grows."""

import csv
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from epo_lightning.documents.nearest import hint
from epo_lightning.sweep.runs import ITERATION, StudyRun
from epo_lightning.sweep.space import Space

LOOKS = 20
"""How often in a run somebody may decide that it is behind."""
_COVERAGE = "charts/episodic_coverage"
_OF_EPISODES = "charts/episodic_"


@dataclass(frozen=True)
class Curve:
    """A run so far.

    Attributes:
        looks: By number of the look, from 1, what the run would be worth if it ended there; without those that are NaN.
        reached: The last look that it has passed.
        is_whole: It has ended.
        value: What it is worth; NaN where it never had a value, or has not ended.
        has_column: Its table has the metric.
    """

    looks: Mapping[int, float]
    reached: int
    is_whole: bool
    value: float = math.nan
    has_column: bool = True


def read_curve(run: StudyRun, space: Space, before: Curve | None) -> Curve:
    """The curve of a run; `before` itself where nothing has changed that counts.

    Args:
        run: The run; its number of iterations is known.
        space: Which metric, and how it becomes one number.
        before: What was read the last time.
    """
    assert run.iterations is not None
    is_whole = run.is_done()
    reached = LOOKS * run.done_iterations() // run.iterations
    if before is not None and (before.reached, before.is_whole) == (reached, is_whole):
        return before
    found = read_metric(run.run.metrics, space.metric)
    if not found and reached == 0:
        return Curve({}, reached, is_whole)
    looks = {}
    for look in range(1, min(reached, LOOKS) + 1):
        value = score(found or {}, -(-run.iterations * look // LOOKS), space.value)
        if not math.isnan(value):
            looks[look] = value
    last = score(found or {}, max(found or {0: 0.0}), space.value) if is_whole else math.nan
    return Curve(looks, reached, is_whole, last, found is not None)


def score(values: Mapping[int, float], iteration: int, kind: str) -> float:
    """What a run is worth that ends after `iteration`.

    Args:
        values: By iteration.
        iteration: From 1.
        kind: `last`: the last value until then; `tail`: the mean of those of the last tenth.

    Returns:
        NaN where there is none.
    """
    known = {at: value for at, value in values.items() if at <= iteration and not math.isnan(value)}
    if kind == "last":
        return known[max(known)] if known else math.nan
    tail = [value for at, value in known.items() if at > iteration - -(-iteration // 10)]
    return sum(tail) / len(tail) if tail else math.nan


def read_metric(file: Path, metric: str) -> dict[int, float] | None:
    """The metric by iteration, NaN where it has no value; None where the table has no such column.

    What is told of episodes counts from when every environment of the master has finished one: before, quick endings
    would count more.
    """
    try:
        with file.open(newline="", encoding="utf-8") as table:
            rows = csv.reader(line for line in table if line.endswith("\n"))
            header = next(rows, [])
            if metric not in header or ITERATION not in header:
                return None if header else {}
            at, value = header.index(ITERATION), header.index(metric)
            covered = header.index(_COVERAGE) if metric.startswith(_OF_EPISODES) and _COVERAGE in header else None
            return {
                int(float(row[at])): _number(row[value]) if covered is None or _number(row[covered]) >= 1 else math.nan
                for row in rows
                if len(row) == len(header)
            }
    except (OSError, ValueError, csv.Error):
        return {}


def no_value(file: Path, metric: str) -> str:
    """Why a run has none of a metric."""
    try:
        with file.open(newline="", encoding="utf-8") as table:
            header = next(csv.reader(table), [])
    except (OSError, ValueError, csv.Error):
        header = []
    if metric in header:
        return f"search.metric: {metric} has no value in {file}"
    return f"search.metric: {metric} is no column of {file}{hint(metric, header)}"


def _number(cell: str) -> float:
    try:
        return float(cell) if cell else math.nan
    except ValueError:
        return math.nan
