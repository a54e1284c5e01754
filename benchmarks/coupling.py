"""What coupling the followers to the master costs, and rewarding them for being told apart: CPO beside SAPG.

    python -m benchmarks.coupling                       # 4,096 envs, 64 agents, [512, 256, 128]
    python -m benchmarks.coupling --processor-time      # on a machine that does other work
    python -m benchmarks.coupling --classifier 128 128  # also with the diversity reward, its classifier so wide

All sides have the same population and run in one process, in turns, on the environment of random numbers of
`benchmarks/learner.py`, which costs next to nothing, so that what is told is the most that coupling can cost.
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
from epo_lightning.algorithm.diversity import DiversitySettings
from epo_lightning.cli.process_settings import keep_freed_memory
from epo_lightning.modules.epo import EPOModule


def system(
    num_envs: int, hidden: tuple[int, ...], agents: int, followers: int, classifier: tuple[int, ...], folder: str
) -> System:
    """The whole package with so many coupled followers for each of the master's environments; 0 for SAPG.

    With widths of a `classifier`, followers are rewarded for being told apart.
    """
    side = System(num_envs, hidden, agents, 32, folder)
    plain = side.module
    side.module = EPOModule(
        agents,
        plain.network_settings,
        dataclasses.replace(plain.loss_settings, coupling_coefficient=1e-3 if followers else 0.0),
        plain.optimizer_settings,
        dataclasses.replace(plain.rollout_settings, coupling_followers=max(followers, 1)),
        DiversitySettings(0.01, classifier) if classifier else DiversitySettings(),
    )
    return side


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--agents", type=int, default=64)
    parser.add_argument("--followers", type=int, nargs="+", default=[5])
    parser.add_argument("--classifier", type=int, nargs="+", default=[], help="widths; none: no diversity reward")
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
    sides: list[tuple[int, tuple[int, ...]]] = [(followers, ()) for followers in (0, *args.followers)]
    if args.classifier:
        sides.append((args.followers[0], tuple(args.classifier)))
    seconds: dict[tuple[int, tuple[int, ...]], list[float]] = {side: [] for side in sides}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(args.rounds):
            for side, times in seconds.items():
                times += measure(system(envs, hidden, args.agents, *side, folder), args.iterations)
    sapg = statistics.median(seconds.pop((0, ())))
    print(f"SAPG, K={args.agents}: {sapg * 1e3:.0f} ms/iteration")
    for (followers, classifier), times in seconds.items():
        cpo = statistics.median(times)
        name = f"CPO, {followers} followers" + (f", diversity by a classifier {classifier}" if classifier else "")
        print(f"{name}: {cpo * 1e3:.0f} ms/iteration, {cpo / sapg:.3f} times SAPG's", flush=True)


if __name__ == "__main__":
    main()
