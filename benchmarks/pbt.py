"""Eight policies in one training beside eight trainings of one policy, one after another.

    python -m benchmarks.pbt                                # 64 environments of each policy, [64, 64]
    python -m benchmarks.pbt --envs 4096 --hidden 512 256 128 --rounds 2 --iterations 3
    python -m benchmarks.pbt --processor-time               # on a machine that does other work

All sides run in this process, in turns, on the environment of random numbers of `benchmarks/learner.py`, which costs
next to nothing, so that it is learners that are compared: `pbt` with all policies, `pbt` with one, and PPO (`epo` with
one agent and no gene). Each is the whole system: Trainer, callbacks, metrics.csv. What is told is how long the eight
trainings take in the median of their iterations, as a multiple of what the one of eight policies takes. Peak memory is
that of a process of its own for each side, forked before anything is measured.
"""

import argparse
import logging
import multiprocessing
import resource
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable

import torch

from benchmarks.learner import EPOCHS, HORIZON, MINIBATCHES, NoiseEnv, System, measure
from epo_lightning.cli.process_settings import keep_freed_memory
from epo_lightning.experience.settings import OnPolicySettings
from epo_lightning.learner.actor_critic import ActorCriticSettings
from epo_lightning.modules.pbt import PBTModule


def batched(policies: int, envs: int, args: argparse.Namespace, folder: str) -> System:
    """So many policies in one training, with `envs` environments each."""
    side = System(policies * envs, tuple(args.hidden), 1, 0, folder)
    network = ActorCriticSettings(tuple(args.hidden), lstm_units=args.lstm)
    rollout = OnPolicySettings(horizon=HORIZON, num_epochs=EPOCHS, num_minibatches=MINIBATCHES)
    side.module = PBTModule(policies, network, rollout=rollout)  # type: ignore[assignment]
    return side


def plain(envs: int, args: argparse.Namespace, folder: str) -> System:
    """PPO: one agent without a gene."""
    side = System(envs, tuple(args.hidden), 1, 0, folder)
    if args.lstm:
        side.module = type(side.module)(
            1,
            type(side.module.network_settings)(tuple(args.hidden), lstm_units=args.lstm, gene_dim=0),
            side.module.loss_settings,
            side.module.optimizer_settings,
            side.module.rollout_settings,
        )
    return side


def peak_memory(build: Callable[[], System]) -> float:
    """MiB that a process takes which trains for two iterations."""
    context = multiprocessing.get_context("fork")
    told = context.SimpleQueue()

    def child() -> None:
        build().run(2)
        told.put(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)

    process = context.Process(target=child)
    process.start()
    process.join()
    return float(told.get())


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--policies", type=int, default=8)
    parser.add_argument("--envs", type=int, default=64, help="of each policy")
    parser.add_argument("--hidden", type=int, nargs="+", default=[64, 64])
    parser.add_argument("--lstm", type=int, default=None, help="units")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--iterations", type=int, default=20, help="per round; the first two are warm-up")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--processor-time", action="store_true", help="for machines that do other work")
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    torch.set_num_threads(args.threads)
    if args.processor_time:
        NoiseEnv.clock = time.process_time
    keep_freed_memory()
    with tempfile.TemporaryDirectory() as folder:
        sides: dict[str, Callable[[], System]] = {
            f"pbt, {args.policies} policies": lambda: batched(args.policies, args.envs, args, folder),
            "pbt, 1 policy": lambda: batched(1, args.envs, args, folder),
            "epo, 1 agent (PPO)": lambda: plain(args.envs, args, folder),
        }
        memory = {name: peak_memory(build) for name, build in sides.items()}
        seconds: dict[str, list[float]] = {name: [] for name in sides}
        for _ in range(args.rounds):
            for name, build in sides.items():
                seconds[name] += measure(build(), args.iterations)
    all_at_once, *alone = seconds
    together = statistics.median(seconds[all_at_once])
    samples = args.policies * args.envs * HORIZON
    size = f"{args.hidden}, {'no LSTM' if args.lstm is None else f'LSTM {args.lstm}'}"
    print(f"{args.policies} policies x {args.envs} environments, {size}, {args.threads} thread(s)")
    line = f"{all_at_once:20} {together * 1e3:9.1f} ms, {samples / together:9,.0f} env steps/s"
    print(f"{line}, peak memory {memory[all_at_once]:,.0f} MiB")
    for name in alone:
        one_by_one = args.policies * statistics.median(seconds[name])
        line = (
            f"{name:20} {one_by_one * 1e3:9.1f} ms for {args.policies} runs, {samples / one_by_one:9,.0f} env steps/s"
        )
        print(f"{line}, peak memory {memory[name]:,.0f} MiB; {one_by_one / together:.2f} times as long")


if __name__ == "__main__":
    main()
