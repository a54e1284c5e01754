"""Points on a line: an action moves one by a quarter; below -0.4 it has fallen, from 0.9 on the task is solved."""

import math
from dataclasses import dataclass, field, make_dataclass
from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import torch
from torch import Tensor

from isaaclab import VERSION
from isaaclab.app import RUNNING

Box = gym.spaces.Box


@dataclass
class SceneCfg:
    num_envs: int = 4096


@dataclass
class SimCfg:
    device: str = "cuda:0"
    dt: float = 0.05
    physics: str = "newton_mjwarp"


@dataclass
class PointCfg:
    scene: SceneCfg = field(default_factory=SceneCfg)
    sim: SimCfg = field(default_factory=SimCfg)
    decimation: int = 2
    episode_length_s: float = 0.4
    seed: int | None = None
    is_finite_horizon: bool = False
    critic: bool = False
    actions: gym.Space = field(default_factory=lambda: Box(-math.inf, math.inf, (1,)))


if VERSION == 3:
    PointCfg = make_dataclass("PointCfg", [("compute_final_obs", bool, False)], bases=(PointCfg,))  # type: ignore[misc]


@dataclass
class AgentsCfg(PointCfg):
    possible_agents: tuple[str, ...] = ("left", "right")


def time_out(env: Any) -> Tensor:
    return env.episode_length_buf >= env.max_episode_length


def fell(env: Any) -> Tensor:
    return env.x < -0.4


def solved(env: Any) -> Tensor:
    return env.x >= 0.9


class DirectRLEnv(gym.Env):
    """Has no managers; logs once and keeps what it has logged."""

    def __init__(self, cfg: PointCfg, **registered: Any) -> None:
        assert RUNNING, "the simulator must have been started"
        n = cfg.scene.num_envs
        self.cfg, self.device, self.num_envs = cfg, cfg.sim.device, n
        self.step_dt = cfg.sim.dt * cfg.decimation
        self.max_episode_length = math.ceil(cfg.episode_length_s / self.step_dt)
        self.x, self.asked = torch.zeros(n), torch.zeros(n)
        self.episode_length_buf = torch.zeros(n, dtype=torch.long)
        self.common_step_counter = 0
        self.extras: dict[str, Any] = {}
        policy, camera = Box(-math.inf, math.inf, (2,)), Box(0, 255, (4, 5, 3))
        apart = gym.spaces.Dict({"depth": Box(0.0, math.inf, (1, 2, 6)), "x": Box(-math.inf, math.inf, (1,))})
        spaces: dict[str, gym.Space] = {"policy": policy, "camera": camera, "apart": apart}
        spaces["grid"] = Box(0.0, 1.0, (4, 4))
        if cfg.critic:
            spaces["critic"] = Box(-math.inf, math.inf, (1,))
        self.single_observation_space = gym.spaces.Dict(spaces)
        self.single_action_space = cfg.actions

    def observe(self) -> dict[str, Tensor]:
        policy = torch.stack((self.x, self.episode_length_buf.float()), dim=1)
        camera = torch.arange(4 * 5 * 3, dtype=torch.uint8).view(1, 4, 5, 3).repeat(self.num_envs, 1, 1, 1)
        depth = torch.arange(12.0).view(1, 1, 2, 6) / 10 + self.x[:, None, None, None]
        apart = {"depth": depth, "x": policy[:, :1]}
        return {"policy": policy, "critic": 10.0 * policy[:, :1], "camera": camera, "apart": apart}

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, ...]:
        self.x[:], self.episode_length_buf[:] = 0.0, 0
        return self.observe(), self.extras

    def ends(self) -> tuple[Tensor, Tensor]:
        return fell(self) | solved(self), time_out(self)

    def step(self, action: Tensor) -> tuple[Any, ...]:
        self.asked = action[:, 0]  # as some tasks do: kept, not copied
        self.x += 0.25 * self.asked
        self.episode_length_buf += 1
        self.common_step_counter += 1
        terminated, truncated = self.ends()
        reward, over = self.x.clone(), terminated | truncated
        if over.any():
            if getattr(self.cfg, "compute_final_obs", False):
                self.extras["final_obs"] = self.observe()
            self.extras["log"] = {"Metrics/x": self.x[over].mean(), "Metrics/name": "x"}
            self.x[over], self.episode_length_buf[over] = 0.0, 0
        return self.observe(), reward, terminated, truncated, self.extras


class ManagerBasedRLEnv(DirectRLEnv):
    """Has a termination manager."""

    def __init__(self, cfg: PointCfg, **registered: Any) -> None:
        super().__init__(cfg)
        functions = {"time_out": time_out, "fell": fell, "success": solved}
        self.dones: dict[str, Tensor] = {}
        self.termination_manager = SimpleNamespace(
            active_terms=[*functions],
            get_term_cfg=lambda name: SimpleNamespace(func=functions[name]),
            get_term=lambda name: self.dones[name],
        )

    def ends(self) -> tuple[Tensor, Tensor]:
        self.dones = {"time_out": time_out(self), "fell": fell(self), "success": solved(self)}
        return super().ends()
