"""How columns of `metrics.csv` go over the runs of a study: means over sixths of each run.

    python -m benchmarks.course runs/kept_aside --out benchmarks/results/learning_rates.json

One line a run, and the same as JSON. Iterations in which a column has no value do not count.
"""

import argparse
import csv
import json
import math
import statistics
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

PARTS = 6
"""Of a run."""
COLUMNS = ("charts/learning_rate", "losses/approx_kl", "population/log_std", "charts/episodic_return")


def parts(values: Sequence[str]) -> list[float | None]:
    """Means of what stands in a column, over the parts of a run; None where nothing does."""
    bounds = [index * len(values) // PARTS for index in range(PARTS + 1)]
    means: list[float | None] = []
    for begin, end in pairwise(bounds):
        there = [float(value) for value in values[begin:end] if value]
        mean = statistics.fmean(there) if there else math.nan
        means.append(float(f"{mean:.4g}") if math.isfinite(mean) else None)
    return means


def course(run: Path, columns: Sequence[str]) -> dict[str, list[float | None]]:
    """The parts of each of the columns that the run has."""
    with (run / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return {name: parts([row[name] for row in rows]) for name in columns if rows and name in rows[0]}


def main() -> None:
    """One line a run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path, help="folder of a study, or of any runs")
    parser.add_argument("--columns", nargs="+", default=COLUMNS, help="names in metrics.csv")
    parser.add_argument("--out", type=Path, help="write them as JSON, too")
    arguments = parser.parse_args()
    folders = [path.parent for path in sorted(arguments.study.rglob("metrics.csv"))]
    root = arguments.study.parent if arguments.study in folders else arguments.study
    runs = {str(folder.relative_to(root)): course(folder, arguments.columns) for folder in folders}
    if not any(runs.values()):
        parser.error(f"{arguments.study}: no run with any of {', '.join(arguments.columns)}")
    for run, columns in runs.items():
        told = (
            f"{name} {' '.join('-' if value is None else f'{value:.3g}' for value in values)}"
            for name, values in columns.items()
        )
        print(f"{run}: {'; '.join(told)}")
    if arguments.out:
        arguments.out.write_text(json.dumps({"parts": PARTS, "runs": runs}, indent=1) + "\n")


if __name__ == "__main__":
    main()
