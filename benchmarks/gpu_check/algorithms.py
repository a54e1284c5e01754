"""Every algorithm, and every way of the learner, by the command line: fit, go on in the folder, validate, export."""

import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.gpu_check.stage import ROOT, Report, Setting
from benchmarks.gpu_check.training import chosen, last_line, rows

RUNS: dict[str, tuple[str, ...]] = {
    "epo": ("two_goals_far",),
    "epo, without graphs": ("two_goals_far", "--model.cuda_graphs", "false"),
    "epo, compiled": ("two_goals_far", "--model.compile", "always"),
    "epo, LSTM": ("wall_maze", "--model.network.lstm_units", "16"),
    "epo, LSTM, without graphs": ("wall_maze", "--model.network.lstm_units", "16", "--model.cuda_graphs", "false"),
    "epo, diversity": ("two_goals_far", "--model.diversity.coefficient", "0.1"),
    "epo, bf16-mixed": ("two_goals_far", "--trainer.precision", "bf16-mixed"),
    "epo, 16-mixed": ("two_goals_far", "--trainer.precision", "16-mixed"),
    "epo, paper": ("wall_maze", "--config", "paper"),
    "epo, released": ("wall_maze", "--config", "released"),
    "epo, MuJoCo on the CPU": ("pendulum_swingup",),
    "ppo": ("ppo_two_goals_far",),
    "cpo": ("wall_maze", "--config", "cpo"),
    "sapg": ("wall_maze", "--config", "sapg"),
    "pbt": ("pbt_two_goals_far",),
    "sac": ("sac_wall_maze",),
    "pql": ("pql_wall_maze",),
    "cem_rl": ("cem_wall_maze",),
}
"""The configuration of each run, and what else the command line says."""
ITERATIONS = 3


def _command(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "epo_lightning", *map(str, arguments)]
    threads = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=threads, check=False)


def find_out(setting: Setting, report: Report) -> None:
    """Two for each core at a time; what fails costs its own row."""
    wanted = {name: RUNS[name] for name in setting.sizes.algorithms or RUNS}
    with ThreadPoolExecutor(min(len(wanted), 2 * (os.cpu_count() or 1))) as pool:
        for done in [pool.submit(_one, name, run, setting, report) for name, run in wanted.items()]:
            done.result()


def _one(name: str, settings: tuple[str, ...], setting: Setting, report: Report) -> None:
    """One row: seconds of each command, how many iterations there are after the second."""
    run = setting.folder / "algorithms" / "".join(letter if letter.isalnum() else "_" for letter in name)
    shutil.rmtree(run, ignore_errors=True)
    device, quiet = chosen(setting.device), ("--trainer.enable_progress_bar", "false")
    few = ("--trainer.max_epochs", ITERATIONS, "--checkpoint.every_n_iterations", ITERATIONS)
    steps: dict[str, tuple[object, ...]] = {
        "fit": ("fit", "--config", *settings, *device, *few, *quiet, "--run_dir", run),
        "resume": ("fit", "--ckpt_path", run, *device, *quiet, "--trainer.max_epochs", ITERATIONS + 2),
        "validate": ("validate", "--ckpt_path", run, *device, *quiet),
        "export": ("export", "--ckpt_path", run),
    }
    times: dict[str, float] = {}
    for step, command in steps.items():
        start = time.monotonic()
        ended = _command(*command)
        times[step] = round(time.monotonic() - start, 1)
        log = setting.folder / "algorithms" / f"{run.name}.{step}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text(ended.stdout + ended.stderr)
        if ended.returncode:
            report.fault(f"{name}: {step} ended with {ended.returncode}: {last_line(ended)}")
            break
    iterations = _iterations(run)
    report.row("runs", run=name, iterations=iterations, seconds=times)
    if "resume" in times and iterations != ITERATIONS + 2:
        report.fault(f"{name}: {iterations} iterations in metrics.csv, {ITERATIONS + 2} were asked for")


def _iterations(run: Path) -> int:
    return len(rows(run)) if (run / "metrics.csv").exists() else 0
