"""rsl_rl's PPO in `benchmarks/peers.py`: it has separate networks for actor and critic, so twice the products."""

import torch
from noise import ACT, EPOCHS, HORIZON, MINIBATCHES, Noise, given, tell
from rsl_rl.env import VecEnv
from rsl_rl.runners import OnPolicyRunner
from tensordict import TensorDict
from torch import Tensor


class Env(VecEnv):
    """The noise as rsl_rl steps it."""

    def __init__(self, noise: Noise) -> None:
        self.noise, self.num_envs, self.num_actions, self.device, self.cfg = noise, noise.num_envs, ACT, "cpu", {}
        self.max_episode_length, self.episode_length_buf = 1000, torch.zeros(noise.num_envs, dtype=torch.long)

    def get_observations(self) -> TensorDict:
        return self._named(self.noise.first())

    def step(self, actions: Tensor) -> tuple[TensorDict, Tensor, Tensor, dict[str, Tensor]]:
        obs, reward, done = self.noise.next()
        return self._named(obs), reward, done, {"time_outs": torch.zeros_like(done)}

    def _named(self, obs: Tensor) -> TensorDict:
        return TensorDict({"policy": obs}, batch_size=[self.num_envs])


def main() -> None:
    """Train and tell."""
    job = given()
    noise = Noise(job)
    net = {"class_name": "MLPModel", "hidden_dims": job["hidden"], "activation": "elu", "obs_normalization": True}
    algorithm = {
        "class_name": "PPO",
        "num_learning_epochs": EPOCHS,
        "num_mini_batches": MINIBATCHES,
        "learning_rate": 3e-4,
        "desired_kl": 0.016,
        "entropy_coef": 0.0,
        "value_loss_coef": 1.0,
    }
    cfg = {
        "num_steps_per_env": HORIZON,
        "save_interval": 10**9,
        "obs_groups": {"actor": ["policy"], "critic": ["policy"]},
        "actor": {**net, "distribution_cfg": {"class_name": "GaussianDistribution", "std_type": "log"}},
        "critic": net,
        "algorithm": algorithm,
        "torch_compile_mode": "default" if job["compile"] else None,
    }
    OnPolicyRunner(Env(noise), cfg, log_dir=job["folder"], device="cpu").learn(job["iterations"])
    tell(noise.times, job["warm_up"])


if __name__ == "__main__":
    main()
