"""The table of a paper from the results of `test`: one line per task and difficulty, over all runs that were tested.

python benchmarks/table.py runs/*/*/checkpoints/last.test.json
"""

import argparse
import json
import math
from collections import defaultdict
from pathlib import Path
from statistics import mean, stdev
from typing import Any

Row = tuple[str, str, str]


def row_of(result: dict[str, Any]) -> Row:
    """Task, difficulty, and what else was set of the environment: results with the same row may be averaged."""
    settings = {key: value for key, value in result["env"]["init_args"].items() if value is not None}
    settings.pop("task", None)
    difficulty = ", ".join(f"{name} {value:.4g}" for name, value in result["difficulty"].items())
    return result["task"], difficulty, json.dumps(settings, sort_keys=True)


def entry(results: list[dict[str, Any]], quantity: str) -> str:
    """Mean and standard error over runs; of a single run, over its episodes."""
    values = [result[quantity]["mean"] for result in results]
    if len(values) == 1:
        error = results[0][quantity]["standard_error"]
        return f"{values[0]:.3g} (+- {error:.2g} over episodes)"
    return f"{mean(values):.3g} +- {stdev(values) / math.sqrt(len(values)):.2g}"


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, nargs="+")
    args = parser.parse_args()

    rows: dict[Row, list[dict[str, Any]]] = defaultdict(list)
    for path in args.results:
        result = json.loads(path.read_text())
        rows[row_of(result)].append(result)
    print("| task | difficulty | runs | episodes a run | successes | return |\n|---|---|---|---|---|---|")
    for (task, difficulty, _), results in sorted(rows.items()):
        episodes = "/".join(sorted({str(result["episodes"]) for result in results}))
        measured = [entry(results, quantity) for quantity in ("successes", "return")]
        print("|", " | ".join([task, difficulty, str(len(results)), episodes, *measured]), "|")


if __name__ == "__main__":
    main()
