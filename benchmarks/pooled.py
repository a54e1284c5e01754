"""Runs of several reports as one table: seeds and methods that were run at different times, or on different machines.

    python -m benchmarks.pooled benchmarks/results/ladder_swingup.json benchmarks/results/ladder_swingup_more.json

A run is known by task, method and seed; where reports have the same one, the last named counts.
"""

import argparse
import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from epo_lightning.report.statistics import Interval, bootstrap, interquartile_mean, probability_of_improvement

_SOLVED = 0.9
Runs = dict[str, dict[int, dict[str, Any]]]
"""Of a task: by method and seed."""


def pooled(reports: Sequence[dict[str, Any]]) -> dict[str, Runs]:
    """The runs of `reports`, each a report.json, by task."""
    tasks: dict[str, Runs] = defaultdict(lambda: defaultdict(dict))
    for report in reports:
        for task in report["tasks"]:
            for method in task["methods"]:
                own = tasks[task["task"]][method["method"]]
                own |= {run["seed"]: run for run in method["runs"]}
    return tasks


def read_reports(paths: Sequence[Path]) -> list[dict[str, Any]]:
    """What `report` wrote to `paths`.

    Raises:
        OSError: if a file cannot be read.
        ValueError: if it is no report.
    """
    reports = []
    for path in paths:
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{path}: no JSON ({error})") from None
        if not isinstance(content, dict) or "layout" not in content:
            raise ValueError(f"{path}: no report.json of `report` (it has no layout)")
        reports.append(content)
    return reports


def row(method: str, runs: dict[int, dict[str, Any]]) -> str:
    """In Markdown: solved, return, the same by drawn actions where all runs tell it, and the returns by seed."""
    ordered = [run for _, run in sorted(runs.items())]
    solved = sum((run["successes"] or 0.0) >= _SOLVED for run in ordered)
    by_seed = " ".join(f"{run['return']:.4g}" for run in ordered)
    drawn = [run.get("drawn_return") for run in ordered]
    by_drawn = "" if None in drawn else _middle(np.array(drawn))
    middle = _middle(np.array([run["return"] for run in ordered]))
    return f"| `{method}` | {solved} of {len(ordered)} | {middle} | {by_drawn} | {by_seed} |"


def ahead(first: dict[int, dict[str, Any]], second: dict[int, dict[str, Any]]) -> str:
    """Probability that a run of `first` returns more than one of `second`."""
    values = [[np.array([run["return"] for run in runs.values()])] for runs in (first, second)]
    probability = float(probability_of_improvement(values[0][0], values[1][0]))
    return _told(probability, bootstrap(probability_of_improvement, *values), "{:.2f}".format)


def _middle(values: np.ndarray[Any, Any]) -> str:
    middle = float(interquartile_mean(values))
    return _told(middle, bootstrap(interquartile_mean, [values]), "{:.4g}".format)


def _told(value: float, interval: Interval, form: Callable[[float], str]) -> str:
    return f"{form(value)} [{form(interval.low)}, {form(interval.high)}]"


def main() -> None:
    """Print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reports", nargs="+", type=Path)
    parser.add_argument("--method", default="ours", help="whose probability to be ahead of the others is told")
    args = parser.parse_args()
    try:
        tasks = pooled(read_reports(args.reports))
    except (OSError, ValueError) as error:
        parser.error(str(error))
    if not any(args.method in methods for methods in tasks.values()):
        parser.error(f"--method {args.method}: no report has it")
    for task, methods in tasks.items():
        print(f"\n| {task} | solved | return | by drawn actions | by seed |\n|---|---|---|---|---|")
        for method, runs in methods.items():
            print(row(method, runs))
        own = methods.get(args.method, {})
        for other, runs in methods.items():
            if own and other != args.method:
                print(f"{args.method} > {other}: {ahead(own, runs)}")


if __name__ == "__main__":
    main()
