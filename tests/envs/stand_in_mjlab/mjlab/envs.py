"""Points on a line: an action moves one by a quarter; below -0.4 it has fallen, from 0.5 on it is at its goal."""

import math
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

DT = 0.1


@dataclass
class SceneCfg:
    num_envs: int = 1


@dataclass
class PointCfg:
    scene: SceneCfg = field(default_factory=SceneCfg)
    groups: tuple[str, ...] = ("actor", "critic", "camera")
    bounds: tuple[float, float] = (-math.inf, math.inf)
    episode_length_s: float = 0.4
    seed: int | None = None
    is_finite_horizon: bool = False
    auto_reset: bool = True
    start: float = 0.0


@dataclass
class Box:
    shape: tuple[int, ...]
    low: float = -math.inf
    high: float = math.inf


@dataclass
class Dict:
    spaces: dict[str, Box]
    shape: tuple[int, ...] = ()


def time_out(env: "ManagerBasedRlEnv") -> Tensor:
    return env.episode_length_buf >= env.max_episode_length


def fell(env: "ManagerBasedRlEnv") -> Tensor:
    return env.x < -0.4


class TerminationManager:
    def __init__(self, env: "ManagerBasedRlEnv") -> None:
        self.env, self.dones = env, {}
        self.terms = {"time_out": SimpleNamespace(func=time_out), "fell": SimpleNamespace(func=fell)}
        self.active_terms = [*self.terms]

    def get_term_cfg(self, name: str) -> SimpleNamespace:
        return self.terms[name]

    def get_term(self, name: str) -> Tensor:
        return self.dones[name]

    def compute(self) -> None:
        self.dones = {name: term.func(self.env) for name, term in self.terms.items()}


class GoalCommand:
    """`compute_success` holds as long as the point is beyond 0.5."""

    def __init__(self, env: "ManagerBasedRlEnv") -> None:
        self.env = env

    def compute_success(self) -> Tensor:
        return self.env.x >= 0.5


class CommandManager:
    def __init__(self, env: "ManagerBasedRlEnv") -> None:
        self.terms = {"goal": GoalCommand(env), "twist": SimpleNamespace()}
        self.active_terms = [*self.terms]

    def get_term(self, name: str) -> Any:
        return self.terms[name]


class ManagerBasedRlEnv:
    def __init__(self, cfg: PointCfg, device: str) -> None:
        n = cfg.scene.num_envs
        self.cfg, self.device, self.num_envs, self.step_dt = cfg, device, n, DT
        self.max_episode_length = math.ceil(cfg.episode_length_s / DT)
        self.x, self.asked = torch.zeros(n), torch.zeros(n)
        self.episode_length_buf = torch.zeros(n, dtype=torch.long)
        self.pending = torch.zeros(n, dtype=torch.bool)
        self.common_step_counter = 0
        self.extras: dict[str, Any] = {}
        self.termination_manager = TerminationManager(self)
        self.command_manager = CommandManager(self)
        shapes = {"actor": (2,), "critic": (3,), "camera": (4, 4)}
        self.single_observation_space = Dict({name: Box(shapes[name]) for name in cfg.groups})
        self.single_action_space = Box((1,), *cfg.bounds)

    @property
    def unwrapped(self) -> "ManagerBasedRlEnv":
        return self

    def observe(self) -> dict[str, Tensor]:
        actor = torch.stack((self.x, self.episode_length_buf.float()), dim=1)
        return {"actor": actor, "critic": torch.cat((actor, self.asked[:, None]), dim=1)}

    def reset(self, *, env_ids: Tensor | None = None) -> tuple[dict[str, Tensor], dict[str, Any]]:
        ids = torch.arange(self.num_envs) if env_ids is None else env_ids
        self.extras["log"] = {
            "Episode_Reward/x": self.x[ids].mean(),
            "Episode_Termination/fell": int(fell(self)[ids].sum()),
            "Metrics/never": float("nan"),
            "Metrics/word": "left",
        }
        self.x[ids], self.episode_length_buf[ids], self.pending[ids] = self.cfg.start, 0, False
        return self.observe(), self.extras

    def step(self, action: Tensor) -> tuple[Any, ...]:
        assert not self.cfg.auto_reset
        if self.pending.any():
            raise RuntimeError("environments must be reset before calling step() again when auto_reset=False")
        self.extras["log"] = {}
        self.asked = action[:, 0].clone()
        self.x += 0.25 * self.asked
        self.episode_length_buf += 1
        self.common_step_counter += 1
        self.termination_manager.compute()
        terminated, truncated = self.termination_manager.get_term("fell"), self.termination_manager.get_term("time_out")
        self.pending = terminated | truncated
        return self.observe(), self.x.clone(), terminated, truncated, self.extras

    def close(self) -> None:
        pass
