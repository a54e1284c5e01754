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
from epo_lightning.report.efficiency import LEVELS, Efficiency
from epo_lightning.report.overall import Aggregate, Overall
from epo_lightning.report.provenance import Provenance
from epo_lightning.report.reading import Run
from epo_lightning.report.results import Improvement, Result, Table
from epo_lightning.report.standings import QUANTITIES, Standing, Told, standings
from epo_lightning.report.statistics import Array, Interval, Mean, Profile, mean
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


def write_runs(file: IO[str], tables: Sequence[Table]) -> None:
    """A row for each run, of what became of it; empty where that is not known."""
    rows = [
        {"task": table.task, "method": result.group.label, **_run(result, place)}
        for table in tables
        for result in table.results
        for place in range(len(result.group.runs))
    ]
    flat = [{**{name: value for name, value in row.items() if name != "code"}, **_code(row["code"])} for row in rows]
    writer = csv.DictWriter(file, list(flat[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(flat)


def _code(sessions: list[dict[str, Any]]) -> dict[str, str]:
    """Of several sessions one behind another."""
    return {
        name: " ".join("" if one[name] is None else str(one[name]) for one in sessions)
        for name in ("version", "commit", "dirty", "sources")
    }


def write_json(
    file: IO[str], tables: Sequence[Table], overall: Overall, skipped: Sequence[str], code: Provenance
) -> None:
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
        "code": {"differs": code.differs, "lines": code.lines},
    }
    json.dump(content, file, indent=1, allow_nan=False)
    file.write("\n")


def _result(result: Result) -> dict[str, Any]:
    return {
        "method": result.group.label,
        "runs": [_run(result, place) for place in range(len(result.group.runs))],
        "return": _mean(result.returns),
        "evaluated": _mean(result.evaluated) if result.evaluated else None,
        "successes": _mean(result.successes) if result.successes else None,
        "interquartile_mean": _middle(result.middle, result.middle_interval),
        "drawn_interquartile_mean": result.drawn and _middle(result.drawn.middle, result.drawn.interval),
        "performance_profile": _profile(result.profile),
        "agents": [_standing(one) for one in standings(result.group)],
        "is_best": result.is_best,
        "ties_with_best": result.ties,
        "efficiency": _efficiency(result.efficiency),
    }


def _middle(value: float, interval: Interval) -> dict[str, Any]:
    return {"value": _plain(value), "interval": _interval(interval)}


def _run(result: Result, place: int) -> dict[str, Any]:
    run, soon = result.group.runs[place], result.efficiency
    reached: dict[str, float | None] = {}
    for level in LEVELS:
        found = next((one for one in soon.reached if one.level == level), None)
        reached[f"env_steps_to_{level:g}_successes"] = None if found is None else _whole(float(found.env_steps[place]))
        reached[f"seconds_to_{level:g}_successes"] = None if found is None else _seconds(found.seconds[place])
    return {
        "folder": str(run.path),
        "seed": run.seed,
        "env_steps": int(run.env_steps[-1]),
        "seconds": _seconds(run.seconds[-1]),
        "return": _plain(float(result.scores[place])),
        "successes": _plain(float(result.achieved[place])),
        "drawn_return": result.drawn and _plain(float(result.drawn.returns[place])),
        "mean_return": _plain(float(soon.returns[place])),
        "mean_successes": None if soon.successes is None else _plain(float(soon.successes[place])),
        **reached,
        "code": [
            {"version": code.version, "commit": code.commit, "dirty": code.dirty, "sources": code.sources}
            for code in run.code
        ],
    }


def _efficiency(soon: Efficiency) -> dict[str, Any]:
    return {
        "env_steps": [_whole(soon.start), _whole(soon.end)] if soon.end > soon.start else None,
        "mean_return": _mean(mean(soon.returns)),
        "mean_successes": None if soon.successes is None else _mean(mean(soon.successes)),
        "reached": [
            {
                "successes": one.level,
                "median_env_steps": _whole(one.median_env_steps),
                "median_seconds": _seconds(one.median_seconds),
                "runs": len(one.env_steps),
                "never": one.never,
            }
            for one in soon.reached
        ],
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
    return None if not math.isfinite(interval.low) else [_plain(interval.low), _plain(interval.high)]


def _plain(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _whole(value: float) -> int | None:
    """Env steps; the mean of two runs in the middle is rounded."""
    return round(value) if math.isfinite(value) else None


def _seconds(value: float) -> float | None:
    return round(float(value), 3) if math.isfinite(value) else None
