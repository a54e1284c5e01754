"""The numbers of a report as files: a long table of all curves, and the results as JSON."""

import csv
import json
import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from epo_lightning import __version__
from epo_lightning.report.curves import line_of
from epo_lightning.report.overall import Aggregate, Overall
from epo_lightning.report.reading import Run
from epo_lightning.report.results import Improvement, Result, Table
from epo_lightning.report.standings import QUANTITIES, Standing, Told, standings
from epo_lightning.report.statistics import Array, Interval, Mean, Profile
from epo_lightning.run.folder import part_of, writing

_LAYOUT = 1
"""Of the JSON file; another number when a name in it changes its meaning."""
_COLUMNS = ("task", "method", "run", "seed", "metric", "env_steps", "seconds", "value")


def replace(path: Path, write: Callable[[IO[str]], object]) -> None:
    """Write a file as a whole, so that nobody finds half of it."""
    temporary = part_of(path)
    with writing(path):
        with temporary.open("w", newline="", encoding="utf-8") as file:
            write(file)
        os.replace(temporary, path)


def write_csv(file: IO[str], tables: Sequence[Table]) -> None:
    """A row for each iteration and metric of each run, from where its returns are scores; evaluated agents last."""
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for table in tables:
        for result in table.results:
            for run in result.group.runs:
                writer.writerows(_rows(run, table.task, result.group.label))
            writer.writerows(_of_standings(standings(result.group), table.task, result.group.label))


def _rows(run: Run, task: str, method: str) -> list[tuple[object, ...]]:
    names = (task, method, str(run.path), run.seed)
    rows: list[tuple[object, ...]] = []
    for metric in run.metrics:
        line = line_of(run, metric)
        if line is not None:
            seconds = run.seconds[np.searchsorted(run.env_steps, line.x)]
            spent = ["" if math.isnan(value) else round(value, 3) for value in seconds.tolist()]
            values = zip(line.x.astype(int).tolist(), spent, line.y.tolist(), strict=True)
            rows += [(*names, metric, steps, second, value) for steps, second, value in values]
    return rows


def _of_standings(found: Sequence[Standing], task: str, method: str) -> list[tuple[object, ...]]:
    """Rows of the master (or champion) and the best other agent of each run; nobody knows the seconds."""
    return [
        (task, method, str(one.run.path), one.run.seed, f"evaluated/{one.kind}/{whom}_{quantity}", one.env_steps, "",
         told.quantities[quantity].value)
        for one in found
        for whom, told in (("champion", one.champion), ("best_other", one.best))
        if told is not None
        for quantity in told.quantities
    ]  # fmt: skip


def write_json(file: IO[str], tables: Sequence[Table], overall: Overall, skipped: Sequence[str]) -> None:
    """The results; what is not known is null."""
    content = {
        "layout": _LAYOUT,
        "version": __version__,
        "tasks": [
            {
                "task": table.task,
                "source": table.source,
                "notes": table.notes,
                "methods": [_result(result) for result in table.results],
                "improvements": [_improvement(one) for one in table.improvements],
            }
            for table in tables
        ],
        "overall": [_aggregate(one) for one in overall.aggregates],
        "improvements": [_improvement(one) for one in overall.improvements],
        "left_out": list(skipped),
    }
    json.dump(content, file, indent=1, allow_nan=False)
    file.write("\n")


def _result(result: Result) -> dict[str, Any]:
    return {
        "method": result.group.label,
        "runs": [
            {"folder": str(run.path), "seed": run.seed, "env_steps": int(run.env_steps[-1]), "return": _plain(score)}
            for run, score in zip(result.group.runs, result.scores.tolist(), strict=True)
        ],
        "return": _mean(result.returns),
        "evaluated": _mean(result.evaluated) if result.evaluated else None,
        "successes": _mean(result.successes) if result.successes else None,
        "interquartile_mean": {"value": _plain(result.middle), "interval": _interval(result.middle_interval)},
        "performance_profile": _profile(result.profile),
        "agents": [_standing(one) for one in standings(result.group)],
        "is_best": result.is_best,
        "ties_with_best": result.ties,
    }


def _standing(one: Standing) -> dict[str, Any]:
    return {
        "folder": str(one.run.path),
        "seed": one.run.seed,
        "source": one.source.file,
        "actions": one.kind,
        "env_steps": one.env_steps,
        "champion": one.champion and _told(one.champion),
        "best_other": one.best and {**_told(one.best), "of": one.others},
    }


def _told(agent: Told) -> dict[str, Any]:
    known = {
        name: {"mean": _plain(value.value), "standard_error": _plain(value.standard_error)}
        for name, value in agent.quantities.items()
    }
    return {"agent": agent.agent, **dict.fromkeys(QUANTITIES), **known}


def _aggregate(one: Aggregate) -> dict[str, Any]:
    middle = {"value": _plain(one.middle), "interval": _interval(one.interval)}
    return {
        "method": one.method,
        "normalized_interquartile_mean": middle,
        "normalized_performance_profile": _profile(one.profile),
    }


def _profile(profile: Profile) -> dict[str, Any]:
    def rounded(values: Array | None) -> list[float] | None:
        return None if values is None else [float(f"{value:.6g}") for value in values.tolist()]

    return {name: rounded(values) for name, values in profile._asdict().items()}


def _mean(value: Mean) -> dict[str, Any]:
    return {
        "mean": _plain(value.value),
        "standard_error": _plain(value.standard_error),
        "interval": _interval(value.interval),
        "runs": value.runs,
    }


def _improvement(one: Improvement) -> dict[str, Any]:
    return {
        "method": one.method,
        "over": one.other,
        "probability": _plain(one.probability),
        "interval": _interval(one.interval),
    }


def _interval(interval: Interval) -> list[float | None] | None:
    return None if math.isinf(interval.low) else [_plain(interval.low), _plain(interval.high)]


def _plain(value: float) -> float | None:
    return value if math.isfinite(value) else None
