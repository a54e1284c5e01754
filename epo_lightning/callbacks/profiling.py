"""Where an iteration's time and memory go, for the size of network that is being trained (EPO section 5.4)."""

import copy
import json
import statistics
import sys
import time
from typing import Any

import lightning as L
import torch
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from epo_lightning.callbacks.run_files import run_file
from epo_lightning.learner.policy import Policy
from epo_lightning.limits import require_range
from epo_lightning.modules.base import PopulationCallback
from epo_lightning.run.folder import writing


class NetworkScaleProfiler(PopulationCallback):
    """Prints and writes `profile.json`: parameters, FLOPs, time per part, env steps/s and peak memory.

    While it measures, a GPU is waited for at every part's border, which slows the run a little. Parameters and FLOPs
    are those of the network that acts, forward: what learning takes beside it, such as critics of their own, is not
    counted.

    Args:
        start_iteration: Iterations to let pass first (allocators, caches, compilers warm up).
        num_iterations: Iterations to measure; medians are reported.
    """

    def __init__(self, start_iteration: int = 2, num_iterations: int = 10) -> None:
        require_range("trainer.callbacks NetworkScaleProfiler.start_iteration", start_iteration, 0)
        require_range("trainer.callbacks NetworkScaleProfiler.num_iterations", num_iterations, 1)
        self.start_iteration, self.num_iterations = start_iteration, num_iterations
        self.report: dict[str, Any] = {}
        self._seen: list[dict[str, float]] = []
        self._iterations = 0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Synchronised clocks from here on."""
        if self.module.device.type == "cuda":
            self.module.dataset.clock = _synchronised_clock
            torch.cuda.reset_peak_memory_stats()

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Take the figures of the iteration that has just ended."""
        self._take(trainer)
        self._iterations += 1

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Report what there is when the run was shorter than planned."""
        self._take(trainer)
        if not self.report:
            self._seen = self._seen or [dict(self.module.metrics)]
            self._finish(trainer)

    def _take(self, trainer: L.Trainer) -> None:
        if self._iterations > self.start_iteration and len(self._seen) < self.num_iterations:
            self._seen.append(dict(self.module.metrics))
            if len(self._seen) == self.num_iterations:
                self._finish(trainer)

    def _finish(self, trainer: L.Trainer) -> None:
        module, dataset = self.module, self.module.dataset
        dataset.clock = time.perf_counter
        median = {name: statistics.median(seen[name] for seen in self._seen) for name in self._seen[0]}
        forward = forward_flops(module.policy, dataset.env.spec.obs_dim, dataset.agent_ids)
        parts = (*dataset.seconds, "learning", "framework")
        self.report = {
            "parameters": sum(parameter.numel() for parameter in module.policy.parameters()),
            "network": module.model_settings,
            "forward_flops_per_env_step": forward,
            "flops_per_iteration": forward * dataset.forward_passes,
            "env_steps_per_second": median["charts/sps"],
            "seconds_per_iteration": {part: median[f"time/{part}"] for part in parts},
            "experience_mib": dataset.nbytes / 2**20,
            "peak_memory_mib": peak_memory_mib(module.device),
            "iterations": len(self._seen),
            "device": str(module.device),
        }
        if trainer.is_global_zero:
            path = run_file(trainer, "profile.json")
            with writing(path):
                path.write_text(json.dumps(self.report, indent=2) + "\n")
        peak = self.report["peak_memory_mib"]
        memory = "unknown here" if peak is None else f"{peak:,.0f} MiB"
        times = ", ".join(
            f"{part} {value * 1e3:.1f} ms" for part, value in self.report["seconds_per_iteration"].items()
        )
        rank_zero_info(
            f"Profile of {self.report['parameters']:,} parameters: {median['charts/sps']:,.0f} env steps/s,"
            f" {forward / 1e6:.2f} MFLOP per forward; {times}; peak memory {memory}"
        )


@torch.no_grad()
def forward_flops(policy: Policy, obs_dim: int, agents: Tensor) -> int:
    """Floating-point operations of one forward pass, per environment: what is done once per agent is shared."""
    device = policy.device
    policy = copy.deepcopy(policy).requires_grad_(False)  # the counter fails at a view of a parameter that learns
    with FlopCounterMode(display=False) as counter:
        policy.act(torch.zeros(len(agents), obs_dim, device=device), agents, policy.initial_state(len(agents), device))
    flops: int = counter.get_total_flops()
    return round(flops / len(agents))


def peak_memory_mib(device: torch.device) -> float | None:
    """The GPU's high-water mark on a GPU, else the process's resident set; None on Windows, which does not tell."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    try:
        import resource
    except ImportError:
        return None
    nbytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return nbytes / 2**20


def _synchronised_clock() -> float:
    torch.cuda.synchronize()
    return time.perf_counter()
