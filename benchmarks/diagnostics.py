"""What diagnostics of a population cost: iterations with `PopulationDiagnostics` beside iterations without.

    python -m benchmarks.diagnostics                    # 4,096 envs, 64 agents, [512, 256, 128]
    python -m benchmarks.diagnostics --preset overhead  # 64 envs, 64 agents, [64, 64]

Both run in turns on the environment of random numbers of `benchmarks/learner.py`. Medians over rounds of the mean of an
iteration, since a look at the gradient comes once in ten; processor time of one thread, so that other work on the
machine does not count.
"""

import argparse
import logging
import resource
import statistics
import tempfile
import time
import warnings
from itertools import pairwise

import lightning as L
import torch

from benchmarks.learner import PRESETS, NoiseEnv, System
from epo_lightning.callbacks import PopulationDiagnostics
from epo_lightning.cli.process_settings import keep_freed_memory

ITERATIONS = 11
"""The first is warm-up; the other ten have one look at the gradient."""


class Side(System):
    """The whole package, with other callbacks besides."""

    more: tuple[L.Callback, ...] = ()

    def callbacks(self) -> list[L.Callback]:
        """Also `more`."""
        return [*super().callbacks(), *self.more]


def mean_iteration(side: Side) -> float:
    """Seconds."""
    start = len(side.env.times) if side.envs else 0
    side.run(ITERATIONS)
    return statistics.fmean(b - a for a, b in pairwise(side.env.times[start:][1:]))


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", choices=PRESETS, default="learner")
    parser.add_argument("--agents", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    envs, hidden, _ = PRESETS[args.preset]
    torch.set_num_threads(1)
    NoiseEnv.clock = time.process_time
    keep_freed_memory()
    seconds: dict[str, list[float]] = {"without": [], "with": []}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(args.rounds):
            for name, times in seconds.items():
                side = Side(envs, hidden, args.agents, 32, folder)
                side.more = (PopulationDiagnostics(),) if name == "with" else ()
                times.append(mean_iteration(side))
    plain, told = (statistics.median(times) for times in seconds.values())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{args.preset}, K={args.agents}: {plain * 1e3:.1f} ms an iteration without, {told * 1e3:.1f} ms with,")
    print(f"ratio {told / plain:.4f}; peak memory of the process {peak:,.0f} MiB")


if __name__ == "__main__":
    main()
