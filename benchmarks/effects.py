"""What each option does in a study of combinations, in which half of the methods have it.

    python -m benchmarks.effects runs/mends_far --study benchmarks/studies/mends_far.yaml

The effect of an option is the mean over the runs that have it less the mean over the runs that have not, with the
standard error of that difference (every run counts as one number, whatever its seed). Where options are crossed evenly,
as in the designs of Plackett and Burman (Biometrika 33(4), 1946), no option's effect is in another's.
"""

import argparse
import json
import math
import statistics
from collections.abc import Sequence
from pathlib import Path

import yaml

from epo_lightning.sweep.curve import read_metric, score

METRICS = {
    "successes": "charts/episodic_successes",
    "return": "charts/episodic_return",
    "best agent's return": "population/return_best",
}


def options(study: dict[str, dict[str, object]]) -> dict[str, set[str]]:
    """The methods that have each option; keys that always come together are one."""
    having: dict[str, set[str]] = {}
    for name, keys in study["methods"].items():
        assert isinstance(keys, dict)
        for key, value in keys.items():
            having.setdefault(f"{key} {json.dumps(value)}", set()).add(name)
    together: dict[frozenset[str], list[str]] = {}
    for option, methods in having.items():
        together.setdefault(frozenset(methods), []).append(option)
    return {", ".join(names): set(methods) for methods, names in together.items()}


def tail(folder: Path, column: str) -> float:
    """Mean of a column over the last tenth of a run's iterations; NaN without a value."""
    values = read_metric(folder / "metrics.csv", column)
    return score(values, max(values), "tail") if values else math.nan


def effect(having: Sequence[float], others: Sequence[float]) -> tuple[float, float]:
    """Difference of the means, and its standard error."""
    error = math.sqrt(sum(statistics.variance(side) / len(side) for side in (having, others)))
    return statistics.fmean(having) - statistics.fmean(others), error


def main() -> None:
    """Print a table, as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, help="folder of the study's runs: METHOD/seedN")
    parser.add_argument("--study", type=Path, required=True, help="its file")
    parser.add_argument("--out", type=Path, help="write every run's numbers as JSON, too")
    arguments = parser.parse_args()
    study = yaml.safe_load(arguments.study.read_text())
    runs = [
        {
            "method": path.parent.name,
            "seed": int(path.name[4:]),
            **{name: tail(path, key) for name, key in METRICS.items()},
        }
        for path in sorted(arguments.runs.glob("*/seed*"))
        if (path / "metrics.csv").exists()
    ]
    sides = {option: [run["method"] in methods for run in runs] for option, methods in options(study).items()}
    if short := [option for option, has in sides.items() if min(sum(has), len(has) - sum(has)) < 2]:
        parser.error(f"{arguments.runs}: fewer than two runs with {short[0]}, or without: run the study first")
    print(f"| option | {' | '.join(METRICS)} |\n|---|{'---|' * len(METRICS)}")
    for option, has in sides.items():
        cells = []
        for name in METRICS:
            having, others = (
                [run[name] for run, own in zip(runs, has, strict=True) if own is side] for side in (True, False)
            )
            difference, error = effect(having, others)
            cells.append(f"{difference:+.2f} +- {error:.2f}")
        print(f"| {option} | {' | '.join(cells)} |")
    if arguments.out:
        content = {"study": str(arguments.study), "methods": study["methods"], "runs": runs}
        arguments.out.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
