"""What several tasks say together."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from epo_lightning.report.results import POINTS, Improvement, Table, improvement
from epo_lightning.report.statistics import (
    Interval,
    Profile,
    normalized,
    performance_profile,
    pooled_interquartile_mean,
)


@dataclass(frozen=True)
class Aggregate:
    """A method over several tasks; each run's return is put between the worst (0) and the best (1) run of that task.

    Attributes:
        method: Its name.
        middle: Interquartile mean of the runs of all tasks.
        interval: By the stratified bootstrap.
        profile: Which share of its runs scores more than what, each task weighing the same.
    """

    method: str
    middle: float
    interval: Interval
    profile: Profile


@dataclass(frozen=True)
class Overall:
    """What several tasks say together.

    Attributes:
        tasks: On which all methods of `aggregates` were run.
        aggregates: Of every method that was run on all tasks of the page; none of a single task.
        improvements: Of every ordered pair of methods that meet on several tasks: the mean over these.
    """

    tasks: list[str]
    aggregates: list[Aggregate]
    improvements: list[Improvement]


def overall(made: Sequence[Table]) -> Overall:
    """What the tasks of a page say together, as far as methods meet on several."""
    scores = {(table.task, result.group.label): result.scores for table in made for result in table.results}
    labels = list(dict.fromkeys(label for _, label in scores))
    pairs = []
    for method, other in ((a, b) for a in labels for b in labels if a != b):
        shared = [task for task, label in scores if label == method and (task, other) in scores]
        if len(shared) > 1:
            ours, theirs = ([scores[task, label] for task in shared] for label in (method, other))
            pairs.append(improvement(method, ours, other, theirs))
    tasks = [table.task for table in made]
    everywhere = [label for label in labels if all((task, label) in scores for task in tasks)]
    aggregates: list[Aggregate] = []
    if len(tasks) > 1:
        every = [[scores[task, label] for task in tasks] for label in everywhere]
        for label, mine in zip(everywhere, every, strict=True):
            scaled = normalized(mine, every)
            profile = performance_profile(scaled, np.linspace(0, 1, POINTS))
            aggregates.append(Aggregate(label, *pooled_interquartile_mean(scaled), profile))
    return Overall(tasks, aggregates, pairs)
