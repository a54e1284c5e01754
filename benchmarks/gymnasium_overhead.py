"""How much of the speed of Gymnasium's bare vector environments `GymnasiumEnv` keeps.

In one process: (A) a vector environment of Gymnasium, stepped with arrays that are already what its task wants, and (B)
the same under the contract of this package: tensors, scaled actions, float32 rows, both kinds of end. Both begin with
the same seed and take the same actions; their steps alternate, so that both see the same machine noise.

    python benchmarks/gymnasium_overhead.py
    python benchmarks/gymnasium_overhead.py --tasks HalfCheetah-v5 --vectorization async --num-envs 2 8 32
"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.vector import AutoresetMode, VectorEnv

from epo_lightning.envs.gymnasium import GymnasiumEnv
from epo_lightning.envs.gymnasium.vectors import Vectorization, quiet_mujoco

TASKS = ["CartPole-v1", "Pendulum-v1", "HalfCheetah-v5", "Ant-v5"]


def bare_vector(id: str, num_envs: int, vectorization: Vectorization) -> VectorEnv[Any, Any]:
    """What a user of Gymnasium would step."""
    gymnasium.make(id).close()  # loads MuJoCo, where the task needs it
    quiet_mujoco()
    if vectorization == "own":
        return gymnasium.make_vec(id, num_envs, "vector_entry_point")
    settings = {"autoreset_mode": AutoresetMode.SAME_STEP, "copy": False}
    return gymnasium.make_vec(id, num_envs, vectorization, vector_kwargs=settings)


def measure(
    id: str, num_envs: int, vectorization: Vectorization, steps: int, warmup: int
) -> tuple[float, float, float]:
    """Env steps per second of the bare vector environment and of `GymnasiumEnv`, and the median of the ratios."""
    env = GymnasiumEnv(num_envs, torch.device("cpu"), 0, id, vectorization)
    bare = bare_vector(id, num_envs, vectorization)
    env.reset()
    bare.reset(seed=int(np.random.SeedSequence([0, 0]).generate_state(1)[0] >> 1))
    generator = torch.Generator().manual_seed(1)
    seconds: dict[str, list[float]] = {"bare": [], "whole": []}
    for step in range(warmup + steps):
        actions = env.spec.random_actions(generator)
        arrays = env._act(actions)
        sides: list[tuple[str, Callable[[Any], Any], Any]] = [
            ("whole", env.step, actions),
            ("bare", bare.step, arrays),
        ]
        results: dict[str, Any] = {}
        for name, act, given in sides if step % 2 else sides[::-1]:
            start = time.perf_counter()
            results[name] = act(given)
            if step >= warmup:
                seconds[name].append(time.perf_counter() - start)
        if not np.allclose(results["whole"].reward.numpy(), results["bare"][1], rtol=1e-5, atol=1e-5):
            raise RuntimeError(f"{id}: the two did not do the same")
    env.close()
    bare.close()
    ratio = statistics.median(a / b for a, b in zip(seconds["bare"], seconds["whole"], strict=True))
    return num_envs / statistics.median(seconds["bare"]), num_envs / statistics.median(seconds["whole"]), ratio


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", default=TASKS, help="registered ids")
    parser.add_argument("--vectorization", choices=["sync", "async", "own"], default="sync")
    parser.add_argument("--num-envs", type=int, nargs="+", default=[64])
    parser.add_argument("--steps", type=int, default=300, help="measured steps")
    parser.add_argument("--warmup", type=int, default=30, help="steps before")
    args = parser.parse_args()
    torch.set_num_threads(1)
    print("| task | vectorization | environments | bare steps/s | GymnasiumEnv steps/s | ratio |")
    print("|---|---|---|---|---|---|")
    for id in args.tasks:
        for num_envs in args.num_envs:
            bare, whole, ratio = measure(id, num_envs, args.vectorization, args.steps, args.warmup)
            cells = [id, args.vectorization, str(num_envs), f"{bare:,.0f}", f"{whole:,.0f}", f"{ratio:.3f}"]
            print("|", " | ".join(cells), "|", flush=True)


if __name__ == "__main__":
    main()
