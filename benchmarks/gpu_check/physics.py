"""Control steps per second and memory, from few worlds to many."""

import argparse

import torch

from benchmarks.gpu import memory, speed
from benchmarks.gpu_check.stage import Report, Setting
from epo_lightning.cli.doctor.finding import one_line


def find_out(setting: Setting, report: Report) -> None:
    """Memory per world first, then the speed at each number of worlds, largest last; the first task on the CPU, too."""
    sizes, device = setting.sizes, str(setting.device)
    room = {"contacts": None, "constraints": None, "threads": None}
    args = argparse.Namespace(device=device, steps=sizes.steps, warmup=sizes.steps, **room)
    theirs = min(512, max(sizes.worlds))
    for task in sizes.timed_tasks:
        each = memory(task, args, *sizes.memory_worlds)
        report.row("memory", task=task, **{f"{name}_per_world": value for name, value in each.items()})
        cpu = speed(task, "mujoco", theirs, args)
        report.row("speeds", task=task, engine="mujoco", worlds=theirs, whole=cpu["whole"], physics=cpu["physics"])
        for worlds in sizes.worlds:
            try:
                own = speed(task, "warp", worlds, args)
            except Exception as error:  # of memory, most likely: the next task has the small numbers again
                report.fault(f"{task}, {worlds} worlds: {type(error).__name__}: {one_line(error)}")
                break
            gib = own["memory"] if setting.device.type == "cuda" else None
            cells = {"whole": own["whole"], "physics": own["physics"], "device_gib": gib}
            report.row("speeds", task=task, engine="warp", worlds=worlds, **cells)
            if setting.device.type == "cuda":
                torch.cuda.empty_cache()
