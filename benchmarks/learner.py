"""How much the Lightning system costs compared with a plain hand-written PPO loop, and a population with one agent.

    python benchmarks/learner.py                      # 4096 envs, [512, 256, 128]
    python benchmarks/learner.py --preset overhead    # 64 envs, [64, 64], one thread: host time per iteration

All sides run in this process, interleaved round by round, on the same environment of random numbers, the same network
size, the same samples per minibatch and the same fused Adam. An iteration is timed from the first env step of one
rollout to the first env step of the next, so that logging and everything between updates counts. Ratios of medians.
"""

import argparse
import logging
import resource
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import lightning as L
import torch
from torch import Tensor, nn

from epo_lightning.algorithm.losses import LossSettings
from epo_lightning.callbacks import GeneticEvolution, NaNGuard
from epo_lightning.cli.process_settings import keep_freed_memory
from epo_lightning.envs.base import EnvSpec, StepResult, VectorEnv
from epo_lightning.experience.settings import RolloutSettings
from epo_lightning.learner.networks import NetworkSettings
from epo_lightning.learner.optimizer import GeneOptimizerSettings
from epo_lightning.modules.data import RolloutDataModule
from epo_lightning.modules.epo import EPOModule
from epo_lightning.run.metrics_table import MetricsTable

OBS, ACT, HORIZON, EPOCHS, MINIBATCHES = 100, 23, 16, 4, 4
PRESETS = {"learner": (4096, (512, 256, 128), 2), "overhead": (64, (64, 64), 1)}


class NoiseEnv(VectorEnv):
    """Random observations and rewards from a small store: a simulator that costs next to nothing."""

    clock: ClassVar[Callable[[], float]] = time.perf_counter

    def __init__(
        self, num_envs: int, device: torch.device, seed: int, horizon: int = HORIZON, obs_dim: int = OBS
    ) -> None:
        self.horizon = horizon
        self.spec = EnvSpec("Noise", num_envs, obs_dim, ACT)
        generator = torch.Generator(device).manual_seed(seed)
        self._obs = torch.randn(8, num_envs, obs_dim, generator=generator, device=device)
        self._reward = torch.randn(8, num_envs, generator=generator, device=device)
        self._terminated = torch.rand(8, num_envs, generator=generator, device=device) < 0.01
        self._never = torch.zeros(num_envs, dtype=torch.bool, device=device)
        self._zero = torch.zeros(num_envs, device=device)
        self._step = 0
        self.times: list[float] = []

    def reset(self) -> Tensor:
        """The first observations of the store."""
        return self._obs[0]

    def step(self, actions: Tensor) -> StepResult:  # noqa: ARG002  (chance decides)
        """The next of eight steps; the clock is read at the beginning of an iteration."""
        if self._step % self.horizon == 0:
            self.times.append(type(self).clock())
        self._step += 1
        i = self._step % 8
        return StepResult(self._obs[i], self._reward[i], self._terminated[i], self._never, self._zero)

    def state_dict(self) -> dict[str, Any]:
        """The clock."""
        return {"step": self._step}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from it."""
        self._step = state["step"]


class Moments:
    """Running mean and variance of samples.

    Args:
        shape: Of a sample.
    """

    def __init__(self, *shape: int) -> None:
        self.mean, self.var, self.count = torch.zeros(shape), torch.ones(shape), 1e-4

    def merge(self, x: Tensor) -> None:
        """Take in samples (n, ...)."""
        var, mean = torch.var_mean(x, dim=0, correction=0)
        n, total = len(x), self.count + len(x)
        delta = mean - self.mean
        self.var = (self.var * self.count + var * n + delta.square() * self.count * n / total) / total
        self.mean, self.count = self.mean + delta * n / total, total

    def scale(self) -> Tensor:
        """What `normalize` divides by."""
        return (self.var + 1e-5).sqrt()

    def normalize(self, x: Tensor) -> Tensor:
        """(x - mean) / std, clipped."""
        return ((x - self.mean) / self.scale()).clamp_(-5, 5)


class PlainPPO:
    """PPO as one would write it by hand: nothing but the work itself.

    Args:
        env: The environment.
        hidden: Widths of the trunk's layers.
        agents: With a gene: how many share the environments and the network. They have neither a master nor evolution.
        gene_dim: Entries of a gene; 0 for one agent without.
    """

    def __init__(self, env: NoiseEnv, hidden: tuple[int, ...], agents: int = 1, gene_dim: int = 0) -> None:
        self.env = env
        widths = [OBS + gene_dim, *hidden]
        layers: list[nn.Module] = []
        for a, b in pairwise(widths):
            layers += [nn.Linear(a, b), nn.ELU()]
        self.trunk, self.mean, self.value = nn.Sequential(*layers), nn.Linear(widths[-1], ACT), nn.Linear(widths[-1], 1)
        self.log_std = nn.Parameter(torch.zeros(agents, ACT) if gene_dim else torch.zeros(ACT))
        modules = nn.ModuleList([self.trunk, self.mean, self.value])
        self.parameters = [*modules.parameters(), self.log_std]
        self.genes = nn.Parameter(torch.randn(agents, gene_dim)) if gene_dim else None
        if self.genes is not None:
            self.parameters.append(self.genes)
        self.agent_of_env = torch.arange(agents).repeat_interleave(env.spec.num_envs // agents)
        self.adam = torch.optim.Adam(self.parameters, lr=3e-4, fused=True)
        self.obs = env.reset()
        self.obs_stats, self.value_stats = Moments(OBS), Moments()

    def see(self, obs: Tensor, agents: Tensor) -> tuple[Tensor, Tensor]:
        """Features of normalised observations (n, OBS), and the log standard deviations."""
        if self.genes is None:
            return self.trunk(obs), self.log_std
        return self.trunk(torch.cat([obs, self.genes[agents]], dim=1)), self.log_std[agents]

    @torch.no_grad()
    def collect(self) -> tuple[Tensor, ...]:
        """A rollout: observations, actions, log-probabilities, values, targets, advantages."""
        n = self.env.spec.num_envs
        obs, actions = torch.empty(HORIZON, n, OBS), torch.empty(HORIZON, n, ACT)
        log_probs, values, rewards = (torch.empty(HORIZON + i, n) for i in (0, 1, 0))
        keep = torch.empty(HORIZON, n)
        for t in range(HORIZON):
            obs[t] = self.obs
            h, log_std = self.see(self.obs_stats.normalize(self.obs), self.agent_of_env)
            noise = torch.randn(n, ACT)
            actions[t] = self.mean(h) + log_std.exp() * noise
            log_probs[t] = -(0.5 * noise.square() + log_std + 0.9189385).sum(-1)
            values[t] = self.value(h).squeeze(-1)
            result = self.env.step(actions[t].clamp(-1, 1))
            rewards[t], keep[t] = result.reward, (~(result.terminated | result.truncated)).float()
            self.obs = result.obs
        h, _ = self.see(self.obs_stats.normalize(self.obs), self.agent_of_env)
        values[-1] = self.value(h).squeeze(-1)
        flat = obs.flatten(0, 1)
        normal = self.obs_stats.normalize(flat)
        self.obs_stats.merge(flat)
        values = values * self.value_stats.scale() + self.value_stats.mean
        advantages, last = torch.empty(HORIZON, n), torch.zeros(n)
        for t in reversed(range(HORIZON)):
            delta = rewards[t] + 0.99 * keep[t] * values[t + 1] - values[t]
            advantages[t] = last = delta + 0.99 * 0.95 * keep[t] * last
        targets = advantages + values[:-1]
        self.value_stats.merge(targets.flatten())
        scale, shift = self.value_stats.scale(), self.value_stats.mean
        advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
        flat_parts = (actions.flatten(0, 1), log_probs.flatten(), ((values[:-1] - shift) / scale).flatten())
        return normal, *flat_parts, ((targets - shift) / scale).flatten(), advantages.flatten()

    def iterate(self) -> None:
        """A rollout and the passes over it."""
        data = self.collect()
        for _ in range(EPOCHS):
            kl = torch.zeros(())
            for units in torch.randperm(len(data[0])).tensor_split(MINIBATCHES):
                obs, actions, log_probs, old_values, targets, advantages = (x[units] for x in data)
                h, log_std = self.see(obs, self.agent_of_env[units % len(self.agent_of_env)])
                mean, values = self.mean(h), self.value(h).squeeze(-1)
                noise = (actions - mean) * torch.exp(-log_std)
                new = -(0.5 * noise.square() + log_std + 0.9189385).sum(-1)
                log_ratio = new - log_probs
                ratio = log_ratio.exp()
                surrogate = torch.min(ratio * advantages, ratio.clamp(0.8, 1.2) * advantages)
                clipped = old_values + (values - old_values).clamp(-0.2, 0.2)
                critic = torch.max((values - targets).square(), (clipped - targets).square())
                bound = (mean.abs() - 1.1).clamp(min=0).square().sum(-1)
                loss = (-surrogate + critic + 1e-4 * bound).mean() - 0.0 * self.log_std.sum()
                self.adam.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(self.parameters, 1.0)
                self.adam.step()
                kl += (log_ratio.detach().expm1() - log_ratio.detach()).mean() / MINIBATCHES
            rate = self.adam.param_groups[0]["lr"]
            rate = rate / 1.5 if kl > 0.032 else rate * 1.5 if kl < 0.008 else rate
            self.adam.param_groups[0]["lr"] = min(max(rate, 1e-6), 1e-2)

    def run(self, iterations: int) -> None:
        """Learn for `iterations`."""
        for _ in range(iterations):
            self.iterate()


class System:
    """The whole package: Trainer, callbacks, metrics.csv."""

    def __init__(self, num_envs: int, hidden: tuple[int, ...], agents: int, gene_dim: int, folder: str) -> None:
        self.agents, self.folder = agents, folder
        self.module = EPOModule(
            agents,
            NetworkSettings(gene_dim=gene_dim, hidden=hidden),
            LossSettings(value_coefficient=2.0, entropy_scale=0.005 if agents > 1 else 0.0),
            GeneOptimizerSettings(),
            RolloutSettings(horizon=HORIZON, num_epochs=EPOCHS, num_minibatches=MINIBATCHES),
        )
        self.envs: list[NoiseEnv] = []
        self.data = RolloutDataModule(self._env, num_envs)

    def _env(self, num_envs: int, device: torch.device, seed: int) -> NoiseEnv:
        self.envs.append(NoiseEnv(num_envs, device, seed))
        return self.envs[-1]

    @property
    def env(self) -> NoiseEnv:
        """That of the last run."""
        return self.envs[-1]

    def callbacks(self) -> list[L.Callback]:
        """Of a training."""
        callbacks: list[L.Callback] = [NaNGuard()]
        if self.agents > 2:
            callbacks.append(GeneticEvolution(4 * HORIZON * self.data.num_envs, 0, num_elites=self.agents // 8))
        return callbacks

    def run(self, iterations: int) -> None:
        """A training of its own of `iterations`, with the module of the last one."""
        trainer = L.Trainer(
            accelerator="cpu",
            devices=1,
            max_epochs=iterations,
            logger=MetricsTable(Path(self.folder) / "metrics.csv"),
            callbacks=self.callbacks(),
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            limit_val_batches=0,
            default_root_dir=self.folder,
        )
        trainer.fit(self.module, self.data)


def measure(side: PlainPPO | System, iterations: int) -> list[float]:
    """Seconds of each iteration but the first of a run."""
    start = len(side.env.times) if isinstance(side, PlainPPO) or side.envs else 0
    side.run(iterations)
    times = side.env.times[start:]
    return [b - a for a, b in pairwise(times[1:])]


def prepare(args: argparse.Namespace) -> tuple[int, tuple[int, ...], int]:
    """Environments, widths and iterations per round that `args` ask for; sets threads, clock and silence."""
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    envs, hidden, threads = PRESETS[args.preset]
    iterations = args.iterations or (5 if args.preset == "learner" else 60)
    torch.set_num_threads(1 if args.processor_time else threads)
    if args.processor_time:
        NoiseEnv.clock = time.process_time
    keep_freed_memory()
    return envs, hidden, iterations


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", choices=sorted(PRESETS), default="learner")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--iterations", type=int, default=None, help="per round; the first two are warm-up")
    parser.add_argument("--agents", type=int, default=64)
    parser.add_argument("--processor-time", action="store_true", help="of one thread: for machines that do other work")
    args = parser.parse_args()
    envs, hidden, iterations = prepare(args)
    with tempfile.TemporaryDirectory() as folder:
        sides: dict[str, Callable[[], PlainPPO | System]] = {
            "plain loop": lambda: PlainPPO(NoiseEnv(envs, torch.device("cpu"), 0), hidden),
            "system, K=1, no gene": lambda: System(envs, hidden, 1, 0, folder),
            "system, K=1, gene": lambda: System(envs, hidden, 1, 32, folder),
            f"system, K={args.agents}, gene": lambda: System(envs, hidden, args.agents, 32, folder),
            f"plain loop, K={args.agents}": lambda: PlainPPO(
                NoiseEnv(envs, torch.device("cpu"), 0), hidden, args.agents, 32
            ),
        }
        seconds: dict[str, list[float]] = {name: [] for name in sides}
        for _ in range(args.rounds):
            for name, build in sides.items():
                seconds[name] += measure(build(), iterations)
    median = {name: statistics.median(values) for name, values in seconds.items()}
    names = list(median)
    for name in names:
        rate = envs * HORIZON / median[name]
        print(f"{name:24s} {median[name] * 1e3:9.1f} ms/iteration {rate:9,.0f} env steps/s", flush=True)
    plain, alone, gene, population, plain_population = (median[name] for name in names)
    print(f"speed of the system against the plain loop (K=1, same work): {plain / alone:.3f}")
    print(f"time of K={args.agents} against K=1 with a gene: {population / gene:.3f}")
    print(f"time of K=1 against the plain loop (the same work): {alone / plain:.3f}")
    print(f"time of K={args.agents} against the plain loop of one agent: {population / plain:.3f}")
    print(f"time of K={args.agents} against a plain loop with as many genes: {population / plain_population:.3f}")
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB, {args.rounds} rounds")


if __name__ == "__main__":
    main()
