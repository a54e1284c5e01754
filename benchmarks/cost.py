"""Time and memory of an iteration as the work grows: environments, agents, width, horizon, observation.

    python -m benchmarks.cost                              # all five, one thread: benchmarks/results/cost.json
    python -m benchmarks.cost --axes agents --quick        # one of them, two sizes: does it run?
    python -m benchmarks.cost --picture docs/pictures/cost.png      # of the results that are there

One of the five changes, the others stay as in `BASE`. Every point is a process of its own, because peak memory is a
process's. A point's time is processor time of one thread, the median of the iterations after the first two: other work
on the machine hardly shows in it. An exponent is the slope of log time (or of log memory, above what the process had
before) over log size between the last three sizes: 1 is linear. The environment is random numbers; what a simulator
costs stands with the tasks.
"""

import argparse
import json
import math
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from itertools import pairwise
from pathlib import Path
from typing import Any

import lightning as L
import torch

from benchmarks.learner import NoiseEnv
from epo_lightning.algorithm.losses import LossSettings
from epo_lightning.callbacks import GeneticEvolution, NaNGuard
from epo_lightning.cli.process_settings import keep_freed_memory
from epo_lightning.experience.settings import RolloutSettings
from epo_lightning.learner.networks import NetworkSettings
from epo_lightning.learner.optimizer import GeneOptimizerSettings
from epo_lightning.modules.data import RolloutDataModule
from epo_lightning.modules.epo import EPOModule
from epo_lightning.run.metrics_table import MetricsTable

BASE = {"environments": 2048, "agents": 16, "width": 1, "horizon": 16, "observation": 64}
SIZES: dict[str, list[int]] = {
    "environments": [64, 256, 1024, 4096, 16384, 65536],
    "agents": [1, 4, 16, 64, 256, 1024],
    "width": [1, 2, 4, 8],
    "horizon": [4, 8, 16, 32, 64, 128],
    "observation": [8, 32, 128, 512, 2048],
}
HIDDEN = (128, 128)
RESULTS = Path(__file__).parent / "results" / "cost.json"


def point(environments: int, agents: int, width: int, horizon: int, observation: int) -> dict[str, float]:
    """Seconds of an iteration and the peak of memory, in this process."""
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    keep_freed_memory()
    NoiseEnv.clock = time.process_time
    envs: list[NoiseEnv] = []

    def make(num_envs: int, device: torch.device, seed: int) -> NoiseEnv:
        envs.append(NoiseEnv(num_envs, device, seed, horizon, observation))
        return envs[-1]

    module = EPOModule(
        agents,
        NetworkSettings(gene_dim=16, hidden=HIDDEN, width=width),
        LossSettings(),
        GeneOptimizerSettings(),
        RolloutSettings(horizon=horizon, num_epochs=4, num_minibatches=4),
    )
    callbacks: list[L.Callback] = [NaNGuard()]
    if agents > 2:
        callbacks.append(GeneticEvolution(2 * horizon * environments, 0, num_elites=max(agents // 8, 1)))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with tempfile.TemporaryDirectory() as folder:
        L.Trainer(
            accelerator="cpu",
            devices=1,
            max_epochs=6,
            logger=MetricsTable(Path(folder) / "metrics.csv"),
            callbacks=callbacks,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            limit_val_batches=0,
            default_root_dir=folder,
        ).fit(module, RolloutDataModule(make, environments))
    seconds = [b - a for a, b in pairwise(envs[-1].times)][2:]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"seconds": statistics.median(seconds), "mib": (peak - before) / 1024, "before_mib": before / 1024}


def measured(axis: str, size: int) -> dict[str, float]:
    """`point` in a process of its own."""
    settings = BASE | {axis: size}
    command = [sys.executable, "-m", "benchmarks.cost", "--point", json.dumps(settings)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"error: {axis} {size}: {done.stderr.strip().splitlines()[-1]}")
    report: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return {"size": size} | report


def exponent(rows: list[dict[str, float]], key: str) -> float:
    """Least-squares slope of log `key` over log size, of the last three rows."""
    last = rows[-3:]
    x, y = ([math.log(row[name]) for row in last] for name in ("size", key))
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    return sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True)) / sum((a - mean_x) ** 2 for a in x)


def show(results: dict[str, Any]) -> None:
    """One table."""
    for axis, rows in results["axes"].items():
        print(f"{axis}: time ~ size^{exponent(rows, 'seconds'):.2f}, memory ~ size^{exponent(rows, 'mib'):.2f}")
        for row in rows:
            print(f"  {row['size']:>8g} {row['seconds'] * 1e3:>10.1f} ms {row['mib']:>8.0f} MiB", flush=True)


def draw(results: dict[str, Any], file: Path) -> None:
    """One panel for each axis: time and memory, both logarithmic, and what linear would be."""
    import matplotlib.pyplot as plt  # an extra

    axes = results["axes"]
    figure, panels = plt.subplots(1, len(axes), figsize=(3.2 * len(axes), 3.2), sharey=True, squeeze=False)
    for panel, (axis, rows) in zip(panels[0], axes.items(), strict=True):
        sizes = [row["size"] for row in rows]
        panel.loglog(sizes, [row["seconds"] for row in rows], "o-", label="seconds an iteration")
        panel.loglog(sizes, [row["mib"] / 1024 for row in rows], "s-", label="GiB above the start")
        last = rows[-1]
        panel.loglog(
            sizes, [last["seconds"] * size / last["size"] for size in sizes], ":", color="grey", label="linear"
        )
        panel.set_title(
            f"{axis}: time ^{exponent(rows, 'seconds'):.2f}, memory ^{exponent(rows, 'mib'):.2f}", fontsize=9
        )
        panel.set_xlabel(axis)
        panel.minorticks_off()
        panel.set_xticks(sizes, [f"{size:g}" if size < 1e4 else f"{size / 1024:g}k" for size in sizes], fontsize=8)
        panel.grid(alpha=0.3)
    panels[0][0].legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(file, dpi=110)


def main() -> None:
    """Measure, print, keep; or draw what was kept."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--axes", nargs="+", choices=sorted(SIZES), default=list(SIZES))
    parser.add_argument("--quick", action="store_true", help="the two smallest sizes, nothing is kept")
    parser.add_argument("--picture", type=Path, help="draw the results that are there, measure nothing")
    parser.add_argument("--point", type=json.loads, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.point:
        print(json.dumps(point(**args.point)))
        return
    kept: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {"base": BASE, "axes": {}}
    if args.picture:
        show(kept)
        draw(kept, args.picture)
        return
    for axis in args.axes:
        rows = [measured(axis, size) for size in (SIZES[axis][:2] if args.quick else SIZES[axis])]
        if args.quick:
            show({"axes": {axis: rows}})
            continue
        kept["axes"][axis] = rows
        kept |= {"torch": torch.__version__, "processor": _processor()}
        RESULTS.write_text(json.dumps(kept, indent=1) + "\n")
        show({"axes": {axis: rows}})


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").is_file() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "unknown")


if __name__ == "__main__":
    main()
