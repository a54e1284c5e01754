"""What named groups of an observation cost: one vector, the same entries as two groups, and a group for a critic alone.

    python -m benchmarks.groups                     # 64 envs, [64, 64], one thread: host time per iteration
    python -m benchmarks.groups --preset learner    # 4096 envs, [512, 256, 128]

All sides run in this process, interleaved round by round, on the environment of random numbers and by the measure of
`benchmarks/learner.py`. A critic of its own costs a second network: the last two sides have one, and differ in what
actors see. Ratios of medians.
"""

import argparse
import resource
import statistics
import tempfile
from dataclasses import replace

import torch

from benchmarks.learner import OBS, PRESETS, NoiseEnv, System, measure, prepare
from epo_lightning.learner.observations import Group, Groups

_SEEN = (Group("joints", OBS - 20), Group("object", 20))
_HIDDEN = (Group("joints", OBS - 20), Group("object", 20, privileged=True))
SIDES: dict[str, tuple[Groups, bool]] = {
    "one vector": ((), False),
    "two groups": (_SEEN, False),
    "a critic of its own": ((), True),
    "a critic that alone sees a group": (_HIDDEN, True),
}
"""By name: the groups, and whether the critic has a network of its own."""


class Grouped(System):
    """One agent whose environment names its groups.

    Args:
        groups: Of the observation.
        own_critic: Whether the critic has a network of its own.
        num_envs: Environments.
        hidden: Widths of the layers.
        folder: For what a training writes.
    """

    def __init__(self, groups: Groups, own_critic: bool, num_envs: int, hidden: tuple[int, ...], folder: str) -> None:
        super().__init__(num_envs, hidden, 1, 0, folder)
        self.groups = groups
        self.module.network_settings = replace(self.module.network_settings, separate_critic=own_critic)

    def _env(self, num_envs: int, device: torch.device, seed: int) -> NoiseEnv:
        env = super()._env(num_envs, device, seed)
        env.spec = replace(env.spec, groups=self.groups)
        return env


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", choices=sorted(PRESETS), default="overhead")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--iterations", type=int, default=None, help="per round; the first two are warm-up")
    parser.add_argument("--processor-time", action="store_true", help="of one thread: for machines that do other work")
    args = parser.parse_args()
    envs, hidden, iterations = prepare(args)
    seconds: dict[str, list[float]] = {name: [] for name in SIDES}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(args.rounds):
            for name, (groups, own_critic) in SIDES.items():
                seconds[name] += measure(Grouped(groups, own_critic, envs, hidden, folder), iterations)
    median = {name: statistics.median(values) for name, values in seconds.items()}
    for name, value in median.items():
        print(f"{name:34s} {value * 1e3:9.2f} ms/iteration", flush=True)
    flat, two, own, privileged = median.values()
    print(f"time of two groups against one vector: {two / flat:.3f}")
    print(f"time of a privileged group against a critic of its own that sees the same: {privileged / own:.3f}")
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB, {args.rounds} rounds")


if __name__ == "__main__":
    main()
