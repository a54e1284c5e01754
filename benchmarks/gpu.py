"""Control steps per second of the tasks on MuJoCo Warp, against the CPU engine, and the memory that Warp takes.

    python benchmarks/gpu.py --device cuda --num-envs 8192              # all eight tasks; needs an NVIDIA GPU
    python benchmarks/gpu.py --device cpu --num-envs 64 --steps 20      # shows that it works; no measure of anything
    python benchmarks/gpu.py --device cpu --memory                       # bytes per environment, without a GPU
    python benchmarks/gpu.py --device cpu --script --tasks single_arm_regrasp --num-envs 64 --cpu-envs 64 --steps 600
                                                                         # does the script grasp as well as on the CPU?

`whole` is the environment with rules, resets and observations under random actions, from a start in mid-episode where
resets are spread out; `physics` is its engine alone with the same targets. The CPU engine runs with its own number of
environments, which suits its caches. Every task runs in a process of its own.
"""

import argparse
import multiprocessing
import re
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor

import torch

from epo_lightning.envs.allegro_kuka import AllegroKuka
from epo_lightning.envs.allegro_kuka.cards import CARDS

UNITS = {"bytes": 1, "B": 1, "KB": 2**10, "MB": 2**20, "GB": 2**30}
SMALL, LARGE = 64, 576
"""Numbers of environments between which memory is compared: what all share drops out."""


def make(task: str, physics: str, num_envs: int, args: argparse.Namespace) -> AllegroKuka:
    """An environment on Warp, or on the CPU engine."""
    device = torch.device(args.device if physics == "warp" else "cpu")
    room = {"contacts_per_world": args.contacts, "constraints_per_world": args.constraints}
    own = room if physics == "warp" else {"threads": args.threads}
    return AllegroKuka(num_envs, device, 0, task=task, physics=physics, **own)


def seconds(work: Callable[[], object], steps: int, device: torch.device) -> float:
    """Wall clock of one call of `work`, on the average of `steps`, until the device has done it all."""
    start = time.perf_counter()
    for _ in range(steps):
        work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return (time.perf_counter() - start) / steps


def speed(task: str, physics: str, num_envs: int, args: argparse.Namespace) -> dict[str, float]:
    """Control steps per second, and GiB that the device holds for it (nan on the CPU)."""
    torch.set_num_threads(1)
    device = torch.device(args.device if physics == "warp" else "cpu")
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else 0
    env = make(task, physics, num_envs, args)
    env.reset()
    generator = torch.Generator(device).manual_seed(0)
    age = torch.rand(num_envs, generator=generator, device=device)
    env.rules.memory.progress.copy_((age * (env.rules.card.budget - 1)).floor())

    def act() -> None:
        env.step(2 * torch.rand(num_envs, env.spec.act_dim, generator=generator, device=device) - 1)

    seconds(act, args.warmup, device)
    whole = seconds(act, args.steps, device)
    targets = env.rules.memory.targets.clone()
    alone = seconds(lambda: env.physics.step(targets), args.steps, device)
    used = (free - torch.cuda.mem_get_info(device)[0]) / 2**30 if device.type == "cuda" else float("nan")
    return {"whole": num_envs / whole, "physics": num_envs / alone, "memory": used}


def allocated(task: str, num_envs: int, args: argparse.Namespace) -> float:
    """Bytes that Warp holds at most while an environment is built and stepped."""
    import warp as wp

    report: list[str] = []
    wp.config.log_level = wp.LOG_ERROR
    with wp.ScopedMemoryTracker(report_func=report.append):
        env = make(task, "warp", num_envs, args)
        env.reset()
        env.step(torch.zeros(num_envs, env.spec.act_dim, device=env.rules.device))
    peak = re.search(r"Peak usage:\s+\S+\s+([\d.]+) (\w+)", report[0])
    assert peak is not None, report[0]
    return float(peak[1]) * UNITS[peak[2]]


def memory(task: str, args: argparse.Namespace, few: int = SMALL, many: int = LARGE) -> dict[str, float]:
    """Per environment: KiB of Warp, and bytes of the state that a checkpoint keeps."""
    small, large = (allocated(task, n, args) for n in (few, many))
    env = make(task, "warp", few, args)
    kept = sum(value.nbytes for value in env.physics.state_dict().values() if isinstance(value, torch.Tensor))
    return {"warp": (large - small) / (many - few) / 2**10, "state": kept / few}


def skill(task: str, physics: str, num_envs: int, args: argparse.Namespace) -> dict[str, float]:
    """What the controller written by hand reaches: goals per environment, share of time with the object lifted."""
    torch.set_num_threads(1)
    env = make(task, physics, num_envs, args)
    env.reset()
    act = env.script()
    results = [
        (step.successes.sum(), torch.as_tensor(step.log["lifted"]).mean())
        for step in (env.step(act()) for _ in range(args.steps))
    ]
    successes, lifted = torch.tensor(results).T
    return {"goals": successes.sum().item() / num_envs, "lifted": lifted.mean().item()}


def in_own_process(function: Callable[..., dict[str, float]], *args: object) -> dict[str, float]:
    """What `function` returns; memory and threads go with the process."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *args).result()


def print_table(heads: list[str]) -> None:
    """The head of a table in Markdown."""
    print("|", " | ".join(heads), "|")
    print("|" + "---|" * len(heads), flush=True)


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", choices=list(CARDS), default=list(CARDS))
    parser.add_argument("--device", default="cuda", help="of Warp: cuda, cuda:1, cpu")
    parser.add_argument("--num-envs", type=int, default=8192, help="of Warp")
    parser.add_argument("--cpu-envs", type=int, default=512, help="of the CPU engine")
    parser.add_argument("--steps", type=int, default=100, help="measured steps")
    parser.add_argument("--warmup", type=int, default=30, help="steps before")
    parser.add_argument("--threads", type=int, default=None, help="of the CPU engine, default: all cores")
    parser.add_argument("--contacts", type=int, default=None, help="contacts_per_world")
    parser.add_argument("--constraints", type=int, default=None, help="constraints_per_world")
    parser.add_argument("--memory", action="store_true", help="bytes per environment instead of speed")
    parser.add_argument("--script", action="store_true", help="what the scripted controller reaches instead of speed")
    args = parser.parse_args()
    if args.device.startswith("cuda") and not torch.cuda.is_available():
        parser.error("no CUDA device here; --device cpu runs the same code slowly")

    if args.memory:
        print_table(["task", "Warp, KiB per environment", "8192 environments, GiB", "kept in a checkpoint, bytes"])
        for task in args.tasks:
            result = in_own_process(memory, task, args)
            whole = result["warp"] * 8192 / 2**20
            print(f"| {task} | {result['warp']:,.0f} | {whole:.1f} | {result['state']:,.0f} |", flush=True)
        return
    if args.script:
        print_table(
            ["task", "goals per environment: Warp", "CPU engine", "time with object lifted: Warp", "CPU engine"]
        )
        for task in args.tasks:
            ours = in_own_process(skill, task, "warp", args.num_envs, args)
            theirs = in_own_process(skill, task, "mujoco", args.cpu_envs, args)
            cells = [
                f"{ours['goals']:.2f}",
                f"{theirs['goals']:.2f}",
                f"{ours['lifted']:.1%}",
                f"{theirs['lifted']:.1%}",
            ]
            print("|", task, "|", " | ".join(cells), "|", flush=True)
        return
    name = torch.cuda.get_device_name(args.device) if args.device.startswith("cuda") else "CPU"
    print(f"{args.num_envs} environments on {name}, {args.cpu_envs} on the CPU engine; {args.steps} steps\n")
    print_table(["task", "Warp, whole", "Warp, physics", "CPU engine, whole", "ratio", "device memory, GiB"])
    for task in args.tasks:
        ours = in_own_process(speed, task, "warp", args.num_envs, args)
        theirs = in_own_process(speed, task, "mujoco", args.cpu_envs, args)
        cells = [f"{ours['whole']:,.0f}", f"{ours['physics']:,.0f}", f"{theirs['whole']:,.0f}"]
        cells += [f"{ours['whole'] / theirs['whole']:.2f}", f"{ours['memory']:.1f}"]
        print("|", task, "|", " | ".join(cells), "|", flush=True)


if __name__ == "__main__":
    main()
