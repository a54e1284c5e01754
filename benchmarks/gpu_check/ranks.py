"""Two ranks on two cards train a small population; on Warp's CPU device, two processes."""

import shutil

import torch

from benchmarks.gpu_check.stage import Report, Setting
from benchmarks.gpu_check.training import fit, last_line, rows

SMALL = ("--config", "wall_maze", "--data.num_envs", 64, "--trainer.max_epochs", 2)


def find_out(setting: Setting, report: Report) -> None:
    """Both know the same number of env steps, and the run ends well."""
    cards = torch.cuda.device_count()
    if setting.device.type == "cuda" and cards < 2:
        report.tell(status="skipped", reason=f"{cards} card")
        return
    accelerator = "gpu" if setting.device.type == "cuda" else "cpu"
    run = setting.folder / "ranks"
    shutil.rmtree(run, ignore_errors=True)
    devices = ("--trainer.accelerator", accelerator, "--trainer.devices", 2, "--trainer.enable_progress_bar", "false")
    ended = fit(*SMALL, *devices, "--run_dir", run)
    if ended.returncode:
        report.fault(f"fit ended with {ended.returncode}: {last_line(ended)}")
        return
    told = rows(run)
    report.tell(iterations=len(told), env_steps_per_second=float(told[-1]["charts/sps"]))
