"""Train configurations with several seeds, evaluate every master, print the table and draw the curves.

    python benchmarks/study.py --configs quickstart sapg ppo "ppo --model.loss.entropy_floor=0" --seeds 5

A configuration may be followed by flags. Runs that are complete are not repeated, so a study can be interrupted. Two
runs at a time, one thread each. `--results` keeps evaluations and curves of all runs, for `comparison.py`.
"""

import argparse
import csv
import json
import os
import re
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

Curve = list[tuple[float, float]]


def run(config: str, seed: int, folder: Path) -> dict[str, float]:
    """Train one seed, evaluate its last checkpoint, return the evaluation and the time it took."""
    path = run_path(config, seed, folder)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "epo_lightning"]
    last = path / "checkpoints" / "last.ckpt"
    result = last.with_suffix(".evaluation.json")
    if not result.exists():
        fit = ["fit", "--config", *config.split(), f"--seed_everything={seed}", f"--run_dir={path}"]
        with path.with_suffix(".log").open("w") as log:
            subprocess.run([*command, *fit], check=True, env=environment, stdout=log, stderr=log)
            validate = ["validate", "--ckpt_path", str(last)]
            subprocess.run([*command, *validate], check=True, env=environment, stdout=log, stderr=log)
    evaluation = json.loads(result.read_text())
    iterations = read_metrics(path)
    rates = [float(row["charts/sps"]) for row in iterations]
    steps = float(iterations[-1]["charts/env_steps"])
    return {
        "success": evaluation["successes"]["mean"],
        "return": evaluation["return"]["mean"],
        "standard_error": evaluation["return"]["standard_error"],
        "million_steps": steps / 1e6,
        "seconds": steps / len(rates) * sum(1 / rate for rate in rates),
    }


def run_path(config: str, seed: int, folder: Path) -> Path:
    """Run folder of one seed."""
    return folder / f"{re.sub('[^a-z0-9]+', '_', config)}-seed{seed}"


def read_metrics(path: Path) -> list[dict[str, str]]:
    """The rows of a run's `metrics.csv`."""
    with (path / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def curve(path: Path, name: str) -> Curve:
    """(million env steps, value) of one metric, where it is known."""
    rows = read_metrics(path)
    return [(float(row["charts/env_steps"]) / 1e6, float(row[name])) for row in rows if row.get(name)]


def thinned(line: Curve, most: int = 60) -> Curve:
    """At most that many of the points, evenly, with the last."""
    return line[:: -(-len(line) // most)][:-1] + line[-1:] if len(line) > most else line


def keep(results: dict[tuple[str, int], dict[str, float]], labels: list[str], folder: Path, target: Path) -> None:
    """Write what came of every run as JSON: its evaluation, and its curve as (env steps, return)."""
    configs = list(dict.fromkeys(config for config, _ in results))
    runs = []
    for (config, seed), result in results.items():
        line = thinned(curve(run_path(config, seed, folder), "charts/episodic_return"))
        points = [[round(1e6 * steps), round(value, 1)] for steps, value in line]
        runs.append(
            {
                "label": labels[configs.index(config)],
                "config": config,
                "seed": seed,
                "env_steps": round(1e6 * result["million_steps"]),
                "seconds": round(result["seconds"]),
                "return": round(result["return"], 1),
                "standard_error": round(result["standard_error"], 1),
                "curve": points,
            }
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text("[\n" + ",\n".join(json.dumps(run) for run in runs) + "\n]\n")


def draw(curves: dict[str, list[Curve]], ylabel: str, target: Path) -> None:
    """One panel per configuration, one line per seed."""
    import matplotlib as mpl

    mpl.use("agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(curves), figsize=(4 * len(curves), 3), sharey=True, squeeze=False)
    for panel, (name, lines) in zip(axes[0], curves.items(), strict=True):
        for seed, line in enumerate(lines):
            panel.plot(*zip(*line, strict=True), linewidth=1.2, label=f"seed {seed}")
        panel.set(title=name, xlabel="env steps (millions)")
        panel.grid(alpha=0.3)
    axes[0][0].set_ylabel(ylabel)
    axes[0][-1].legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(target, dpi=110)


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--configs", nargs="+", default=["quickstart", "sapg", "ppo"])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--folder", type=Path, default=Path("runs/study"))
    parser.add_argument("--metric", default="charts/episodic_successes")
    parser.add_argument("--picture", type=Path, default=None)
    parser.add_argument("--score", choices=["success", "return"], default="success", help="column of the table")
    parser.add_argument("--labels", nargs="+", default=None, help="short names of the configurations")
    parser.add_argument("--results", type=Path, default=None)
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    jobs = [(config, seed) for config in args.configs for seed in range(args.seeds)]
    with ThreadPoolExecutor(args.jobs) as pool:
        results = dict(zip(jobs, pool.map(lambda job: run(job[0], job[1], args.folder), jobs), strict=True))
    labels, digits = args.labels or args.configs, 2 if args.score == "success" else 0
    share = ">= 0.9" if args.score == "success" else ""
    print(f"{'config':36} {f'master {args.score} by seed':26} {share:>7} {'env steps':>10} {'median time':>12}")
    for config, label in zip(args.configs, labels, strict=True):
        mine = [results[config, seed] for seed in range(args.seeds)]
        scores = [result[args.score] for result in mine]
        solved = f"{sum(value >= 0.9 for value in scores)}/{len(mine)}" if args.score == "success" else ""
        print(
            f"{label:36} {' '.join(f'{value:.{digits}f}' for value in scores):26} {solved:>6}"
            f" {mine[0]['million_steps']:>8.3f} M {statistics.median(r['seconds'] for r in mine):>10.0f} s"
        )
    if args.results:
        keep(results, labels, args.folder, args.results)
    if args.picture:
        curves = {
            config: [curve(run_path(config, seed, args.folder), args.metric) for seed in range(args.seeds)]
            for config in args.configs
        }
        draw(curves, args.metric.removeprefix("charts/"), args.picture)


if __name__ == "__main__":
    main()
