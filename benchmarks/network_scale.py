"""Time and memory of the network at width x1, x2, x4, as `NetworkScaleProfiler` reports them.

    python benchmarks/network_scale.py                       # the two-arm task at laptop size
    python benchmarks/network_scale.py --config wall_maze   # another configuration

Each width runs in a process of its own, because peak memory is a process's.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path


def profile(configs: list[str], width: int, iterations: int) -> dict[str, float]:
    """The profiler's report of one width."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "epo_lightning", "fit"]
        command += [word for config in configs for word in ("--config", config)]
        command += [f"--model.network.width={width}", f"--run_dir={folder}/run"]
        command += [f"--trainer.max_epochs={iterations + 3}"]
        command += ["--trainer.callbacks=epo_lightning.callbacks.NetworkScaleProfiler"]
        command += [f"--trainer.callbacks.num_iterations={iterations}"]
        subprocess.run(command, check=True, capture_output=True)
        report: dict[str, float] = json.loads((Path(folder) / "run" / "profile.json").read_text())
        return report


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", nargs="+", default=["two_arm", "laptop"])
    parser.add_argument("--widths", nargs="+", type=int, default=[1, 2, 4])
    parser.add_argument("--iterations", type=int, default=8)
    args = parser.parse_args()
    reports = {width: profile(args.config, width, args.iterations) for width in args.widths}
    parts = list(next(iter(reports.values()))["seconds_per_iteration"])  # type: ignore[call-overload]
    print(
        f"{'width':>5} {'parameters':>11} {'MFLOP':>7} {'steps/s':>8} " + "".join(f"{part:>11}" for part in parts),
        end="",
    )
    print(f"{'total':>11} {'time':>6} {'peak MiB':>9}")
    base = None
    for width, report in reports.items():
        seconds: dict[str, float] = report["seconds_per_iteration"]  # type: ignore[assignment]
        total = sum(seconds.values())
        base = base or total
        line = f"x{width:<4} {report['parameters']:>11,} {report['forward_flops_per_env_step'] / 1e6:>7.2f}"
        line += f" {report['env_steps_per_second']:>8,.0f} "
        line += "".join(f"{value * 1e3:>8.1f} ms" for value in seconds.values())
        print(f"{line}{total * 1e3:>8.1f} ms {total / base:>5.2f}x {report['peak_memory_mib']:>8,.0f}")


if __name__ == "__main__":
    main()
