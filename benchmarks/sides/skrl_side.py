"""skrl's PPO in `benchmarks/peers.py`: one trunk, its own trainer and logger."""

from typing import Any

import gymnasium
import numpy as np
import torch
from noise import ACT, EPOCHS, HORIZON, MINIBATCHES, OBS, Noise, given, tell
from skrl.agents.torch.ppo import PPO
from skrl.envs.wrappers.torch import Wrapper
from skrl.memories.torch import RandomMemory
from skrl.models.torch import DeterministicMixin, GaussianMixin, Model
from skrl.resources.preprocessors.torch import RunningStandardScaler
from skrl.resources.schedulers.torch import KLAdaptiveLR
from skrl.trainers.torch import SequentialTrainer
from torch import Tensor, nn


class Env(Wrapper):
    """The noise as skrl steps it."""

    def __init__(self, noise: Noise) -> None:
        super().__init__(noise)
        self.noise = noise
        noise.device = torch.device("cpu")
        noise.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (OBS,))
        noise.action_space = gymnasium.spaces.Box(-1, 1, (ACT,))

    def reset(self) -> tuple[Tensor, dict[str, Any]]:
        return self.noise.first(), {}

    def step(self, actions: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, dict[str, Any]]:
        obs, reward, done = self.noise.next()
        return obs, reward[:, None], done[:, None], torch.zeros_like(done[:, None]), {}

    def state(self) -> None:
        return None

    def render(self) -> None:
        return None

    def close(self) -> None:
        return None


class Network(GaussianMixin, DeterministicMixin, Model):
    """One trunk for actor and critic, which the critic uses again, as skrl's own examples have it."""

    def __init__(self, env: Env, hidden: list[int]) -> None:
        Model.__init__(self, observation_space=env.observation_space, action_space=env.action_space, device="cpu")
        GaussianMixin.__init__(self, role="policy")
        DeterministicMixin.__init__(self, role="value")
        widths = [OBS, *hidden]
        layers = [part for a, b in zip(widths, hidden, strict=False) for part in (nn.Linear(a, b), nn.ELU())]
        self.trunk, self.mean, self.value = nn.Sequential(*layers), nn.Linear(hidden[-1], ACT), nn.Linear(hidden[-1], 1)
        self.log_std = nn.Parameter(torch.zeros(ACT))
        self.features: Tensor | None = None

    def act(self, inputs: dict[str, Any], *, role: str = "") -> tuple[Tensor, dict[str, Any]]:
        return (GaussianMixin if role == "policy" else DeterministicMixin).act(self, inputs, role=role)

    def compute(self, inputs: dict[str, Any], role: str = "") -> tuple[Tensor, dict[str, Any]]:
        if role == "policy":
            self.features = self.trunk(inputs["observations"])
            return self.mean(self.features), {"log_std": self.log_std}
        features = self.trunk(inputs["observations"]) if self.features is None else self.features
        self.features = None
        return self.value(features), {}


def main() -> None:
    """Train and tell."""
    job = given()
    noise = Noise(job)
    env = Env(noise)
    network = Network(env, job["hidden"])
    if job["compile"]:
        network.trunk = torch.compile(network.trunk)
    memory = RandomMemory(memory_size=HORIZON, num_envs=noise.num_envs, device="cpu")
    settings = {
        "rollouts": HORIZON,
        "learning_epochs": EPOCHS,
        "mini_batches": MINIBATCHES,
        "learning_rate": 3e-4,
        "learning_rate_scheduler": KLAdaptiveLR,
        "learning_rate_scheduler_kwargs": {"kl_threshold": 0.016},
        "observation_preprocessor": RunningStandardScaler,
        "observation_preprocessor_kwargs": {"size": env.observation_space, "device": "cpu"},
        "value_preprocessor": RunningStandardScaler,
        "value_preprocessor_kwargs": {"size": 1, "device": "cpu"},
        "grad_norm_clip": 1.0,
        "value_loss_scale": 1.0,
        "experiment": {"directory": job["folder"], "write_interval": HORIZON, "checkpoint_interval": 0},
    }
    from skrl.agents.torch.base import ExperimentCfg

    settings["experiment"] = ExperimentCfg(**settings["experiment"])
    agent = PPO(
        models={"policy": network, "value": network},
        memory=memory,
        observation_space=env.observation_space,
        action_space=env.action_space,
        device="cpu",
        cfg=settings,
    )
    steps = HORIZON * job["iterations"]
    SequentialTrainer(
        env=env, agents=agent, cfg={"timesteps": steps, "headless": True, "disable_progressbar": True}
    ).train()
    tell(noise.times, job["warm_up"])


if __name__ == "__main__":
    main()
