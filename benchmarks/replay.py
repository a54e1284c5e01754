"""The replay buffer against a hand-written one: time to insert a vector step and to draw a minibatch, and peak memory.

    python benchmarks/replay.py                  # 4,096 envs, obs 100, act 23, batch 8,192, 128 steps kept of each
    python benchmarks/replay.py --capacity 1024 --threads 2

The other side is a ring of NumPy arrays, one per field, filled by slices and read by fancy indexing, whose samples
become tensors; and the same ring filled by a Python loop over the environments. All sides are interleaved in one
process; figures are medians.
"""

import argparse
import resource
import time
from collections.abc import Callable
from statistics import median

import numpy as np
import torch

from epo_lightning.envs.base import StepResult
from epo_lightning.experience.replay import ReplayBuffer, ReplayShape


class NumpyRing:
    """Arrays (C, N, ...) of observations, actions, rewards, following observations and ends."""

    def __init__(self, shape: ReplayShape) -> None:
        size = (shape.capacity_per_env, shape.num_envs)
        widths = ((shape.obs_dim,), (shape.act_dim,), (), (shape.obs_dim,), ())
        self.fields = [np.zeros((*size, *width), dtype=np.float32) for width in widths]
        self.shape, self.position, self.filled = shape, 0, 0
        self.random = np.random.default_rng(0)

    def insert(self, fields: list[np.ndarray]) -> None:
        """One vector step by slices."""
        for mine, new in zip(self.fields, fields, strict=True):
            mine[self.position] = new
        self._turn()

    def insert_by_loop(self, fields: list[np.ndarray]) -> None:
        """One vector step, one environment after the other."""
        for env in range(self.shape.num_envs):
            for mine, new in zip(self.fields, fields, strict=True):
                mine[self.position, env] = new[env]
        self._turn()

    def _turn(self) -> None:
        self.position = (self.position + 1) % self.shape.capacity_per_env
        self.filled = min(self.filled + 1, self.shape.capacity_per_env)

    def sample(self, batch: int) -> list[torch.Tensor]:
        """Tensors of `batch` transitions."""
        steps, envs = (self.random.integers(high, size=batch) for high in (self.filled, self.shape.num_envs))
        return [torch.from_numpy(field[steps, envs]) for field in self.fields]


def timed(work: Callable[[], object], seconds: list[float]) -> None:
    """Do `work` and note its time."""
    start = time.perf_counter()
    work()
    seconds.append(time.perf_counter() - start)


def peak_mib() -> float:
    """Of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Run the comparison and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num-envs", type=int, default=4096)
    parser.add_argument("--obs", type=int, default=100)
    parser.add_argument("--act", type=int, default=23)
    parser.add_argument("--batch", type=int, default=8192)
    parser.add_argument("--capacity", type=int, default=128, help="steps that are kept of each environment")
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--threads", type=int, default=1, help="of torch; NumPy copies with one")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)

    shape = ReplayShape(args.capacity, args.num_envs, args.obs, args.act)
    generator = torch.Generator().manual_seed(0)
    no = torch.zeros(shape.num_envs, dtype=torch.bool)
    cut = torch.rand(shape.num_envs, generator=generator) < 0.01
    obs, next_obs, final_obs = torch.randn(3, shape.num_envs, shape.obs_dim, generator=generator)
    actions, reward = torch.randn(shape.num_envs, shape.act_dim, generator=generator), torch.randn(shape.num_envs)
    result = StepResult(next_obs, reward, no, cut, torch.zeros(shape.num_envs), final_obs)

    def fields() -> list[np.ndarray]:
        """What the NumPy side keeps of the step: it has to place final observations, too."""
        following = np.where(cut.numpy()[:, None], final_obs.numpy(), next_obs.numpy())
        return [obs.numpy(), actions.numpy(), reward.numpy(), following, no.numpy()]

    before = peak_mib()
    buffer = ReplayBuffer(shape, torch.device("cpu"))
    for _ in range(args.capacity):
        buffer.insert(obs, actions, result)
    buffer.gather(buffer.draw(args.batch, generator))
    own = peak_mib()
    ring = NumpyRing(shape)
    for _ in range(args.capacity):
        ring.insert(fields())
    ring.sample(args.batch)
    both = peak_mib()

    seconds: dict[str, list[float]] = {
        name: [] for name in ("insert", "numpy insert", "loop", "sample", "numpy sample")
    }
    for number in range(args.rounds):
        timed(lambda: buffer.insert(obs, actions, result), seconds["insert"])
        timed(lambda: ring.insert(fields()), seconds["numpy insert"])
        timed(lambda: buffer.gather(buffer.draw(args.batch, generator)), seconds["sample"])
        timed(lambda: ring.sample(args.batch), seconds["numpy sample"])
        if number % 10 == 0:
            timed(lambda: ring.insert_by_loop(fields()), seconds["loop"])
    own_insert, insert, loop, own_sample, sample = (
        1e3 * median(seconds[name]) for name in ("insert", "numpy insert", "loop", "sample", "numpy sample")
    )
    print(f"insert {shape.num_envs:,} transitions: {own_insert:.2f} ms; NumPy {insert:.2f} ms; loop {loop:.1f} ms")
    print(f"draw {args.batch:,} transitions: {own_sample:.2f} ms; NumPy {sample:.2f} ms")
    print(f"time / NumPy's: insert {own_insert / insert:.2f}, sample {own_sample / sample:.2f}")
    print(f"time / the loop's: insert {own_insert / loop:.4f}")
    print(
        f"peak memory: {own - before:,.0f} MiB more with the buffer, {both - own:,.0f} MiB more with NumPy's;"
        f" nbytes says {ReplayBuffer.nbytes(shape) / 2**20:,.0f} MiB"
    )


if __name__ == "__main__":
    main()
