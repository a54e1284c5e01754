"""How good each method is in the end: one number a run, and what a few runs of it say."""

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from epo_lightning.report.efficiency import Efficiency, efficiencies
from epo_lightning.report.evaluation import EVALUATIONS, Evaluation
from epo_lightning.report.grouping import Group
from epo_lightning.report.reading import RETURN, SUCCESSES, Run
from epo_lightning.report.standings import told_by
from epo_lightning.report.statistics import (
    Array,
    Interval,
    Mean,
    Profile,
    bootstrap,
    interquartile_mean,
    mean,
    performance_profile,
    probability_of_improvement,
)

LOGGED = "metrics.csv"
POINTS = 101
"""Of a performance profile."""
_WINDOW = 0.1
"""Share of a run's env steps over which what was logged last is averaged."""


class Drawn(NamedTuple):
    """A method by drawn actions, from the file that its scores are of.

    Attributes:
        returns: (R,) of each run.
        middle: Their interquartile mean.
        interval: By the bootstrap.
    """

    returns: Array
    middle: float
    interval: Interval


@dataclass(frozen=True)
class Result:
    """A method on a task.

    Attributes:
        group: Its runs.
        scores: (R,) return of each run.
        achieved: (R,) successes of each run; NaN where it does not tell.
        returns: Their mean.
        evaluated: What `test` or `validate` says, where the scores are logged ones and all of its runs have that.
        successes: Theirs, or None where the task counts none.
        drawn: By drawn actions; None where not every run was evaluated by them (`--noise`).
        middle: Interquartile mean of the returns.
        middle_interval: By the bootstrap.
        profile: Which share of its runs returns more than what.
        is_best: No method of the task has a higher mean.
        ties: Its interval and that of the best overlap.
        efficiency: How soon it was good.
    """

    group: Group
    scores: Array
    achieved: Array
    returns: Mean
    evaluated: Mean | None
    successes: Mean | None
    drawn: Drawn | None
    middle: float
    middle_interval: Interval
    profile: Profile
    is_best: bool
    ties: bool
    efficiency: Efficiency


@dataclass(frozen=True)
class Improvement:
    """How likely a run of a method beats one of another, on one task or averaged over several."""

    method: str
    other: str
    probability: float
    interval: Interval


@dataclass(frozen=True)
class Table:
    """All methods of a task, by the same measure.

    Attributes:
        task: What it is called.
        source: The file that every run's number is from.
        notes: What a reader has to know of these numbers.
        results: By name of the method.
        improvements: Of every ordered pair of methods.
    """

    task: str
    source: str
    notes: list[str]
    results: list[Result]
    improvements: list[Improvement]


def tables(groups: Sequence[Group]) -> list[Table]:
    """A table for each task."""
    tasks: dict[str, list[Group]] = defaultdict(list)
    for one in groups:
        tasks[one.task].append(one)
    return [_table(task, members) for task, members in tasks.items()]


def _table(task: str, groups: list[Group]) -> Table:
    source = _source([run for one in groups for run in one.runs])
    scores = [np.array([_score(run, source, "return") for run in one.runs]) for one in groups]
    successes = [np.array([_score(run, source, "successes") for run in one.runs]) for one in groups]
    counted = any((np.nan_to_num(values) != 0).any() for values in successes)
    low, high = (float(pick(np.concatenate(scores))) for pick in (np.min, np.max))
    margin = 0.02 * (high - low) or 0.5 * abs(high) or 1.0
    grid = np.linspace(low - margin, high + margin, POINTS)
    means = [mean(values) for values in scores]
    best = max(means, key=lambda one: one.value)
    results = [
        Result(
            one,
            values,
            achieved,
            average,
            _evaluated(one.runs) if source == LOGGED else None,
            mean(achieved) if counted and not np.isnan(achieved).any() else None,
            _drawn(one, source),
            float(interquartile_mean(values)),
            bootstrap(interquartile_mean, [values]),
            performance_profile([values], grid),
            average is best,
            average is not best and average.interval.overlaps(best.interval),
            soon,
        )
        for one, values, average, achieved, soon in zip(
            groups, scores, means, successes, efficiencies(groups), strict=True
        )
    ]
    pairs = [
        improvement(one.group.label, [one.scores], other.group.label, [other.scores])
        for one in results
        for other in results
        if one is not other
    ]
    notes = _notes(groups, source)
    without = [
        str(run.path)
        for one, achieved in zip(groups, successes, strict=True)
        for run, value in zip(one.runs, achieved, strict=True)
        if counted and np.isnan(value)
    ]
    if without:
        told = "successes" if source != LOGGED else SUCCESSES
        notes.append(f"Without {told}, so that their methods have none in the table: {', '.join(without)}.")
    return Table(task, source, notes, results, pairs)


def improvement(method: str, ours: list[Array], other: str, theirs: list[Array]) -> Improvement:
    """Of a method over another, from their scores (R,) in each of some tasks."""
    likely = np.mean([probability_of_improvement(x, y) for x, y in zip(ours, theirs, strict=True)])
    return Improvement(method, other, float(likely), bootstrap(probability_of_improvement, ours, theirs))


def _source(runs: Sequence[Run]) -> str:
    for name in EVALUATIONS:  # when every run of a task has them
        found = [run.evaluations[name] for run in runs if name in run.evaluations]
        if len(found) == len(runs) and len({_conditions(one) for one in found}) == 1:
            return name
    return LOGGED


def _evaluated(runs: Sequence[Run]) -> Mean | None:
    source = _source(runs)
    return None if source == LOGGED else mean([_score(run, source, "return") for run in runs])


def _drawn(one: Group, source: str) -> Drawn | None:
    told = [[each.champion for each in told_by(source, run) if each.kind == "drawn"] for run in one.runs]
    values = [champion.quantities["return"].value for kinds in told for champion in kinds if champion is not None]
    if len(values) < len(one.runs):
        return None
    returns = np.array(values)
    return Drawn(returns, float(interquartile_mean(returns)), bootstrap(interquartile_mean, [returns]))


def _conditions(evaluation: Evaluation) -> str:
    """What two evaluations must share to be compared: difficulty, and the environment but for its threads."""
    env: Any = evaluation.content.get("env")
    arguments = dict(env.get("init_args") or {}) if isinstance(env, dict) else {}
    for name in ("threads", "vectorization", "python"):
        arguments.pop(name, None)
    kept = {name: value for name, value in arguments.items() if value is not None}
    return json.dumps([evaluation.content.get("difficulty"), kept], sort_keys=True)


def _score(run: Run, source: str, quantity: str) -> float:
    if source != LOGGED:
        return run.evaluations[source].mean(quantity)
    values = run.metrics.get({"return": RETURN, "successes": SUCCESSES}[quantity])
    if values is None or np.isnan(values).all():
        return float("nan")
    known = ~np.isnan(values)
    steps, values = run.env_steps[known], values[known]
    return float(values[steps > (1 - _WINDOW) * steps[-1]].mean())


def _notes(groups: Sequence[Group], source: str) -> list[str]:
    runs = [run for one in groups for run in one.runs]
    if source == LOGGED:
        notes = [
            f"Returns while exploring, from {LOGGED}: of each run the mean over its last tenth of env steps."
            f" {_why_logged(runs)}"
        ]
    else:
        command = "test" if source.endswith("test.json") else "validate"
        episodes = sorted({str(run.evaluations[source].content.get("episodes", "?")) for run in runs})
        notes = [
            f"Returns without exploration noise, from every run's checkpoints/{source} (the command {command};"
            f" {' or '.join(episodes)} episodes a run{_difficulty(runs[0].evaluations[source])})."
        ]
        stale = [str(run.path) for run in runs if run.evaluations[source].is_stale]
        if stale:
            notes.append(f"Evaluated before the checkpoint was written again: {', '.join(stale)}.")
    ends = sorted({int(run.env_steps[-1]) for run in runs})
    if ends[-1] > 1.1 * ends[0]:
        notes.append(f"The runs are of different lengths: {ends[0]:,} to {ends[-1]:,} env steps.")
    for one in groups:
        seeds = [str(run.seed) for run in one.runs]
        if twice := sorted({seed for seed in seeds if seeds.count(seed) > 1}):
            notes.append(f"{one.label} has several runs of seed {', '.join(twice)}: all of them count.")
    uncovered = [str(run.path) for run in runs if not run.covers]
    if uncovered:
        notes.append(f"Without charts/episodic_coverage, so that early returns may be of short episodes: {uncovered}.")
    return notes


def _difficulty(evaluation: Evaluation) -> str:
    """At which it was played, where the task has one; all of a table are alike."""
    told: Any = evaluation.content.get("difficulty")
    values = told.items() if isinstance(told, dict) else ()
    return "".join(f", {name} {value:.4g}" for name, value in values if isinstance(value, int | float))


def _why_logged(runs: Sequence[Run]) -> str:
    if not any(run.evaluations for run in runs):
        return "No run was evaluated (epo-lightning test)."
    lacking = [run for run in runs if not run.evaluations]
    if lacking:
        return f"Not every run was evaluated: {len(lacking)} of {len(runs)} lack it, such as {lacking[0].path}."
    return "No evaluation is there of every run under the same conditions."
