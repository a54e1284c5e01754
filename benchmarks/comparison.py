"""Draw the curves that `study.py --results` has kept: a colour per label, seeds thin, their mean thick.

python benchmarks/comparison.py benchmarks/results/sac_pendulum.json --picture docs/pictures/sac_pendulum.png
"""

import argparse
import json
import statistics
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib as mpl

Line = list[tuple[float, float]]


def mean_curve(lines: list[Line]) -> Line:
    """The mean at those env steps that every seed has."""
    return [(steps, statistics.mean(values)) for steps, values in _together(lines) if len(values) == len(lines)]


def _together(lines: list[Line]) -> Iterator[tuple[float, list[float]]]:
    values: dict[float, list[float]] = defaultdict(list)
    for line in lines:
        for steps, value in line:
            values[steps].append(value)
    yield from sorted(values.items())


def main() -> None:
    """Draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, nargs="+")
    parser.add_argument("--picture", type=Path, required=True)
    parser.add_argument("--log", action="store_true", help="a logarithmic scale of env steps")
    args = parser.parse_args()
    mpl.use("agg")
    import matplotlib.pyplot as plt
    from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter

    figure, axes = plt.subplots(1, len(args.results), figsize=(5 * len(args.results), 3.4), squeeze=False)
    for panel, file in zip(axes[0], args.results, strict=True):
        runs: list[dict[str, Any]] = json.loads(file.read_text())
        for number, label in enumerate(dict.fromkeys(run["label"] for run in runs)):
            lines = [[(steps, value) for steps, value in run["curve"]] for run in runs if run["label"] == label]
            for line in lines:
                panel.plot(*zip(*line, strict=True), color=f"C{number}", linewidth=0.6, alpha=0.5)
            panel.plot(*zip(*mean_curve(lines), strict=True), color=f"C{number}", linewidth=2, label=label)
        panel.set(title=file.stem, xlabel="env steps", ylabel="return while exploring")
        if args.log:
            panel.set_xscale("log")
            panel.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            panel.xaxis.set_minor_formatter(NullFormatter())
        panel.xaxis.set_major_formatter(EngFormatter(sep=""))
        panel.grid(alpha=0.3)
        panel.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(args.picture, dpi=110)


if __name__ == "__main__":
    main()
