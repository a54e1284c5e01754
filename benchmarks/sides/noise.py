"""What every side of `benchmarks/peers.py` has in common: the environment, its clock, and what is told at the end.

Needs torch alone, since it is imported where a peer is installed and this package is not.
"""

import json
import resource
import sys
import time
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

OBS, ACT, HORIZON, EPOCHS, MINIBATCHES = 100, 23, 16, 4, 4


def given() -> dict[str, Any]:
    """The job: `envs`, `hidden`, `iterations`, `threads`, `processor_time`, `compile`, `folder`, and more of a side."""
    job: dict[str, Any] = json.loads(sys.argv[1])
    torch.set_num_threads(job["threads"])
    torch.manual_seed(0)
    return job


class Noise:
    """Random observations and rewards from a small store; the clock is read at the beginning of every iteration."""

    def __init__(self, job: dict[str, Any]) -> None:
        self.num_envs: int = job["envs"]
        self.clock = time.process_time if job["processor_time"] else time.perf_counter
        self.obs, self.reward = torch.randn(8, self.num_envs, OBS), torch.randn(8, self.num_envs)
        self.done = torch.rand(8, self.num_envs) < 0.01
        self.steps = 0
        self.times: list[float] = []

    def first(self) -> Tensor:
        """Observations of the first step."""
        return self.obs[0]

    def next(self) -> tuple[Tensor, Tensor, Tensor]:
        """Observations, rewards and ends of the next step."""
        if self.steps % HORIZON == 0:
            self.times.append(self.clock())
        self.steps += 1
        i = self.steps % 8
        return self.obs[i], self.reward[i], self.done[i]


def tell(times: list[float], warm_up: int) -> None:
    """Print seconds of each iteration, but of the first ones, and the peak memory, as the last line."""
    seconds = [b - a for a, b in pairwise(times)][warm_up:]
    mebibytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print("\n" + json.dumps({"seconds": seconds, "peak_mib": round(mebibytes)}), flush=True)


def rl_games_settings(job: dict[str, Any]) -> dict[str, Any]:
    """The `config` of rl_games, and of what was made from it: what both have in common."""
    return {
        "env_name": "noise",
        "device": "cpu",
        "ppo": True,
        "normalize_input": True,
        "normalize_value": True,
        "normalize_advantage": True,
        "num_actors": job["envs"],
        "reward_shaper": {"scale_value": 1.0},
        "gamma": 0.99,
        "tau": 0.95,
        "learning_rate": 0.0003,
        "lr_schedule": "adaptive",
        "kl_threshold": 0.016,
        "max_epochs": job["iterations"],
        "save_best_after": 10**9,
        "print_stats": False,
        "grad_norm": 1.0,
        "truncate_grads": True,
        "entropy_coef": 0.0,
        "e_clip": 0.2,
        "clip_value": True,
        "critic_coef": 2.0,
        "bounds_loss_coef": 0.0001,
        "horizon_length": HORIZON,
        "minibatch_size": job["envs"] * HORIZON // MINIBATCHES,
        "mini_epochs": EPOCHS,
    }
