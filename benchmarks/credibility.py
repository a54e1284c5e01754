"""How believable the physics is: scripted grasps, buckets and walls, objects at rest, a million random steps.

Nothing is learnt here and nothing is left out: every start of a run counts.

    python -m benchmarks.credibility grasp bucket barrier reach rest      # a few minutes
    python -m benchmarks.credibility random --tasks two_arm               # a million control steps: minutes each
    python -m benchmarks.credibility grasp --seeds 0 1 2 --json grasp.json
"""

import argparse
import json
import time
from pathlib import Path

import torch

from benchmarks.contacts import Contacts, Figures, Watch, refine
from benchmarks.scripted_runs import barrier, bucket, grasp, reach
from epo_lightning.envs.allegro_kuka import AllegroKuka
from epo_lightning.envs.allegro_kuka.cards import CARDS, STEP_SECONDS, TABLE_TOP
from epo_lightning.envs.allegro_kuka.objects import half_sizes, masses
from epo_lightning.envs.allegro_kuka.scene import DECIMATION

CPU = torch.device("cpu")


def rest(num_envs: int = 64, seconds: float = 10.0) -> Figures:
    """Objects that lie flat on the table while the robot stands still and nothing pushes them."""
    env = AllegroKuka(num_envs, CPU, 0, "two_arm", "all")
    env.reset()
    physics, half = env.physics, half_sizes(env.rules.scales).float()
    everyone, rules = torch.arange(num_envs), env.rules
    hold = rules.default.clamp(rules.low, rules.high).expand(num_envs, -1)
    spot = torch.stack([torch.zeros(num_envs), torch.zeros(num_envs), TABLE_TOP + half[:, 2]], dim=1)
    physics.place_object(everyone, spot, torch.tensor([0.0, 0.0, 0.0, 1.0]).expand(num_envs, 4))
    for _ in range(60):
        physics.step(hold)
    begin, mass = physics.state.object_pos.clone(), masses(env.rules.scales).float()
    most, contacts = torch.zeros(num_envs), Contacts(env)
    for _ in range(round(seconds / STEP_SECONDS)):
        physics.step(hold)
        most = torch.maximum(most, mass * physics.state.object_frame[:, 4:7].square().sum(dim=1) / 2)
    contacts.look()
    drift = (physics.state.object_pos - begin).norm(dim=1)
    stick = (physics.state.joint_pos - hold).abs().max()
    figures: Figures = {
        "objects": num_envs,
        "seconds": seconds,
        "largest kinetic energy J": float(most.max()),
        "largest drift mm": 1000 * float(drift.max()),
        "robot off its targets rad": float(stick),
        **contacts.figures("at rest"),
    }
    env.close()
    return figures


def random_steps(
    task: str, control_steps: int = 1_000_000, num_envs: int = 512, seed: int = 0, substeps: int = DECIMATION
) -> Figures:
    """Random actions, uniform and independent at every step."""
    env = AllegroKuka(num_envs, CPU, seed, task)
    refine(env, substeps)
    generator = torch.Generator().manual_seed(seed)
    env.reset()
    watch, begin = Watch(env), time.process_time()
    for _ in range(-(-control_steps // num_envs)):
        env.step(env.spec.random_actions(generator))
    speed = watch.steps * num_envs / (time.process_time() - begin)
    figures: Figures = {"task": task, "control steps per second of CPU": speed, **watch.figures()}
    env.close()
    return figures


def main() -> None:
    """Run what is asked for, print tables, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="+", choices=["grasp", "bucket", "barrier", "reach", "rest", "random"])
    parser.add_argument("--starts", type=int, default=60, help="random starts of a scripted run")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="of the scripted runs")
    parser.add_argument("--objects", default=None, help="object set of the grasps; default: the task's own")
    parser.add_argument("--no-forces", action="store_true", help="grasp without the task's random forces")
    parser.add_argument(
        "--substeps", type=int, default=DECIMATION, help="physics steps per control step (grasp, random)"
    )
    parser.add_argument("--tasks", nargs="+", choices=list(CARDS), default=list(CARDS), help="scenes of the random run")
    parser.add_argument("--steps", type=int, default=1_000_000, help="control steps of the random run, per scene")
    parser.add_argument("--num-envs", type=int, default=512, help="environments of the random run")
    parser.add_argument("--json", type=Path, default=None, help="where to write all figures")
    args = parser.parse_args()
    every: list[Figures] = []

    def report(title: str, figures: Figures) -> None:
        every.append({"what": title, **figures})
        print(f"\n{title}")
        for name, value in figures.items():
            print(f"  {name:<58} {value:.4g}" if isinstance(value, float) else f"  {name:<58} {value}", flush=True)
        if args.json is not None:
            args.json.write_text(json.dumps(every, indent=2) + "\n")

    for what in args.what:
        if what == "random":
            for task in args.tasks:
                report("random", random_steps(task, args.steps, args.num_envs, substeps=args.substeps))
        elif what in ("reach", "rest"):
            report(what, reach() if what == "reach" else rest())
        for seed in args.seeds if what in ("grasp", "bucket", "barrier") else ():
            if what == "grasp":
                report(what, grasp(args.starts, seed, args.objects, not args.no_forces, args.substeps))
            else:
                report(what, (bucket if what == "bucket" else barrier)(args.starts, seed))


if __name__ == "__main__":
    main()
