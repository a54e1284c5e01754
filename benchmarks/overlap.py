"""What threads bring to the physics, and what double buffering brings to a rollout.

(1) `mujoco.batch` steps of one scene by one thread, by all, and by all on cores of their own, in turns; how much of an
env step is physics says what threads can bring to the whole of it. (2) Rollouts without halves, with one half after the
other, and with both at once, in turns. The network stands on this CPU, or, with `--device-ms`, for one on a GPU: its
answer then takes so long, half of it for half of the environments, in which the host only waits.

    python -m benchmarks.overlap --json benchmarks/results/overlap.json      # under a minute
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from mujoco import mjtStage

from epo_lightning.algorithm.population import Population
from epo_lightning.envs.allegro_kuka import AllegroKuka
from epo_lightning.envs.allegro_kuka.scene import DECIMATION
from epo_lightning.envs.base import VectorEnv
from epo_lightning.envs.halves import Halves, in_halves
from epo_lightning.experience.on_policy import OnPolicyDataset
from epo_lightning.experience.rollout import RolloutDataset
from epo_lightning.experience.settings import RolloutSettings
from epo_lightning.experience.world import World
from epo_lightning.learner.networks import LatentActorCritic, NetworkSettings
from epo_lightning.physics.mujoco import MujocoPhysics
from epo_lightning.physics.threads import Choice, default_threads, new_batch

CPU = torch.device("cpu")


def scaling(args: argparse.Namespace) -> dict[str, float]:
    """Milliseconds of a control step of the physics by who steps; each side simulates the same."""
    env = AllegroKuka(args.num_envs, CPU, 0, args.task, threads=1)
    env.reset()
    assert isinstance(env.physics, MujocoPhysics)
    most = default_threads()
    choices = {"1 thread": Choice(1)}
    if most > 1:
        choices |= {f"{most} threads": Choice(most), f"{most} threads, pinned": Choice(most, pinned=True)}
    batches = {name: new_batch(env.physics.model, args.num_envs, choice) for name, choice in choices.items()}
    for copies in batches.values():
        copies.state[:] = env.physics.batch.state
    times: dict[str, list[float]] = {name: [] for name in batches}
    generator = torch.Generator().manual_seed(1)
    for step in range(args.steps + 5):
        targets = env.rules.targets(env.spec.random_actions(generator)).numpy()
        for name, copies in batches.items():
            copies.bind("ctrl")[:] = targets
            start = time.perf_counter()
            copies.step(nstep=DECIMATION, stage=mjtStage.mjSTAGE_VEL)
            if step >= 5:
                times[name].append(1000 * (time.perf_counter() - start))
    env.close()
    return {name: statistics.median(each) for name, each in times.items()}


class OnDevice(LatentActorCritic):
    """The network, whose answer takes as long as a device would need for it; the host only waits."""

    seconds_per_row = 0.0

    def forward(self, obs: torch.Tensor, *rest: Any, **more: Any) -> Any:  # noqa: ANN401  (as the network's own)
        """As the network's, later."""
        time.sleep(self.seconds_per_row * len(obs))
        return super().forward(obs, *rest, **more)


def rollouts(args: argparse.Namespace, device_ms: float) -> dict[str, float]:
    """Milliseconds of an env step by how the environments step."""

    def build(num_envs: int, seed: int) -> VectorEnv:
        return AllegroKuka(num_envs, CPU, seed, args.task, threads=args.threads)

    envs: dict[str, VectorEnv] = {
        "whole": build(args.num_envs, 0),
        "one half after the other": in_halves(build, args.num_envs, (0, 1), overlap=False),
        "both at once": in_halves(build, args.num_envs, (0, 1)),
    }
    population = Population(args.agents, args.num_envs)
    datasets: dict[str, OnPolicyDataset] = {}
    for name, env in envs.items():
        torch.manual_seed(0)
        hidden = (16,) if device_ms else tuple(args.hidden)
        settings = NetworkSettings(gene_dim=8, hidden=hidden)
        policy = OnDevice(env.spec.obs_dim, env.spec.act_dim, args.agents, settings)
        policy.seconds_per_row = device_ms / 1000 / args.num_envs
        datasets[name] = RolloutDataset(World(env, CPU), policy, population, RolloutSettings(horizon=16))
    times: dict[str, list[float]] = {name: [] for name in envs}
    for rollout in range(args.rollouts + 1):
        for name, dataset in datasets.items():
            next(iter(dataset))
            if rollout:
                parts = dataset.seconds
                times[name].append(1000 * (parts["env"] + parts["inference"]) / dataset.settings.horizon)
    for env in envs.values():
        env.close()
    assert isinstance(envs["both at once"], Halves)
    return {name: statistics.median(each) for name, each in times.items()}


def told(title: str, figures: dict[str, float]) -> None:
    """One line."""
    first = next(iter(figures.values()))
    print(
        title, "; ".join(f"{name} {value:.1f} ms ({first / value:.2f}x)" for name, value in figures.items()), flush=True
    )


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", default="single_arm_reorient")
    parser.add_argument("--num-envs", type=int, default=512)
    parser.add_argument("--agents", type=int, default=4)
    parser.add_argument("--hidden", type=int, nargs="+", default=[512, 256, 128])
    parser.add_argument("--threads", type=int, default=None, help="of the physics in rollouts; default all cores")
    parser.add_argument("--steps", type=int, default=60, help="of the scaling")
    parser.add_argument("--rollouts", type=int, default=4)
    parser.add_argument("--device-ms", type=float, nargs="*", default=[0.0, 5.0, 20.0], help="of an answer for all")
    parser.add_argument("--json", type=Path, default=None, help="add the figures of this run to the list there")
    args = parser.parse_args()
    torch.set_num_threads(1)
    result: dict[str, Any] = {"settings": {name: value for name, value in vars(args).items() if name != "json"}}
    parts: dict[str, Callable[[], dict[str, float]]] = {"physics": lambda: scaling(args)}
    for device_ms in args.device_ms:
        title = f"rollout, network on a device, {device_ms:g} ms" if device_ms else "rollout, network on this CPU"
        parts[title] = lambda device_ms=device_ms: rollouts(args, device_ms)  # type: ignore[misc]
    for title, part in parts.items():
        result[title] = part()
        told(f"{title}:", result[title])
    if args.json is not None:
        runs = json.loads(args.json.read_text()) if args.json.exists() else []
        args.json.write_text(json.dumps([*runs, result], indent=1) + "\n")


if __name__ == "__main__":
    main()
