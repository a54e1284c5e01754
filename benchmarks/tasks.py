"""Env steps per second of processor time of the small tasks, with random actions, resets included.

Torch and MuJoCo have one thread each.

    python -m benchmarks.tasks
    python -m benchmarks.tasks --tasks AntTrap
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch

from epo_lightning.envs.base import VectorEnv
from epo_lightning.envs.bodies import AntTrap, BallInCup, KukaReach
from epo_lightning.envs.classic import (
    CartpoleSwingup,
    MountainCar,
    Pendulum,
    PendulumSwingup,
    PointMaze,
    TwoGoals,
    WallMaze,
)

TASKS: dict[str, tuple[Callable[..., VectorEnv], int, int]] = {
    **{task.__name__: (task, 2048, 200) for task in (WallMaze, PointMaze, TwoGoals, MountainCar)},
    **{task.__name__: (task, 2048, 200) for task in (Pendulum, PendulumSwingup, CartpoleSwingup)},
    **{task.__name__: (task, 512, 40) for task in (BallInCup, AntTrap, KukaReach)},
}
"""By name: the class, environments, env steps of each of them in a round."""


def speed(name: str, rounds: int) -> float:
    """Median over `rounds` of env steps per second of processor time."""
    make, num_envs, steps = TASKS[name]
    threads = {"threads": 1} if make in (BallInCup, AntTrap, KukaReach) else {}
    env = make(num_envs, torch.device("cpu"), 0, **threads)
    env.reset()
    generator, found = torch.Generator().manual_seed(0), []
    for _ in range(rounds):
        actions = torch.rand(steps, num_envs, env.spec.act_dim, generator=generator) * 2.0 - 1.0
        begun = time.process_time()
        for row in actions:
            env.step(row)
        found.append(num_envs * steps / (time.process_time() - begun))
    env.close()
    return statistics.median(found)


def main() -> None:
    """Print a line for each task."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", choices=[*TASKS], default=[*TASKS])
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(1)
    for name in args.tasks:
        print(f"{name:16} {TASKS[name][1]:5} envs {speed(name, args.rounds):12,.0f} env steps/s")


if __name__ == "__main__":
    main()
