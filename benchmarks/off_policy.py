"""How fast soft actor-critic and Parallel Q-Learning update, beside plain hand-written torch loops of the same work.

    python -m benchmarks.off_policy                      # as published: batches of 8,192, wide networks; 1,024 envs
    python -m benchmarks.off_policy --preset overhead    # batches of 256, [64, 64]: host time of an update
    python -m benchmarks.off_policy --processor-time     # on a machine that does other work

All sides run in this process, in turns, round by round, on the same environment of random numbers, networks of the same
size and the same fused AdamW. An iteration is timed from the first env step of one to the first of the next, so that
logging and everything between updates counts. Ratios of medians. Peak memory is that of a process of its own for each
side, above what it had when everything was imported.
"""

import argparse
import copy
import logging
import multiprocessing
import statistics
import tempfile
import time
import warnings
from abc import ABC, abstractmethod
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import lightning as L
import torch
from torch import Tensor, nn

from benchmarks.learner import ACT, OBS, Moments, NoiseEnv
from epo_lightning.algorithm.pql import PQLLossSettings
from epo_lightning.callbacks import NaNGuard
from epo_lightning.cli.process_settings import keep_freed_memory
from epo_lightning.envs.base import StepResult
from epo_lightning.experience.replay import ReplaySettings
from epo_lightning.learner.adamw import AdamWSettings
from epo_lightning.learner.deterministic import PQLNetworkSettings
from epo_lightning.learner.q_networks import SACNetworkSettings
from epo_lightning.modules.data import RolloutDataModule
from epo_lightning.modules.off_policy import OffPolicyModule
from epo_lightning.modules.pql import OPTIMIZER, PQLModule
from epo_lightning.modules.sac import SACModule
from epo_lightning.run.metrics_table import MetricsTable


class Preset(NamedTuple):
    """Sizes; empty `widths` are each algorithm's own."""

    num_envs: int
    batch: int
    horizon: int
    capacity: int
    widths: tuple[int, ...]
    threads: int


PRESETS = {"published": Preset(1024, 8192, 1, 64, (), 2), "overhead": Preset(64, 256, 16, 1024, (64, 64), 1)}
UPDATES = 8


def mlp(inputs: int, widths: tuple[int, ...], outputs: int, norm: bool, activation: type[nn.Module]) -> nn.Sequential:
    """As one would write it."""
    layers: list[nn.Module] = []
    for width, following in pairwise((inputs, *widths)):
        layers += [nn.Linear(width, following), *([nn.LayerNorm(following)] if norm else []), activation()]
    return nn.Sequential(*layers, nn.Linear(widths[-1], outputs))


class PlainLoop(ABC):
    """What both algorithms do by hand: nothing but the work itself.

    Args:
        env: The environment.
        preset: Sizes.
        actor: The actor.
        critics: Two.
        rate, betas, decay, max_norm, every: Of AdamW, and how often the actor learns.
    """

    tau: float
    beside: list[nn.Parameter]

    def __init__(
        self, env: NoiseEnv, preset: Preset, actor: nn.Module, critics: list[nn.Module],
        rate: float, betas: tuple[float, float], decay: float, max_norm: float, every: int,
    ) -> None:  # fmt: skip
        self.env, self.preset, self.actor, self.critics = env, preset, actor, nn.ModuleList(critics)
        self.targets = copy.deepcopy(self.critics).requires_grad_(False)
        self.log_alpha = nn.Parameter(torch.tensor(-6.9))
        self.max_norm, self.every = max_norm, every
        groups: list[Any] = [
            {"params": list(actor.parameters())},
            {"params": list(self.critics.parameters())},
            {"params": [self.log_alpha], "weight_decay": 0.0},
        ]
        self.adam = torch.optim.AdamW(groups, lr=rate, betas=betas, weight_decay=decay, fused=True)
        shape = (preset.capacity, preset.num_envs)
        self.fields = [torch.zeros(*shape, *size) for size in ((OBS,), (ACT,), (), (OBS,), ())]
        self.position = self.filled = 0
        self.moments, self.obs = Moments(OBS), env.reset()

    @abstractmethod
    def act(self, obs: Tensor) -> Tensor:
        """What is explored by, of normalised observations."""

    @abstractmethod
    def remember(self, obs: Tensor, actions: Tensor, result: StepResult) -> None:
        """Into the replay."""

    @abstractmethod
    def critic_loss(self, batch: list[Tensor]) -> Tensor:
        """Of normalised observations."""

    @abstractmethod
    def actor_loss(self, obs: Tensor) -> Tensor:
        """Of normalised observations."""

    def store(self, *fields: Tensor) -> None:
        """The next row."""
        for mine, new in zip(self.fields, fields, strict=True):
            mine[self.position] = new
        self.position = (self.position + 1) % self.preset.capacity
        self.filled = min(self.filled + 1, self.preset.capacity)

    def learn(self, loss: Tensor, parameters: list[nn.Parameter]) -> None:
        """One step of AdamW for some of the parameters."""
        self.adam.zero_grad()
        for parameter, gradient in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
            parameter.grad = gradient
        if self.max_norm < float("inf"):
            nn.utils.clip_grad_norm_(parameters, self.max_norm)
        self.adam.step()

    def run(self, iterations: int) -> None:
        """Train for `iterations`; after the first env step there is something to learn from."""
        batch, envs = self.preset.batch, self.preset.num_envs
        critic = [*self.critics.parameters(), *self.beside]
        for _ in range(iterations * self.preset.horizon):
            with torch.no_grad():
                actions = self.act(self.moments.normalize(self.obs))
                result = self.env.step(actions)
                self.remember(self.obs, actions, result)
                self.moments.merge(self.obs)
                self.obs = result.obs
            if not self.filled:
                continue
            for update in range(UPDATES):
                numbers = torch.randint(self.filled * envs, (batch,))
                sample = [field[numbers // envs, numbers % envs] for field in self.fields]
                for index in (0, 3):
                    sample[index] = self.moments.normalize(sample[index])
                self.learn(self.critic_loss(sample), critic)
                with torch.no_grad():
                    torch._foreach_lerp_([*self.targets.parameters()], [*self.critics.parameters()], self.tau)
                if (update + 1) % self.every == 0:
                    self.learn(self.actor_loss(sample[0]), [*self.actor.parameters()])


class PlainSAC(PlainLoop):
    """FastSAC: squashed Gaussian, two critics of 101 atoms, each with its own target net."""

    tau = 0.125

    def __init__(self, env: NoiseEnv, preset: Preset) -> None:
        actor = mlp(OBS, preset.widths or (512, 256, 128), 2 * ACT, True, nn.SiLU)
        wide = preset.widths or (768, 384, 192)
        critics: list[nn.Module] = [mlp(OBS + ACT, wide, 101, True, nn.SiLU) for _ in range(2)]
        super().__init__(env, preset, actor, critics, 3e-4, (0.9, 0.95), 1e-3, float("inf"), 4)
        self.atoms, self.beside = torch.linspace(-20, 20, 101), [self.log_alpha]

    def draw(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        """Actions and their log densities."""
        mean, raw = self.actor(obs).chunk(2, -1)
        log_std = -5 + 2.5 * (1 + raw.tanh())
        noise = torch.randn_like(mean)
        x = mean + log_std.exp() * noise
        slope = 2 * (0.6931472 - x - nn.functional.softplus(-2 * x))
        return x.tanh(), (-0.5 * noise.square() - log_std - 0.9189385 - slope).sum(-1)

    def act(self, obs: Tensor) -> Tensor:
        """Drawn."""
        return self.draw(obs)[0]

    def remember(self, obs: Tensor, actions: Tensor, result: StepResult) -> None:
        """Single steps."""
        self.store(obs, actions, result.reward, result.obs, result.terminated.float())

    def critic_loss(self, batch: list[Tensor]) -> Tensor:
        """Cross-entropy to the projected distributions, and the temperature's."""
        obs, actions, rewards, next_obs, dead = batch
        with torch.no_grad():
            following, log_probs = self.draw(next_obs)
            x = torch.cat([next_obs, following], -1)
            alpha = self.log_alpha.exp()
            moved = rewards[:, None] + 0.97 * (1 - dead[:, None]) * (self.atoms - alpha * log_probs[:, None])
            place = (moved.clamp(-20, 20) + 20) / 0.4
            low = place.long().clamp(max=100)
            high, share = (low + 1).clamp(max=100), place - low
            projected = []
            for target in self.targets:
                p = target(x).softmax(-1)
                flat = torch.zeros_like(p).scatter_add_(-1, low, p * (1 - share))
                projected.append(flat.scatter_add_(-1, high, p * share))
        x = torch.cat([obs, actions], -1)
        pairs = zip(self.critics, projected, strict=True)
        losses = [-(p * critic(x).log_softmax(-1)).sum(-1).mean() for critic, p in pairs]
        loss: Tensor = losses[0] + losses[1] + self.log_alpha.exp() * -log_probs.mean()
        return loss

    def actor_loss(self, obs: Tensor) -> Tensor:
        """The mean of both critics."""
        actions, log_probs = self.draw(obs)
        x = torch.cat([obs, actions], -1)
        values = torch.stack([critic(x).softmax(-1) @ self.atoms for critic in self.critics]).mean(0)
        return (self.log_alpha.detach().exp() * log_probs - values).mean()


class PlainPQL(PlainLoop):
    """Parallel Q-Learning in one process: returns of three steps, mixed exploration, the smaller of two critics."""

    tau = 0.05

    def __init__(self, env: NoiseEnv, preset: Preset) -> None:
        wide = preset.widths or (512, 256, 128)
        actor = nn.Sequential(mlp(OBS, wide, ACT, False, nn.ELU), nn.Tanh())
        critics: list[nn.Module] = [mlp(OBS + ACT, wide, 1, False, nn.ELU) for _ in range(2)]
        super().__init__(env, preset, actor, critics, 5e-4, (0.9, 0.999), 0.01, 0.5, 2)
        self.sigmas, self.beside = torch.linspace(0.05, 0.8, preset.num_envs)[:, None], []
        self.window: list[tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]] = []

    def act(self, obs: Tensor) -> Tensor:
        """With noise."""
        actions: Tensor = self.actor(obs)
        return (actions + self.sigmas * torch.randn_like(actions)).clamp(-1, 1)

    def remember(self, obs: Tensor, actions: Tensor, result: StepResult) -> None:
        """The step two before this one; an episode that ends cuts the window."""
        ended = result.terminated | result.truncated
        step = (obs.clone(), actions, result.reward, result.obs.clone(), result.terminated, ended)
        self.window = [*self.window, step][-3:]
        if len(self.window) < 3:
            return
        returns, discount = torch.zeros_like(result.reward), torch.ones_like(result.reward)
        goes_on, dead = torch.ones_like(ended), torch.zeros_like(ended)
        next_obs = self.window[0][3].clone()
        for _, _, reward, following, terminated, end in self.window:
            returns += torch.where(goes_on, discount * reward, 0.0)
            discount = torch.where(goes_on, 0.99 * discount, discount)
            next_obs = torch.where(goes_on[:, None], following, next_obs)
            dead |= goes_on & terminated
            goes_on = goes_on & ~end
        first = self.window[0]
        self.store(first[0], first[1], returns, next_obs, torch.where(dead, 0.0, discount))

    def critic_loss(self, batch: list[Tensor]) -> Tensor:
        """Squared error."""
        obs, actions, rewards, next_obs, discount = batch
        with torch.no_grad():
            following = self.actor(next_obs)
            following = (following + (0.8 * torch.randn_like(following)).clamp(-0.2, 0.2)).clamp(-1, 1)
            x = torch.cat([next_obs, following], -1)
            least = torch.min(*[target(x).squeeze(-1) for target in self.targets])
            wanted = rewards + discount * least
        x = torch.cat([obs, actions], -1)
        first, second = [(critic(x).squeeze(-1) - wanted).square().mean() for critic in self.critics]
        loss: Tensor = first + second
        return loss

    def actor_loss(self, obs: Tensor) -> Tensor:
        """Minus the smaller value."""
        x = torch.cat([obs, self.actor(obs)], -1)
        least: Tensor = torch.min(*[critic(x).squeeze(-1) for critic in self.critics])
        return -least.mean()


class System:
    """The whole package: Trainer, callbacks, metrics.csv."""

    def __init__(self, name: str, preset: Preset, folder: str) -> None:
        self.preset, self.folder = preset, folder
        replay = ReplaySettings(preset.capacity, preset.batch, warmup=1, horizon=preset.horizon)
        widths: dict[str, Any] = {"actor": preset.widths, "critic": preset.widths} if preset.widths else {}
        self.module: OffPolicyModule[Any]
        if name == "sac":
            optimizer = AdamWSettings(updates_per_step=UPDATES)
            self.module = SACModule(SACNetworkSettings(**widths), optimizer=optimizer, replay=replay)
        else:
            self.module = PQLModule(PQLNetworkSettings(**widths), PQLLossSettings(), optimizer=OPTIMIZER, replay=replay)
        self.envs: list[NoiseEnv] = []
        self.data = RolloutDataModule(self._env, preset.num_envs)

    def _env(self, num_envs: int, device: torch.device, seed: int) -> NoiseEnv:
        self.envs.append(NoiseEnv(num_envs, device, seed, self.preset.horizon))
        return self.envs[-1]

    @property
    def env(self) -> NoiseEnv:
        """Of the run."""
        return self.envs[-1]

    def run(self, iterations: int) -> None:
        """A training of `iterations`."""
        trainer = L.Trainer(
            accelerator="cpu",
            devices=1,
            max_epochs=iterations,
            logger=MetricsTable(Path(self.folder) / "metrics.csv"),
            callbacks=[NaNGuard()],
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            limit_val_batches=0,
            default_root_dir=self.folder,
        )
        trainer.fit(self.module, self.data)


def build(side: str, preset: Preset, folder: str) -> PlainLoop | System:
    """`sac system`, `sac plain`, `pql system` or `pql plain`."""
    name, kind = side.split()
    if kind == "system":
        return System(name, preset, folder)
    env = NoiseEnv(preset.num_envs, torch.device("cpu"), 0, preset.horizon)
    return PlainSAC(env, preset) if name == "sac" else PlainPQL(env, preset)


def measure(side: PlainLoop | System, iterations: int) -> list[float]:
    """Seconds of each iteration but the first, in which everything is allocated."""
    side.run(iterations)
    return [b - a for a, b in pairwise(side.env.times[1:])]


def peak_mib(side: str, name: str) -> float:
    """What a process of its own needs at most for two iterations, beyond what it needs to begin."""
    quiet(PRESETS[name].threads)
    before = resident_peak_mib()
    with tempfile.TemporaryDirectory() as folder:
        build(side, PRESETS[name], folder).run(2)
    return resident_peak_mib() - before


def resident_peak_mib() -> float:
    """Of this process so far; `ru_maxrss` would be that of the process which started it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmHWM:"))) / 1024


def quiet(threads: int) -> None:
    """Of every process."""
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    torch.set_num_threads(threads)
    keep_freed_memory()


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", choices=sorted(PRESETS), default="published")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--iterations", type=int, default=None, help="per round; the first is warm-up")
    parser.add_argument("--processor-time", action="store_true", help="of one thread: for machines that do other work")
    args = parser.parse_args()
    preset = PRESETS[args.preset]
    iterations = args.iterations or (4 if args.preset == "published" else 10)
    quiet(1 if args.processor_time else preset.threads)
    if args.processor_time:
        NoiseEnv.clock = time.process_time
    sides = [f"{name} {kind}" for name in ("sac", "pql") for kind in ("system", "plain")]
    seconds: dict[str, list[float]] = {side: [] for side in sides}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(args.rounds):
            for side, times in seconds.items():
                times += measure(build(side, preset, folder), iterations)
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        peaks = {side: pool.apply(peak_mib, (side, args.preset)) for side in sides}
    updates = UPDATES * preset.horizon
    rates = {side: updates / statistics.median(times) for side, times in seconds.items()}
    for side in sides:
        print(f"{side:10s} {rates[side]:8.2f} updates of the critics/s, peak memory {peaks[side]:,.0f} MiB")
    for name in ("sac", "pql"):
        speed, memory = (values[f"{name} system"] / values[f"{name} plain"] for values in (rates, peaks))
        print(f"{name}: update rate / plain loop's {speed:.3f}, peak memory / plain loop's {memory:.2f}", flush=True)


if __name__ == "__main__":
    main()
