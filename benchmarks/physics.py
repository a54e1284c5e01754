"""How much of the raw physics speed the whole environment keeps, and what an environment costs in memory.

In one process: (B) the whole environment (physics, rules, resets, observations), (A) a bare `mujoco.batch` loop that
replays B's targets, forces, objects and resets and so simulates exactly the same contacts, and (C) the same loop with
one object geometry shared by all environments. Steps of A, B and C alternate: all see the same machine noise, so their
ratios can be read on a busy machine.

    python benchmarks/physics.py                                     # all eight tasks, 512 environments
    python benchmarks/physics.py --tasks two_arm --num-envs 4096 --steps 60
    python benchmarks/physics.py --grip                              # a scripted controller grasps: more contacts
    python benchmarks/physics.py --memory                            # bytes per environment
    python benchmarks/physics.py --threads 1 --processor-time --json benchmarks/results/physics.json
"""

import argparse
import json
import multiprocessing
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import psutil
import torch
from mujoco import batch, mjtStage
from torch import Tensor

from epo_lightning.algorithm.population import Population
from epo_lightning.envs.allegro_kuka import AllegroKuka
from epo_lightning.envs.allegro_kuka.cards import CARDS
from epo_lightning.envs.allegro_kuka.scene import DECIMATION
from epo_lightning.experience.buffer import RolloutBuffer, RolloutShape
from epo_lightning.physics.mujoco import MujocoPhysics

HORIZON = 16
T = TypeVar("T")
Call = tuple[str, tuple[Tensor | None, ...]]
"""Name of a method of an engine, and its arguments."""


def engine_of(env: AllegroKuka) -> MujocoPhysics:
    """The engine of an environment on the CPU."""
    assert isinstance(env.physics, MujocoPhysics)
    return env.physics


class Recorder:
    """Runs an environment, and keeps what it asked its engine to do and how long that took."""

    def __init__(self, env: AllegroKuka, clock: Callable[[], float]) -> None:
        self.env, self.clock = env, clock
        self.calls: list[Call] = []
        self.recording = 0.0
        self.seconds = {"physics": 0.0, "resets": 0.0}
        self._watch("step", "physics")
        for method in ("reset", "place_object", "place_goal"):
            self._watch(method, "resets")

    def _watch(self, method: str, name: str) -> None:
        call = getattr(self.env.physics, method)

        def recorded(*args: Tensor) -> object:
            before = self.clock()
            self.calls.append((method, tuple(None if arg is None else arg.clone() for arg in args)))
            start = self.clock()
            self.recording += start - before
            result = call(*args)
            self.seconds[name] += self.clock() - start
            return result

        setattr(self.env.physics, method, recorded)

    def step(self, actions: Tensor) -> float:
        """One env step; returns its seconds, without those of the recording."""
        self.calls.clear()
        self.recording = 0.0
        start = self.clock()
        self.env.step(actions)
        return self.clock() - start - self.recording


class Bare:
    """`mujoco.batch` and nothing else: plays what a recorder kept."""

    def __init__(self, engine: batch.Batch, env: AllegroKuka, clock: Callable[[], float]) -> None:
        self.batch, self.joints, self.clock = engine, env.spec.act_dim, clock
        self.qpos, self.qvel, self.ctrl = engine.bind("qpos"), engine.bind("qvel"), engine.bind("ctrl")
        self.force = engine.bind("xfrc_applied")[:, env.physics.model.body("object").id, :3]
        self.mocap_pos, self.mocap_quat = engine.bind("mocap_pos"), engine.bind("mocap_quat")
        engine.state[:] = engine_of(env).batch.state
        engine.forward(stage=mjtStage.mjSTAGE_VEL)

    def replay(self, calls: list[Call]) -> float:
        """Returns the seconds it took."""
        arrays = [(name, [None if arg is None else arg.numpy() for arg in args]) for name, args in calls]
        start = self.clock()
        for name, args in arrays:
            getattr(self, name)(*args)
        return self.clock() - start

    def step(self, targets: np.ndarray, forces: np.ndarray | None = None) -> None:
        """As `Physics.step`."""
        self.ctrl[:] = targets
        if forces is not None:
            self.force[:] = forces
        self.batch.step(nstep=DECIMATION, stage=mjtStage.mjSTAGE_VEL)

    def reset(
        self,
        ids: np.ndarray,
        joint_pos: np.ndarray,
        joint_vel: np.ndarray,
        object_pos: np.ndarray,
        object_quat: np.ndarray,
    ) -> None:
        """As `Physics.reset`."""
        self.batch.reset(ids, stage=mjtStage.mjSTAGE_NONE)
        self.qpos[ids, : self.joints], self.qvel[ids, : self.joints] = joint_pos, joint_vel
        self.place_object(ids, object_pos, object_quat)
        self.batch.forward(ids, stage=mjtStage.mjSTAGE_VEL)

    def place_object(self, ids: np.ndarray, pos: np.ndarray, quat: np.ndarray) -> None:
        """As `Physics.place_object`."""
        self.qpos[ids, self.joints : self.joints + 3] = pos
        self.qpos[ids, self.joints + 3 : self.joints + 7] = quat[:, [3, 0, 1, 2]]
        self.qvel[ids, self.joints : self.joints + 6] = 0

    def place_goal(self, ids: np.ndarray, pos: np.ndarray, quat: np.ndarray) -> None:
        """As `Physics.place_goal`."""
        self.mocap_pos[ids, 0], self.mocap_quat[ids, 0] = pos, quat[:, [3, 0, 1, 2]]


def shared_geometry(env: AllegroKuka) -> batch.Batch:
    """An engine whose environments all have the model's own object, a cube, with the damping that `env`'s have."""
    engine, model = engine_of(env).batch, env.physics.model
    damped = engine.expand("dof_damping")
    model.dof_damping[:] = damped[0]
    return batch.Batch(model, env.spec.num_envs, engine.nthread, persistent=True)


class Memory(NamedTuple):
    """Bytes per environment: the engine with its row of state in it, that row, what the rules remember, a rollout."""

    engine: float
    row: float
    rules: float
    rollout: float


def memory_of(task: str, args: argparse.Namespace) -> Memory:
    """What an environment takes; call it in a fresh process, where nothing that was freed before is used again."""
    process = psutil.Process()
    make(task, args.objects, argparse.Namespace(**{**vars(args), "num_envs": 1})).reset()  # what all share
    before = process.memory_info().rss
    env = make(task, args.objects, args)
    env.reset()
    grown = process.memory_info().rss - before
    rules = sum(field.nbytes for field in env.rules.memory)
    spec = env.spec
    shape = RolloutShape(HORIZON, Population(1, args.num_envs), args.num_envs, spec.obs_dim, spec.act_dim, (0, 0))
    sizes = (grown - rules, engine_of(env).batch.state.nbytes, rules, RolloutBuffer.nbytes(shape))
    return Memory(*(size / args.num_envs for size in sizes))


def in_own_process(function: Callable[[str, argparse.Namespace], T], task: str, args: argparse.Namespace) -> T:
    """What `function` returns; memory that the engines keep when they are gone goes with the process."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, task, args).result()


def print_memory(args: argparse.Namespace) -> None:
    """The table of `--memory`."""
    print("| task | engine KiB/env | of it the saved state | rules KiB/env | rollout KiB/env |\n|---|---|---|---|---|")
    for task in args.tasks:
        memory = in_own_process(memory_of, task, args)
        print("|", " | ".join([task, *(f"{size / 1024:.1f}" for size in memory)]), "|", flush=True)


def make(task: str, objects: str | None, args: argparse.Namespace) -> AllegroKuka:
    """An environment; equal arguments give equal objects."""
    return AllegroKuka(args.num_envs, torch.device("cpu"), 0, task, objects, threads=args.threads)


def actor(env: AllegroKuka, grip: bool) -> Callable[[], Tensor]:
    """Random actions, or those of the task's scripted controller."""
    if grip:
        return env.script()
    generator = torch.Generator().manual_seed(1)
    return lambda: env.spec.random_actions(generator)


def clock_of(args: argparse.Namespace) -> Callable[[], float]:
    """Of the processor where other work is on the machine; it adds up threads."""
    return time.process_time if args.processor_time else time.perf_counter


def measure(task: str, args: argparse.Namespace) -> dict[str, float]:
    """Ratios and shares of one task."""
    torch.set_num_threads(1)
    env = make(task, args.objects, args)
    env.reset()
    clock = clock_of(args)
    act, recorder = actor(env, args.grip), Recorder(env, clock)
    bare = Bare(engine_of(make(task, args.objects, args)).batch, env, clock)
    times: dict[str, list[float]] = {"A": [], "B": []}
    for step in range(args.warmup + args.steps):
        if step == args.warmup:
            times = {"A": [], "B": []}
            recorder.seconds = {"physics": 0.0, "resets": 0.0}
        times["B"].append(recorder.step(act()))
        times["A"].append(bare.replay(recorder.calls))
    if abs(bare.batch.state - engine_of(env).batch.state).max() > 0:
        raise RuntimeError(f"{task}: the bare loop did not do what the environment did")
    env.close()
    total = sum(times["B"])
    physics, resets = (recorder.seconds[name] / total for name in ("physics", "resets"))
    return {
        "bare": args.num_envs / statistics.median(times["A"]),
        "whole": args.num_envs / statistics.median(times["B"]),
        "physics": physics,
        "resets": resets,
        "rules": 1 - physics - resets,
        "ratio": statistics.median(a / b for a, b in zip(times["A"], times["B"], strict=True)),
    }


def geometry_cost(task: str, args: argparse.Namespace) -> float:
    """Time of a step with a geometry per environment / with one for all; the same cube in both."""
    torch.set_num_threads(1)
    env = make(task, "cube", args)
    env.reset()
    clock = clock_of(args)
    act, recorder = actor(env, args.grip), Recorder(env, clock)
    own, shared = (
        Bare(engine, env, clock) for engine in (engine_of(make(task, "cube", args)).batch, shared_geometry(env))
    )
    ratios = []
    for step in range(args.warmup + args.steps):
        recorder.step(act())
        sides = [own, shared] if step % 2 else [shared, own]
        seconds = {side: side.replay(recorder.calls) for side in sides}
        if step >= args.warmup:
            ratios.append(seconds[own] / seconds[shared])
    env.close()
    return statistics.median(ratios)


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", choices=list(CARDS), default=list(CARDS))
    parser.add_argument("--objects", default=None, help="object set, default: the task's own")
    parser.add_argument("--grip", action="store_true", help="a scripted controller acts instead of chance")
    parser.add_argument("--memory", action="store_true", help="bytes per environment instead of speed")
    parser.add_argument("--num-envs", type=int, default=512)
    parser.add_argument("--steps", type=int, default=150, help="measured steps")
    parser.add_argument("--warmup", type=int, default=None, help="steps before; default 30, with --grip 150")
    parser.add_argument("--threads", type=int, default=None, help="physics threads, default: all cores")
    parser.add_argument(
        "--processor-time", action="store_true", help="for machines that do other work; with --threads 1"
    )
    parser.add_argument("--no-geometry", action="store_true", help="leave out (C)")
    parser.add_argument("--json", type=Path, default=None, help="also write the figures there")
    args = parser.parse_args()
    if args.processor_time and args.threads != 1:
        parser.error("--processor-time adds up the threads: give --threads 1, too")
    if args.warmup is None:
        args.warmup = 150 if args.grip else 30
    if args.memory:
        print_memory(args)
        return

    driven = "a scripted grasp" if args.grip else "random actions"
    print(f"{args.num_envs} environments, {args.steps} steps of {driven}; rollout of {HORIZON} steps\n")
    heads = ["task", "bare steps/s", "whole steps/s", "ratio", "physics", "rules", "resets"]
    heads += [] if args.no_geometry else ["own / shared geometry"]
    print("|", " | ".join(heads), "|")
    print("|" + "---|" * len(heads))
    results = {}
    for task in args.tasks:
        results[task] = result = in_own_process(measure, task, args)
        cells = [task, f"{result['bare']:,.0f}", f"{result['whole']:,.0f}", f"{result['ratio']:.3f}"]
        cells += [f"{result[name]:.1%}" for name in ("physics", "rules", "resets")]
        if not args.no_geometry:
            result["geometry"] = in_own_process(geometry_cost, task, args)
            cells += [f"{result['geometry']:.3f}"]
        print("|", " | ".join(cells), "|", flush=True)
    if args.json is not None:
        settings = {name: value for name, value in vars(args).items() if name not in ("json", "tasks")}
        args.json.write_text(json.dumps({"settings": settings, "tasks": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
