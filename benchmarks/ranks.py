"""What several ranks tell each other, and what it costs: bytes, time and share of an iteration, by collective call.

    python -m benchmarks.ranks                    # 1, 2 and 4 ranks on this machine, one thread each
    python -m benchmarks.ranks --ranks 1 2 --out ranks.json

Every number of ranks is a training of its own by `fit`, whose processes are started as torchrun starts them. A call
lasts from when a rank makes it until it has the result, so that it holds the wait for the slowest rank; `bare` is what
all-reduces of some sizes take when nobody does anything else.
"""

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import torch
import torch.distributed as dist

CONFIG = """
algorithm: epo
model:
  num_agents: 16
  network: {gene_dim: 32, hidden: [256, 128, 64]}
  rollout: {horizon: 16, num_epochs: 4, num_minibatches: 4}
data: {num_envs: 512, env: benchmarks.learner.NoiseEnv}
trainer:
  accelerator: cpu
  enable_progress_bar: false
  callbacks:
    - {class_path: epo_lightning.callbacks.GeneticEvolution, init_args: {every_n_env_steps: 32768, warmup_env_steps: 0}}
    - {class_path: benchmarks.ranks.Meter}
"""
WARM_UP = 2
"""Iterations that are not counted."""
_CALLS = ("all_reduce", "all_gather", "broadcast", "gather", "barrier")
_MEANINGS = {
    "average_over_ranks": "gradients",
    "merge_together": "normalisers and advantages",
    "of_all_ranks": "agents beside the master",
    "sum_together": "episodes, for the log",
    "_adapt_learning_rate": "learning rate",
    "sum_over_ranks": "fitness",
    "_replace": "generation",
    "gather": "checkpoint",
    "save": "checkpoint",
}
"""What a call is for, by the function of this package that makes it."""
_FILES = {"interruption.py": "whether to stop", "run_checkpoints.py": "whether to save"}
_SIZES = (1, 64, 1024, 16 * 1024, 256 * 1024, 1024 * 1024, 4 * 1024 * 1024)
"""Numbers of four bytes."""


class Meter(L.Callback):
    """Counts and times the collective calls of a rank, and writes them into the run folder at the end."""

    def __init__(self) -> None:
        self.told: dict[str, list[float]] = {}
        self.seconds: list[float] = []
        self._started = 0.0
        self._inside = False

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:  # noqa: ARG002
        """Stand between everybody and torch."""
        for name in _CALLS:
            call = self._timed(getattr(dist, name))
            for module in (dist, dist.distributed_c10d):
                setattr(module, name, call)

    def _timed(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401  (whatever torch gives)
            if self._inside:
                return call(*args, **kwargs)
            self._inside, start = True, time.perf_counter()
            try:
                return call(*args, **kwargs)
            finally:
                self._inside = False
                known = self.told.setdefault(_meaning(), [0, 0, 0.0])
                known[0] += 1
                known[1] += sum(each.nbytes for each in args if isinstance(each, torch.Tensor))
                known[2] += time.perf_counter() - start

        return timed

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:  # noqa: ARG002
        """An iteration begins; the first ones do not count."""
        if trainer.current_epoch == WARM_UP:
            self.told.clear()
            self.seconds.clear()
            self._started = time.perf_counter()
        elif self._started:
            self._lap()

    def _lap(self) -> None:
        self.seconds.append(time.perf_counter() - self._started)
        self._started = time.perf_counter()

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write what was told; then time bare calls."""
        self._lap()
        ranks = trainer.world_size
        told = {
            "seconds": self.seconds,
            "calls": {name: [*known] for name, known in self.told.items()},  # without the bare ones
            "bare": [{"bytes": 4 * size, "seconds": _bare(size)} for size in _SIZES] if ranks > 1 else [],
            "parameters": sum(parameter.numel() for parameter in pl_module.parameters()),
        }
        Path(trainer.default_root_dir, f"meter{trainer.global_rank}.json").write_text(json.dumps(told))


def _meaning() -> str:
    """What the call that is being made is for."""
    frame = sys._getframe(1)
    while frame is not None:
        file, name = frame.f_code.co_filename, frame.f_code.co_name
        if "epo_lightning" in file:
            return _FILES.get(Path(file).name) or _MEANINGS.get(name, "Lightning")
        frame = frame.f_back  # type: ignore[assignment]
    return "Lightning"


def _bare(size: int) -> float:
    """Median seconds of an all-reduce of so many numbers of four bytes."""
    x, seconds = torch.zeros(size), []
    for _ in range(20):
        dist.barrier()
        start = time.perf_counter()
        dist.all_reduce(x)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def measure(ranks: int, iterations: int) -> dict[str, Any]:
    """A training on so many ranks: what an iteration costs, and what of it is spent in collective calls."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder, "ranks.yaml")
        config.write_text(CONFIG)
        fit = ["fit", "--config", config, "--run_dir", f"{folder}/run", f"--trainer.devices={ranks}",
               f"--trainer.max_epochs={iterations + WARM_UP}"]  # fmt: skip
        command = [sys.executable, "-m", "epo_lightning", *map(str, fit)]
        places = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "TORCHELASTIC_RUN_ID": "ranks",
                  "WORLD_SIZE": str(ranks), "LOCAL_WORLD_SIZE": str(ranks), "GROUP_RANK": "0"}  # fmt: skip
        processes = [
            subprocess.Popen(
                command,
                env={**os.environ, **places, "RANK": str(rank), "LOCAL_RANK": str(rank), "OMP_NUM_THREADS": "1"},
                stdout=subprocess.DEVNULL,
            )
            for rank in range(ranks)
        ]
        if any(process.wait() for process in processes):
            raise SystemExit("a training failed")
        told = [json.loads(Path(folder, "run", f"meter{rank}.json").read_text()) for rank in range(ranks)]
    first = told[0]
    whole = sum(first["seconds"])
    calls = {
        name: {
            "calls_per_iteration": round(count / iterations, 2),
            "bytes_per_iteration": round(size / iterations),
            "ms_per_call": round(1e3 * statistics.mean(each["calls"][name][2] for each in told) / count, 4),
            "share": round(statistics.mean(each["calls"][name][2] for each in told) / whole, 4),
        }
        for name, (count, size, _) in sorted(first["calls"].items(), key=lambda item: -item[1][1])
    }
    return {
        "ranks": ranks,
        "cores": len(os.sched_getaffinity(0)),
        "parameters": first["parameters"],
        "iteration_seconds": round(statistics.median(first["seconds"]), 4),
        "share": round(sum(each["share"] for each in calls.values()), 4),
        "calls": calls,
        "bare": [{"bytes": each["bytes"], "ms": round(1e3 * each["seconds"], 4)} for each in first["bare"]],
    }


def main() -> None:
    """Run, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--iterations", type=int, default=8)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "ranks.json")
    args = parser.parse_args()
    results = []
    for ranks in args.ranks:
        result = measure(ranks, args.iterations)
        results.append(result)
        print(f"{ranks} rank(s): {result['iteration_seconds']:.3f} s an iteration, {result['share']:.1%} in calls")
        for name, call in result["calls"].items():
            print(
                f"  {name:28} {call['calls_per_iteration']:6.2f} calls {call['bytes_per_iteration']:>12,} bytes"
                f" {call['ms_per_call']:9.3f} ms a call {call['share']:7.2%}"
            )
        for bare in result["bare"]:
            print(f"  bare {bare['bytes']:>12,} bytes {bare['ms']:9.3f} ms")
    machine = {"torch": torch.__version__, "backend": "gloo, one machine"}
    args.out.write_text(json.dumps({"machine": machine, "results": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
