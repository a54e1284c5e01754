"""How much of the raw physics speed the whole environment keeps.

Interleaves, in one process, (A) a bare `mujoco.batch` loop on the task's scene with random targets and (B) the whole
environment with random actions: physics, rules, resets, observations. A resets the environments whose object has
fallen, as B does. Both see the same machine noise, so their ratio can be read on a busy machine.

    python benchmarks/physics.py --num-envs 512 --steps 300
"""

import argparse
import resource
import statistics
import time

import numpy as np
import torch
from mujoco import mjtStage

from epo_lightning.envs.allegro_kuka import AllegroKuka
from epo_lightning.envs.allegro_kuka.resets import Start
from epo_lightning.envs.allegro_kuka.scene import DECIMATION
from epo_lightning.envs.allegro_kuka.task import FALLEN
from epo_lightning.physics.mujoco import MujocoPhysics


class Stopwatch:
    """Adds up the time spent in methods of an object, call by call."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def watch(self, owner: object, method: str, name: str) -> None:
        """Count the calls of `owner.method` under `name`."""
        call = getattr(owner, method)

        def timed(*args: object) -> object:
            start = time.perf_counter()
            result = call(*args)
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start
            return result

        setattr(owner, method, timed)


def bare_step(physics: MujocoPhysics, targets: torch.Tensor, forces: torch.Tensor | None, start: Start) -> None:
    """One control step, and resets of the environments whose object has fallen, with nothing but the engine.

    Targets, forces and starts are those of the task, drawn before the clock runs: the engine has the same contacts to
    solve as in B. Without the resets the objects would fall for ever.
    """
    batch, joints = physics.batch, targets.shape[1]
    qpos, qvel = batch.bind("qpos"), batch.bind("qvel")
    batch.bind("ctrl")[:] = targets.numpy()
    if forces is not None:
        batch.bind("xfrc_applied")[:, physics.model.body("object").id, :3] = forces.numpy()
    batch.step(nstep=DECIMATION, stage=mjtStage.mjSTAGE_VEL)
    ids = np.flatnonzero(qpos[:, joints + 2] < FALLEN)
    if len(ids):
        batch.reset(ids, stage=mjtStage.mjSTAGE_NONE)
        qpos[ids, :joints], qvel[ids, :joints] = start.joint_pos[ids].numpy(), start.joint_vel[ids].numpy()
        qpos[ids, joints : joints + 3] = start.object_pos[ids].numpy()
        qpos[ids, joints + 3 : joints + 7] = start.object_quat[ids].roll(1, dims=1).numpy()
        batch.forward(ids, stage=mjtStage.mjSTAGE_VEL)


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", default="two_arm")
    parser.add_argument("--num-envs", type=int, default=512)
    parser.add_argument("--steps", type=int, default=300, help="measured steps")
    parser.add_argument("--warmup", type=int, default=50, help="steps before measuring")
    parser.add_argument("--threads", type=int, default=None, help="physics threads, default: all cores")
    parser.add_argument("--torch-threads", type=int, default=None, help="default: as torch chooses")
    args = parser.parse_args()
    if args.torch_threads:
        torch.set_num_threads(args.torch_threads)

    device = torch.device("cpu")
    bare, env = (AllegroKuka(args.num_envs, device, seed, args.task, threads=args.threads) for seed in (0, 1))
    bare.reset()
    env.reset()
    start = bare.rules.restart(torch.arange(args.num_envs))
    watch = Stopwatch()
    watch.watch(env.physics, "step", "physics")
    watch.watch(env, "_restart", "resets")
    times: dict[str, list[float]] = {"A": [], "B": []}
    for step in range(args.warmup + args.steps):
        if step == args.warmup:
            times = {"A": [], "B": []}
            watch.seconds.clear()
        actions = 2 * torch.rand(args.num_envs, env.spec.act_dim) - 1
        targets = bare.rules.targets(actions)
        forces = bare.rules.forces(bare.physics.state.object_frame[:, :4])
        t0 = time.perf_counter()
        bare_step(bare.physics, targets, forces, start)
        t1 = time.perf_counter()
        env.step(actions)
        t2 = time.perf_counter()
        times["A"].append(t1 - t0)
        times["B"].append(t2 - t1)

    median = {name: statistics.median(values) for name, values in times.items()}
    speed = {name: args.num_envs / value for name, value in median.items()}
    total = sum(times["B"])
    split = {name: seconds / total for name, seconds in watch.seconds.items()}
    print(f"{args.task}, {args.num_envs} environments, {env.physics.batch.nthread} physics threads,", end=" ")
    print(f"{torch.get_num_threads()} torch threads, {args.steps} steps")
    print(f"A bare physics       {speed['A']:9.0f} control steps/s (median)")
    print(f"B whole environment  {speed['B']:9.0f} control steps/s (median)")
    print(f"ratio B/A            {speed['B'] / speed['A']:9.3f}")
    print(f"time of B: physics {split['physics']:.1%}, resets {split.get('resets', 0.0):.1%},", end=" ")
    print(f"rules and observation {1 - sum(split.values()):.1%}")
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB (both environments)")


if __name__ == "__main__":
    main()
