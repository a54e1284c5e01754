"""What it costs that an environment lives in another process: `WorkerEnv` against the same environment in this one.

    python benchmarks/worker.py                              # 4096 envs, 200 observations, 23 actions
    python benchmarks/worker.py --python ~/envs/rlgpu/bin/python
    python benchmarks/worker.py --soak 100000                # memory of both processes before and after

Both sides alternate in this process, 50 steps each; every step ends with a copy of the observation, as a rollout makes
one. The environment does nothing but hand over numbers that it has: all of the difference is the way to the other
process and back. Medians.
"""

from __future__ import annotations  # Python 3.8 reads this file, too

import argparse
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

OBS, ACT, ROUND = 200, 23, 50
REAL_STEP = 20.0
"""Milliseconds of a simulator's step, for comparison."""
WARM_UP = 2000


class Store:
    """An adapter that hands out random numbers from a small store."""

    obs_dim, act_dim, name = OBS, ACT, "Store"

    def __init__(self, num_envs: int, seed: int) -> None:
        random = np.random.default_rng(seed)
        self.num_envs, self.clock = num_envs, 0
        self.obs: np.ndarray = random.standard_normal((8, num_envs, OBS), np.float32)
        self.rewards = random.standard_normal((8, num_envs), np.float32)
        self.terminated, self.truncated = random.random((2, 8, num_envs)) < 0.005

    def reset(self) -> np.ndarray:
        """The first observations."""
        first: np.ndarray = self.obs[0]
        return first

    def step(self, actions: np.ndarray) -> tuple[Any, ...]:  # noqa: ARG002  (what an adapter is given)
        """The next of eight steps."""
        self.clock = i = (self.clock + 1) % 8
        extras = {"final_obs": self.obs[i], "log": {"speed": self.rewards[i]}}
        return self.obs[i], self.rewards[i], self.terminated[i], self.truncated[i], extras


def store(num_envs: int, seed: int) -> Store:
    """The factory on the other side; this file is read there, too, and needs numpy only."""
    return Store(num_envs, seed)


def compare(python: str, num_envs: int, rounds: int) -> None:
    """Print the medians of both sides."""
    import torch

    from epo_lightning.envs.worker import WorkerEnv

    here = Store(num_envs, 0)
    there = WorkerEnv(num_envs, torch.device("cpu"), 0, python, f"{__file__}:store", {})
    actions, kept = torch.zeros(num_envs, ACT), torch.zeros(num_envs, OBS)

    def step_here() -> None:
        obs, *_ = here.step(actions.numpy())
        kept.copy_(torch.from_numpy(obs))

    def step_there() -> None:
        kept.copy_(there.step(actions).obs)

    times: dict[str, list[float]] = {"in process": [], "worker": []}
    for number in range(rounds + 1):
        for name, step in (("in process", step_here), ("worker", step_there)):
            for _ in range(ROUND):
                start = time.perf_counter()
                step()
                if number:  # the first round warms up
                    times[name].append(1e3 * (time.perf_counter() - start))
    there.close()
    medians = {name: statistics.median(each) for name, each in times.items()}
    overhead = medians["worker"] - medians["in process"]
    print(f"{num_envs} envs, {OBS} observations, {ACT} actions; {rounds * ROUND} steps of each side; {python}")
    for name, median in medians.items():
        print(f"  {name:<11}{median:7.3f} ms per step")
    print(f"  overhead   {overhead:7.3f} ms per step: {overhead / REAL_STEP:.1%} of a step of {REAL_STEP:g} ms")


def resident(pid: int) -> int:
    """KiB of a process in memory."""
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1])


def soak(python: str, steps: int) -> None:
    """Print the memory of both processes before and after many steps, and whether /dev/shm has changed."""
    import torch

    from epo_lightning.envs.worker import WorkerEnv

    files = sorted(os.listdir("/dev/shm"))
    env = WorkerEnv(4, torch.device("cpu"), 0, python, f"{__file__}:store", {})
    actions = torch.zeros(4, ACT)
    processes = {"learner": os.getpid(), "worker": env.worker.pid}
    env.reset()
    for _ in range(WARM_UP):
        env.step(actions)
    before = {name: resident(pid) for name, pid in processes.items()}
    start = time.perf_counter()
    for number in range(steps):
        env.step(actions)
        if number % 1000 == 0:
            env.state_dict()
    seconds = time.perf_counter() - start
    after = {name: resident(pid) for name, pid in processes.items()}
    env.close()
    print(f"{steps} steps of 4 envs in {seconds:.0f} s ({1e6 * seconds / steps:.0f} us each); {python}")
    for name in processes:
        print(f"  {name:<8}{before[name]} KiB -> {after[name]} KiB ({after[name] - before[name]:+d})")
    print(f"  /dev/shm {'unchanged' if sorted(os.listdir('/dev/shm')) == files else 'has changed'}")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--python", default=sys.executable, help="interpreter of the other side")
    parser.add_argument("--envs", type=int, default=4096)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--soak", type=int, default=0, help="steps of a soak test in place of the comparison")
    args = parser.parse_args()
    if args.soak:
        soak(args.python, args.soak)
    else:
        compare(args.python, args.envs, args.rounds)


if __name__ == "__main__":
    main()
