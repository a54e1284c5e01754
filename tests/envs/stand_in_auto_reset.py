"""For the real mjlab: an adapter of its own automatic reset, to compare with ours."""

from typing import Any


class Auto:
    """Observations after resets, rewards and ends, as mjlab gives them."""

    def __init__(self, num_envs: int, seed: int, task: str, seconds: float) -> None:
        import mjlab.tasks  # noqa: F401  (registers)
        from mjlab.envs import ManagerBasedRlEnv
        from mjlab.tasks.registry import load_env_cfg

        config = load_env_cfg(task)
        config.scene.num_envs, config.seed, config.episode_length_s = num_envs, seed, seconds
        self.env = ManagerBasedRlEnv(config, device="cpu")
        self.act_dim = self.env.single_action_space.shape[0]
        self.obs_dim = self.env.single_observation_space.spaces["actor"].shape[0]

    def reset(self) -> Any:
        return self.env.reset()[0]["actor"]

    def step(self, actions: Any) -> tuple[Any, ...]:
        import torch

        obs, *rest, _ = self.env.step(torch.tensor(actions))
        return obs["actor"], *rest, {}


def auto(num_envs: int, seed: int, task: str, seconds: float) -> Auto:
    return Auto(num_envs, seed, task, seconds)
