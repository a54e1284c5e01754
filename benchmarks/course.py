"""How metrics go over the runs of a study: means over sixths of each run's iterations.

    python -m benchmarks.course runs/kept_aside --out course.json

One line a run, and the same as JSON. Iterations in which a metric has no value do not count; what is told of episodes
counts from when every environment has finished one.
"""

import argparse
import json
import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from epo_lightning.sweep.curve import read_metric

PARTS = 6
"""Of a run."""
METRICS = ("charts/learning_rate", "losses/approx_kl", "population/log_std", "charts/episodic_return")


def parts(values: Mapping[int, float]) -> list[float | None]:
    """Means over the parts of a run of `values` by iteration; None where there is none."""
    told: list[list[float]] = [[] for _ in range(PARTS)]
    for iteration, value in values.items():
        if math.isfinite(value):
            told[(iteration - 1) * PARTS // max(values)].append(value)
    return [float(f"{statistics.fmean(part):.4g}") if part else None for part in told]


def course(run: Path, metrics: Sequence[str]) -> dict[str, list[float | None]]:
    """The parts of each of the metrics that the run has."""
    found = {name: read_metric(run / "metrics.csv", name) for name in metrics}
    return {name: parts(values) for name, values in found.items() if values}


def main() -> None:
    """One line a run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", help="folders of studies, or of any runs")
    parser.add_argument("--metrics", nargs="+", default=METRICS, help="columns of metrics.csv")
    parser.add_argument("--out", type=Path, help="write them as JSON, too")
    arguments = parser.parse_args()
    told = {}
    for folder in arguments.runs:
        for table in sorted(folder.rglob("metrics.csv")):
            told[str(table.parent.relative_to(folder.parent))] = course(table.parent, arguments.metrics)
    if not any(told.values()):
        parser.error(f"no run with any of {', '.join(arguments.metrics)} in {', '.join(map(str, arguments.runs))}")
    for run, metrics in told.items():
        line = (
            f"{name} {' '.join('-' if value is None else f'{value:.3g}' for value in values)}"
            for name, values in metrics.items()
        )
        print(f"{run}: {'; '.join(line)}")
    if arguments.out:
        arguments.out.write_text(json.dumps({"parts": PARTS, "runs": told}, indent=1) + "\n")


if __name__ == "__main__":
    main()
