"""A short training by the command line at the scale of the paper, and where its time goes."""

import csv
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
import yaml

from benchmarks.gpu_check.sizes import Sizes
from benchmarks.gpu_check.stage import ROOT, Report, Setting

FITS = re.compile(r"lower it to at most (\d+)")


def fit(*arguments: object) -> subprocess.CompletedProcess[str]:
    """`python -m epo_lightning fit`, in a process of its own."""
    command = [sys.executable, "-m", "epo_lightning", "fit", *map(str, arguments)]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    print(ended.stdout, ended.stderr, sep="\n", flush=True)
    return ended


def chosen(device: torch.device) -> list[str]:
    """Arguments that choose the device."""
    if device.type == "cpu":
        return ["--trainer.accelerator", "cpu"]
    return ["--trainer.accelerator", "gpu", "--trainer.devices", f"[{device.index or 0}]"]


def rows(run: Path) -> list[dict[str, str]]:
    """Of `metrics.csv`."""
    with (run / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def last_line(ended: subprocess.CompletedProcess[str]) -> str:
    """What a process said last of its fault."""
    return (ended.stderr.strip() or ended.stdout.strip() or "it said nothing").splitlines()[-1]


def profiler(folder: Path, iterations: int) -> Path:
    """An overlay that measures all iterations but the first with a clock that waits for the device."""
    callback: dict[str, Any] = {"class_path": "NetworkScaleProfiler"}
    callback["init_args"] = {"start_iteration": 1, "num_iterations": iterations - 1}
    file = folder / "profiler.yaml"
    file.write_text(yaml.safe_dump({"trainer": {"callbacks+": [callback]}}))
    return file


def train(sizes: Sizes, device: torch.device, folder: Path, num_envs: int) -> subprocess.CompletedProcess[str]:
    """The training of `num_envs` environments, into `training` of `folder`."""
    run = folder / "training"
    shutil.rmtree(run, ignore_errors=True)
    return fit(
        *("--config", sizes.config, *sizes.train_settings, "--config", profiler(folder, sizes.train_iterations)),
        *("--data.env.init_args.physics", "warp", "--data.num_envs", num_envs, *chosen(device)),
        *("--trainer.max_epochs", sizes.train_iterations, "--trainer.enable_progress_bar", "false"),
        *("--checkpoint.every_n_iterations", sizes.train_iterations, "--run_dir", run),
    )


def find_out(setting: Setting, report: Report) -> None:
    """With all environments of the paper, or as many as the card has room for."""
    sizes, run = setting.sizes, setting.folder / "training"
    num_envs = sizes.train_envs
    ended = train(sizes, setting.device, setting.folder, num_envs)
    if ended.returncode == 2 and (room := FITS.search(ended.stderr)):
        report.tell(refused=last_line(ended))
        num_envs = max(64, int(room[1]) // 64 * 64)  # every agent has as many
        ended = train(sizes, setting.device, setting.folder, num_envs)
    if ended.returncode:
        report.fault(f"fit ended with {ended.returncode}: {last_line(ended)}")
        return
    profile = json.loads((run / "profile.json").read_text())
    names = ("env_steps_per_second", "seconds_per_iteration", "parameters", "experience_mib", "peak_memory_mib")
    report.tell(config=sizes.config, num_envs=num_envs, **{name: profile[name] for name in names})
    told = rows(run)
    report.tell(iterations=len(told), loss=float(told[-1]["losses/total"]))
    if (resets := sum(float(row["env/physics_resets"]) for row in told)) > 0:
        report.tell(physics_resets_per_step=resets / len(told))
    if len(told) != sizes.train_iterations:
        report.fault(f"{len(told)} iterations in metrics.csv, {sizes.train_iterations} were asked for")
