"""Everything that has to be known of a GPU, found out by one command.

    python -m benchmarks.gpu_check                          # `make gpu`: ten minutes at most, on the first card
    python -m benchmarks.gpu_check --only physics training  # some stages
    python -m benchmarks.gpu_check --device cpu --toy       # shows that it runs; no measure of anything

Nothing is downloaded and nothing is sent. Every stage has a process of its own and its share of the time that is left:
what fails or hangs costs its own figures and no others. `build/gpu/gpu_check.json` has everything, `gpu_check.md` the
table; both name the card. The exit code is 1 where a stage has failed.
"""

import argparse
import datetime
import json
import platform
import sys
import time
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu_check.sizes import FULL, TOY
from benchmarks.gpu_check.stage import ROOT, Report, Setting, run_stage
from benchmarks.gpu_check.table import as_markdown

STAGES = {
    "driver": 3,
    "parity": 10,
    "waits": 2,
    "physics": 5,
    "training": 5,
    "resume": 2,
    "algorithms": 3,
    "learner": 5,
    "ranks": 2,
    "tests": 5,
}
"""In this order; of the time that is left every stage has a share by these weights."""
SKIPPED: dict[str, Any] = {"status": "skipped", "seconds": 0.0, "faults": [], "reason": "no card to run it on"}
PACKAGES = ("epo-lightning", "torch", "lightning", "mujoco", "mujoco-warp", "warp-lang", "numpy")


def versions() -> dict[str, str]:
    """Of what computes."""
    known = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            known[package] = version(package)
        except PackageNotFoundError:
            known[package] = "not installed"
    return known


def main() -> int:
    """Run the stages, or one of them in this process; returns the exit code."""
    parser = argparse.ArgumentParser(
        "gpu_check", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda", help="cuda, cuda:1, cpu")
    parser.add_argument("--toy", action="store_true", help="sizes for a CPU")
    parser.add_argument("--only", nargs="+", choices=[*STAGES], metavar="STAGE", help=", ".join(STAGES))
    parser.add_argument("--minutes", type=float, default=10, help="for everything together")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "gpu", help="folder of what is written")
    parser.add_argument("--stage", choices=[*STAGES], help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=float, default=0.0, help=argparse.SUPPRESS)
    args = parser.parse_args()
    out = args.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    if args.stage:
        setting = Setting(torch.device(args.device), TOY if args.toy else FULL, out, args.seconds)
        import_module(f"benchmarks.gpu_check.{args.stage}").find_out(setting, Report(out / f"{args.stage}.json"))
        return 0

    end = time.monotonic() + 60 * args.minutes
    options = ["--device", args.device, *(["--toy"] if args.toy else [])]
    date = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    check: dict[str, Any] = {"card": args.device, "date": date, "toy": args.toy, "versions": versions(), "stages": {}}
    wanted = [name for name in STAGES if not args.only or name in args.only]
    for place, name in enumerate(wanted):
        share = STAGES[name] / sum(STAGES[other] for other in wanted[place:])
        seconds = max(1.0, (end - time.monotonic()) * share)
        print(f"{name}: at most {seconds:.0f} s ...", end=" ", flush=True)
        found = SKIPPED if check["stages"].get("driver", {}).get("ends_all") else run_stage(name, options, out, seconds)
        check["stages"][name] = found
        check["card"] = check["stages"].get("driver", {}).get("card", check["card"])
        print(found["status"], *(f"\n  {line}" for line in found["faults"]), flush=True)
        (out / "gpu_check.json").write_text(json.dumps(check, indent=1) + "\n")
        (out / "gpu_check.md").write_text(as_markdown(check))
    print(f"\n{as_markdown(check)}\nWritten: {out / 'gpu_check.json'}, {out / 'gpu_check.md'}")
    return int(any(found["status"] in ("failed", "out of time") for found in check["stages"].values()))


if __name__ == "__main__":
    sys.exit(main())
