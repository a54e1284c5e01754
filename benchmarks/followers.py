"""Whether followers had the goal that the master has not: successes of all agents over time, for every run of studies.

    python -m benchmarks.followers runs/claim runs/study --json followers.json

A method is the folder above its seeds. An agent has the goal where half of the episodes that its rollouts end, or more,
succeed.
"""

import argparse
import csv
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

_OF_AGENT = "agents/successes/"
_OF_MASTER = "charts/episodic_successes"
_HAS = 0.5


def course(table: Path) -> dict[str, Any]:
    """Of one run: how many followers have the goal at the end, the most that ever had it, and what the master has.

    Args:
        table: Its metrics.csv.
    """
    now: dict[str, float] = {}
    most = have = 0
    with table.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            now |= {key: float(row[key]) for key in row if key.startswith((_OF_AGENT, _OF_MASTER)) and row[key]}
            have = sum(value >= _HAS for key, value in now.items() if key not in (_OF_MASTER, f"{_OF_AGENT}0"))
            most = max(most, have)
    return {"master": round(now.get(_OF_MASTER, 0.0), 3), "followers": have, "most_followers": most}


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--json", type=Path, help="where to write every run")
    args = parser.parse_args()
    methods: dict[str, dict[str, Any]] = defaultdict(dict)
    for folder in args.folders:
        for table in sorted(folder.rglob("seed*/metrics.csv")):
            seed = table.parent
            methods[str(seed.parent.relative_to(folder.parent))][seed.name] = course(table)
    print("method: runs; master has the goal; of the others: a follower has it at the end, had it once, never")
    for method, runs in methods.items():
        lost = [run for run in runs.values() if run["master"] < _HAS]
        at_end = sum(run["followers"] > 0 for run in lost)
        once = sum(run["followers"] == 0 < run["most_followers"] for run in lost)
        print(f"{method}: {len(runs)}; {len(runs) - len(lost)}; {at_end}, {once}, {len(lost) - at_end - once}")
    if args.json:
        args.json.write_text(json.dumps(methods, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
