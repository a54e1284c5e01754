"""What batching brings CEM-RL: members that learn and act in batched products, beside a loop over them.

    python -m benchmarks.cem_rl                                    # its own nets and batch; 5 and 16 members
    python -m benchmarks.cem_rl --widths 64 64 --batch 256         # those of the pendulum
    python -m benchmarks.cem_rl --processor-time                   # on a machine that does other work

The other side is a network and an Adam for each member, and a loop over them. Both sides take turns in one process;
figures are medians. Peak memory is that of a process of its own for each side.
"""

import argparse
import multiprocessing
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import median

import torch
from torch import Tensor, nn
from torch.func import functional_call

from epo_lightning.learner.stacked import stacked_mlp
from epo_lightning.learner.stacked_actor import CEMNetworkSettings, StackedActor

OBS, ACT = 17, 6
"""Those of the half cheetah."""


def network(sizes: Sequence[int], between: type[nn.Module], *head: nn.Module) -> nn.Sequential:
    """A plain one."""
    layers = [layer for pair in pairwise(sizes) for layer in (nn.Linear(*pair), between())]
    return nn.Sequential(*layers[:-1], *head)


class Batched:
    """As the package does it."""

    def __init__(self, members: int, widths: tuple[int, ...], batch: int, envs: int) -> None:
        self.actor = StackedActor(members, OBS, ACT, CEMNetworkSettings(widths, widths)).requires_grad_(False)
        self.critics = stacked_mlp(members, OBS + ACT, widths, 1, nn.LeakyReLU).requires_grad_(False)
        self.weights = {name: nn.Parameter(each) for name, each in self.actor.weights(slice(0, members)).items()}
        self.parameters = [*self.weights.values()]
        self.adam = torch.optim.Adam(self.parameters, fused=True)
        self.obs, self.seen = torch.randn(members, batch, OBS), torch.randn(members, envs, OBS)

    def learn(self) -> None:
        """One update of every member."""
        pairs = torch.cat([self.obs, self.actor(self.obs, self.weights)], dim=-1)
        loss = -functional_call(self.critics, dict(self.critics.named_parameters()), (pairs,)).mean((1, 2)).sum()
        for parameter, gradient in zip(self.parameters, torch.autograd.grad(loss, self.parameters), strict=True):
            parameter.grad = gradient.contiguous()
        self.adam.step()

    def act(self) -> Tensor:
        """Of every member in its environments."""
        with torch.no_grad():
            actions: Tensor = self.actor(self.seen)
        return actions


class Loop:
    """One member after the other."""

    def __init__(self, members: int, widths: tuple[int, ...], batch: int, envs: int) -> None:
        self.actors = [network((OBS, *widths, ACT), nn.Tanh, nn.Tanh()) for _ in range(members)]
        critics = [network((OBS + ACT, *widths, 1), nn.LeakyReLU) for _ in range(members)]
        self.critics = [critic.requires_grad_(False) for critic in critics]
        self.adams = [torch.optim.Adam(actor.parameters(), fused=True) for actor in self.actors]
        self.obs, self.seen = torch.randn(members, batch, OBS), torch.randn(members, envs, OBS)

    def learn(self) -> None:
        """One update of every member."""
        for obs, actor, critic, adam in zip(self.obs, self.actors, self.critics, self.adams, strict=True):
            loss = -critic(torch.cat([obs, actor(obs)], dim=-1)).mean()
            adam.zero_grad()
            loss.backward()
            adam.step()

    def act(self) -> Tensor:
        """Of every member in its environments."""
        with torch.no_grad():
            return torch.stack([actor(seen) for actor, seen in zip(self.actors, self.seen, strict=True)])


def measured(work: Callable[[], object], clock: Callable[[], float], times: int) -> float:
    """Seconds of one piece of `work`, of so many in a row."""
    start = clock()
    for _ in range(times):
        work()
    return (clock() - start) / times


def grown(side: type[Batched] | type[Loop], sizes: tuple[int, tuple[int, ...], int, int]) -> float:
    """MiB by which the peak memory of this process grows."""
    before = peak_mib()
    one = side(*sizes)
    for _ in range(5):
        one.learn()
        one.act()
    return peak_mib() - before


def peak_mib() -> float:
    """Of this process alone: what `getrusage` tells is at least that of the process which started it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmHWM:"))) / 1024


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--members", type=int, nargs="+", default=[5, 16])
    parser.add_argument("--widths", type=int, nargs="*", default=[400, 300])
    parser.add_argument("--batch", type=int, default=100)
    parser.add_argument("--envs", type=int, default=4, help="environments of a member")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--times", type=int, default=20, help="updates in a row of one side")
    parser.add_argument("--processor-time", action="store_true", help="of one thread: for machines that do other work")
    args = parser.parse_args()
    if args.processor_time:
        torch.set_num_threads(1)
    clock = time.process_time if args.processor_time else time.perf_counter
    for members in args.members:
        sizes = (members, tuple(args.widths), args.batch, args.envs)
        with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
            memory = [pool.apply(grown, (side, sizes)) for side in (Batched, Loop)]
        batched, loop = Batched(*sizes), Loop(*sizes)
        works = {"learn": (batched.learn, loop.learn), "act": (batched.act, loop.act)}
        seconds: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in works}
        for number in range(args.rounds + 1):
            for name, sides in works.items():
                for work, times in zip(sides, seconds[name], strict=True):
                    took = measured(work, clock, args.times)
                    if number:  # the first round warms up
                        times.append(took)
        for name, sides_seconds in seconds.items():
            ours, theirs = (1e3 * median(times) for times in sides_seconds)
            print(f"{members} members {name}: {ours:.2f} ms batched, {theirs:.2f} ms in a loop: {theirs / ours:.2f}x")
        print(f"{members} members, peak memory more: {memory[0]:.0f} MiB batched, {memory[1]:.0f} MiB in a loop")


if __name__ == "__main__":
    main()
