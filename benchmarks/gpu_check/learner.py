"""Milliseconds of an iteration of the learner: plain, compiled, and recorded as CUDA graphs."""

import statistics
import time
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

import lightning as L
import torch

from benchmarks.gpu_check.sizes import Sizes
from benchmarks.gpu_check.stage import Report, Setting
from benchmarks.learner import HORIZON, NoiseEnv
from epo_lightning.algorithm.losses import LossSettings
from epo_lightning.cli.doctor.finding import one_line
from epo_lightning.experience.settings import RolloutSettings
from epo_lightning.learner.networks import NetworkSettings
from epo_lightning.learner.optimizer import GeneOptimizerSettings
from epo_lightning.modules.data import RolloutDataModule
from epo_lightning.modules.epo import EPOModule

Ways = dict[str, Mapping[str, Any]]
WARM = 3
"""Iterations before the first one that is timed: kernels are chosen, code is compiled, graphs are recorded."""


def ways(sizes: Sizes, device: torch.device) -> Ways:
    """What is compared, what takes longest last: arguments of the module."""
    plain: Ways = {"eager": {"cuda_graphs": False}, "CUDA graph": {}} if device.type == "cuda" else {"eager": {}}
    return {**plain, **({"compiled": {"compile": "always"}} if sizes.compiles else {})}


def milliseconds(
    learner: tuple[int, int, tuple[int, ...], int],
    settings: Mapping[str, Any],
    device: torch.device,
    iterations: int,
) -> list[float]:
    """Of each timed iteration, on random observations and rewards."""
    num_envs, agents, hidden, units = learner
    network = NetworkSettings(gene_dim=32, hidden=hidden, lstm_units=units or None)
    rollout = RolloutSettings(horizon=HORIZON, num_epochs=4, num_minibatches=4)
    module = EPOModule(agents, network, LossSettings(), GeneOptimizerSettings(), rollout, **settings)
    envs: list[NoiseEnv] = []

    def make(num_envs: int, device: torch.device, seed: int) -> NoiseEnv:
        envs.append(NoiseEnv(num_envs, device, seed))
        return envs[-1]

    NoiseEnv.clock = clock_of(device)
    trainer = L.Trainer(
        accelerator="gpu" if device.type == "cuda" else "cpu",
        devices=[device.index or 0] if device.type == "cuda" else 1,
        max_epochs=WARM + iterations + 1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=0,
    )
    trainer.fit(module, RolloutDataModule(make, num_envs))
    if "compile" in settings and not module.compilation.compiled:
        raise RuntimeError("it could not be compiled: the warning above says why")
    return [1e3 * (b - a) for a, b in pairwise(envs[-1].times[WARM:])]


def clock_of(device: torch.device) -> Callable[[], float]:
    """Seconds, once the device has done what it was given."""
    if device.type != "cuda":
        return time.perf_counter

    def clock() -> float:
        torch.cuda.synchronize(device)
        return time.perf_counter()

    return clock


def find_out(setting: Setting, report: Report) -> None:
    """Every size in every way; one that fails costs its own row."""
    for name, settings in ways(setting.sizes, setting.device).items():
        for learner in setting.sizes.learners:
            num_envs, agents, hidden, units = learner
            size = {"envs": num_envs, "agents": agents, "hidden": list(hidden), "lstm": units, "way": name}
            try:
                each = milliseconds(learner, settings, setting.device, setting.sizes.iterations)
            except Exception as error:
                report.fault(
                    f"{name}, {num_envs} environments, LSTM {units}: {type(error).__name__}: {one_line(error)}"
                )
                continue
            middle = statistics.median(each)
            steps = num_envs * HORIZON / middle * 1e3
            report.row("times", **size, milliseconds=middle, fastest=min(each), env_steps_per_second=steps)
