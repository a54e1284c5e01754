"""rl_games' PPO in `benchmarks/peers.py`: one trunk, with and without its torch.compile, which is on by default."""

import os
from typing import Any

import gymnasium
import numpy as np
from noise import ACT, OBS, Noise, given, rl_games_settings, tell
from rl_games.common import env_configurations, vecenv
from rl_games.common.ivecenv import IVecEnv
from rl_games.torch_runner import Runner
from torch import Tensor

MADE: list[Noise] = []


class Env(IVecEnv):
    """The noise as rl_games steps it."""

    def __init__(self, job: dict[str, Any]) -> None:
        self.noise = Noise(job)
        MADE.append(self.noise)

    def reset(self) -> Tensor:
        return self.noise.first()

    def step(self, actions: Tensor) -> tuple[Tensor, Tensor, Tensor, dict[str, Any]]:
        return *self.noise.next(), {}

    def get_env_info(self) -> dict[str, Any]:
        obs, actions = gymnasium.spaces.Box(-np.inf, np.inf, (OBS,)), gymnasium.spaces.Box(-1, 1, (ACT,))
        return {"observation_space": obs, "action_space": actions}


def main() -> None:
    """Train and tell."""
    job = given()
    os.chdir(job["folder"])
    vecenv.register("NOISE", lambda config_name, num_actors, **_: Env(job))
    env_configurations.register("noise", {"vecenv_type": "NOISE", "env_creator": lambda **_: None})
    space = {
        "mu_activation": "None",
        "sigma_activation": "None",
        "mu_init": {"name": "default"},
        "sigma_init": {"name": "const_initializer", "val": 0},
        "fixed_sigma": True,
    }
    mlp = {"units": job["hidden"], "activation": "elu", "initializer": {"name": "default"}}
    config = {
        **rl_games_settings(job),
        "name": "noise",
        "device_name": "cpu",
        "torch_compile": job["compile"],
    }
    params = {
        "seed": 1,
        "algo": {"name": "a2c_continuous"},
        "model": {"name": "continuous_a2c_logstd"},
        "network": {"name": "actor_critic", "separate": False, "space": {"continuous": space}, "mlp": mlp},
        "config": config,
    }
    runner = Runner()
    runner.load({"params": params})
    runner.run({"train": True, "play": False})
    tell(MADE[-1].times, job["warm_up"])


if __name__ == "__main__":
    main()
