"""This system beside rl_games, skrl, rsl_rl, the released EPO and a plain loop: the same environment, sizes, threads.

    python -m venv peers && peers/bin/pip install torch rl-games==1.6.5 skrl==2.1.1 rsl-rl-lib==5.5.1
    python benchmarks/peers.py --python peers/bin/python                      # 4,224 envs, [512, 256, 128]
    python benchmarks/peers.py --python peers/bin/python --preset overhead    # 64 envs, [64, 64]
    git clone https://github.com/YifanSu1301/EPO                              # and --released-epo EPO: its learner, too

Sides take turns, each in a process of its own in every round, so that peak memory is a side's own, and a peer may live
in another environment (`--python`, which the peers share; who is not installed there is skipped with a line). An
iteration is timed from the first env step of one rollout to that of the next, as in `learner.py`; medians.

Peers run as they are shipped. The system and the plain loop keep freed memory, as `fit` does; `--no-keep-memory` leaves
that away. rsl_rl has separate networks for actor and critic: twice the products.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent / "sides"
PRESETS = {"learner": (4224, [512, 256, 128]), "overhead": (64, [64, 64])}
OWN = {
    "system": {"agents": 1, "plain": False, "compile": False},
    "system, compiled": {"agents": 1, "plain": False, "compile": True},
    "plain loop": {"agents": 1, "plain": True, "compile": False},
    "system, 64 agents": {"agents": 64, "plain": False, "compile": False},
    "system, 64 agents, compiled": {"agents": 64, "plain": False, "compile": True},
    "plain loop, 64 genes": {"agents": 64, "plain": True, "compile": False},
}
PEERS = {
    "skrl": ("skrl", {"compile": False}),
    "rl_games": ("rl_games", {"compile": False}),
    "rl_games, compiled (its default)": ("rl_games", {"compile": True}),
    "rsl_rl": ("rsl_rl", {"compile": False}),
}
RELEASED = "released EPO, 64 agents"


def installed(python: str, package: str) -> bool:
    """Whether that Python has it."""
    code = f"import importlib.util, sys; sys.exit(importlib.util.find_spec('{package}') is None)"
    try:
        return subprocess.run([python, "-c", code], check=False, capture_output=True).returncode == 0
    except OSError:
        return False


def measure(python: str, script: str, job: dict[str, Any]) -> dict[str, Any] | str:
    """What one side tells of one round; the last line of its complaint where it fails."""
    with tempfile.TemporaryDirectory() as folder:
        command = [python, str(HERE / script), json.dumps({**job, "folder": folder})]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        return (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
    told: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return told


def main() -> None:
    """Run, print, and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", choices=sorted(PRESETS), default="learner")
    parser.add_argument("--python", default=sys.executable, help="the Python in which the peers are installed")
    parser.add_argument("--released-epo", type=Path, help="a checkout of EPO's released code, which that Python runs")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--iterations", type=int, help="of a round; the first ones are warm-up")
    parser.add_argument("--warm-up", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--processor-time", action="store_true", help="for machines that do other work")
    parser.add_argument("--keep-memory", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument(
        "--sides", nargs="+", choices=[*OWN, *PEERS, RELEASED], metavar="SIDE", help="only these, by name"
    )
    parser.add_argument("--out", type=Path, help="write the numbers as JSON, too")
    given = parser.parse_args()
    envs, hidden = PRESETS[given.preset]
    job = {
        "envs": envs,
        "hidden": hidden,
        "iterations": given.iterations or (6 if given.preset == "learner" else 40),
        "warm_up": given.warm_up,
        "threads": given.threads,
        "processor_time": given.processor_time,
        "keep_memory": given.keep_memory,
    }
    sides: dict[str, tuple[str, str, dict[str, Any]]] = {
        name: (sys.executable, "own_side.py", own) for name, own in OWN.items()
    }
    for name, (package, settings) in PEERS.items():
        if installed(given.python, package):
            sides[name] = (given.python, f"{package}_side.py", settings)
        else:
            print(f"{name}: skipped, {given.python} has no {package}", flush=True)
    if given.released_epo:
        checkout = {"agents": 64, "released_epo": str(given.released_epo.resolve())}
        sides[RELEASED] = (given.python, "released_epo_side.py", checkout)
    else:
        print(f"{RELEASED}: skipped, --released-epo names no checkout", flush=True)
    sides = {name: side for name, side in sides.items() if not given.sides or name in given.sides}
    seconds: dict[str, list[float]] = {}
    memory: dict[str, int] = {}
    for _ in range(given.rounds):
        for name, (python, script, own) in list(sides.items()):
            told = measure(python, script, {**job, **own})
            if isinstance(told, str):
                print(f"{name}: left out, it failed: {told}", flush=True)
                del sides[name]
                continue
            print(f"{name}: {1e3 * statistics.median(told['seconds']):.1f} ms", flush=True)
            seconds.setdefault(name, []).extend(told["seconds"])
            memory[name] = max(memory.get(name, 0), told["peak_mib"])
    results: dict[str, dict[str, float]] = {}
    for name, values in seconds.items():
        median = statistics.median(values)
        rate = 16 * envs / median
        results[name] = {"ms": round(1e3 * median, 2), "env_steps_per_s": round(rate), "peak_mib": memory[name]}
        results[name]["fastest_ms"] = round(1e3 * min(values), 2)
    if not results:
        raise SystemExit("error: no side could be measured")
    base = results.get("skrl", next(iter(results.values())))
    for name, told in results.items():
        told["speed_over_skrl" if "skrl" in results else "speed_over_first"] = round(base["ms"] / told["ms"], 3)
        print(
            f"{name:34} {told['ms']:9.1f} ms/iteration (fastest {told['fastest_ms']:.1f}) {told['env_steps_per_s']:9,}"
            f" env steps/s {base['ms'] / told['ms']:6.2f} {told['peak_mib']:6} MiB",
            flush=True,
        )
    if given.out:
        given.out.write_text(json.dumps({"job": job, "sides": results}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
