"""What each option does in a study of combinations, in which half of the methods have it.

    python -m benchmarks.effects benchmarks/results/two_arm_factors.json --study benchmarks/studies/two_arm_factors.yaml

Effects are those of a linear model with a term for each option, fitted to all runs by least squares: what a run with
the option has more than one without, with its standard error. Where options are crossed evenly, as in the designs of
Plackett and Burman (Biometrika 33(4), 1946) and in two-level fractional factorials, that is the difference of the two
means.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.pooled import pooled, read_reports
from epo_lightning.documents.config_file import read_config
from epo_lightning.documents.plain_yaml import plain

METRICS = {"return": "return", "by drawn actions": "drawn_return", "successes": "successes"}


def options(methods: Mapping[str, Mapping[str, object]]) -> dict[str, set[str]]:
    """The methods that have each option; keys that always come together are one."""
    having: dict[str, set[str]] = {}
    for name, keys in methods.items():
        for key, value in keys.items():
            having.setdefault(f"{key} {json.dumps(value)}", set()).add(name)
    together: dict[frozenset[str], list[str]] = {}
    for option, own in having.items():
        together.setdefault(frozenset(own), []).append(option)
    return {", ".join(names): set(own) for own, names in together.items()}


def effects(having: Mapping[str, Sequence[bool]], values: Sequence[float]) -> dict[str, tuple[float, float]]:
    """Effect of each option and its standard error, by least squares.

    Args:
        having: By option, whether each run has it.
        values: One number a run.

    Raises:
        ValueError: if the runs cannot tell the options apart, or are no more than the terms of the model.
    """
    terms = np.column_stack([np.ones(len(values)), *having.values()]).astype(float)
    freedom = len(values) - terms.shape[1]
    if freedom < 1 or np.linalg.matrix_rank(terms) < terms.shape[1]:
        raise ValueError(f"{len(values)} runs do not tell {len(having)} options apart: run more of the study first")
    inverse = np.linalg.inv(terms.T @ terms)
    fitted = inverse @ terms.T @ np.asarray(values)
    residuals = np.asarray(values) - terms @ fitted
    errors = np.sqrt(np.diag(inverse) * (residuals @ residuals) / freedom)
    return {option: (float(fitted[at]), float(errors[at])) for at, option in enumerate(having, 1)}


def table(methods: Mapping[str, Mapping[str, object]], reports: Sequence[dict[str, Any]]) -> str:
    """In Markdown: the effect of each option on each number that all runs have.

    Raises:
        ValueError: if there is more than one task, a method that the study has not, or the runs cannot tell the
            options apart.
    """
    tasks = pooled(reports)
    if len(tasks) != 1:
        raise ValueError(f"one task at a time, got {', '.join(tasks) or 'none'}")
    (told,) = tasks.values()
    if strange := sorted(told.keys() - methods.keys()):
        raise ValueError(f"the study has no method {strange[0]}: give the file that the runs were made of")
    runs = [(method, run) for method, by_seed in told.items() for run in by_seed.values()]
    having = {option: [method in own for method, _ in runs] for option, own in options(methods).items()}
    columns = {
        name: effects(having, [run[key] for _, run in runs])
        for name, key in METRICS.items()
        if all(run.get(key) is not None for _, run in runs)
    }
    lines = [f"| option ({len(runs)} runs) | {' | '.join(columns)} |", f"|---|{'---|' * len(columns)}"]
    for option in having:
        cells = [f"{effect:+.3g} +- {error:.2g}" for effect, error in (column[option] for column in columns.values())]
        lines.append(f"| {option} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reports", nargs="+", type=Path, help="report.json of the study's runs")
    parser.add_argument("--study", type=Path, required=True, help="its file")
    arguments = parser.parse_args()
    try:
        study = plain(read_config(arguments.study, lambda _: False, "--study").values)
        methods = study.get("methods")
        if not isinstance(methods, dict) or not all(isinstance(keys, dict) for keys in methods.values()):
            raise ValueError(f"--study: {arguments.study} has no methods, or one without keys and values")
        print(table(methods, read_reports(arguments.reports)))
    except (OSError, ValueError) as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
