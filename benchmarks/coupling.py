"""What coupling the followers to the master costs: CPO beside SAPG, the same population in one process.

    python -m benchmarks.coupling                       # 4,096 envs, 64 agents, [512, 256, 128]
    python -m benchmarks.coupling --processor-time      # on a machine that does other work

Both run in turns on the environment of random numbers of `benchmarks/learner.py`, which costs next to nothing, so that
what is told is the most that coupling can cost.
"""

import argparse
import dataclasses
import logging
import statistics
import tempfile
import time
import warnings

import torch

from benchmarks.learner import PRESETS, NoiseEnv, System, measure
from epo_lightning.cli.process_settings import keep_freed_memory
from epo_lightning.modules.epo import EPOModule


def system(num_envs: int, hidden: tuple[int, ...], agents: int, followers: int, folder: str) -> System:
    """The whole package with so many coupled followers for each of the master's environments; 0 for SAPG."""
    side = System(num_envs, hidden, agents, 32, folder)
    plain = side.module
    side.module = EPOModule(
        agents,
        plain.network_settings,
        dataclasses.replace(plain.loss_settings, coupling_coefficient=1e-3 if followers else 0.0),
        plain.optimizer_settings,
        dataclasses.replace(plain.rollout_settings, coupling_followers=max(followers, 1)),
    )
    return side


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--agents", type=int, default=64)
    parser.add_argument("--followers", type=int, nargs="+", default=[5])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--iterations", type=int, default=5, help="per round; the first two are warm-up")
    parser.add_argument("--processor-time", action="store_true", help="of one thread: for machines that do other work")
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    envs, hidden, threads = PRESETS["learner"]
    torch.set_num_threads(1 if args.processor_time else threads)
    if args.processor_time:
        NoiseEnv.clock = time.process_time
    keep_freed_memory()
    seconds: dict[int, list[float]] = {followers: [] for followers in (0, *args.followers)}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(args.rounds):
            for followers, times in seconds.items():
                times += measure(system(envs, hidden, args.agents, followers, folder), args.iterations)
    sapg = statistics.median(seconds.pop(0))
    print(f"SAPG, K={args.agents}: {sapg * 1e3:.0f} ms/iteration")
    for followers, times in seconds.items():
        cpo = statistics.median(times)
        print(f"CPO, {followers} followers: {cpo * 1e3:.0f} ms/iteration, {cpo / sapg:.3f} times SAPG's", flush=True)


if __name__ == "__main__":
    main()
