"""Tasks that keep IsaacGymEnvs' clock: who is done is reset at the beginning of the next step.

The observation is (clock, goals reached in this episode, first action, a random number of this episode).
"""

import os

import numpy as np
import torch


class Task:
    """What all have in common.

    Args:
        config: The key `task` of the configuration.
        device: Where tensors are handed over.
    """

    num_obs, num_acts, num_agents, dt, control_freq_inv = 4, 2, 1, 0.05, 2
    num_states = 0

    def __init__(self, config, device) -> None:
        assert torch.seeds, "stand-in: nobody has seeded torch"
        os.write(1, b"stand-in: *** creating environments ***\n" * 50)
        self.num_envs, self.device, self.rl_device = config["env"]["numEnvs"], device, device
        self.max_episode_length = config["env"]["episodeLength"]
        self.reset_buf = self.tensor(np.ones(self.num_envs, np.int64))
        self.progress_buf = self.tensor(np.zeros(self.num_envs, np.int64))
        self.obs = np.zeros((self.num_envs, self.num_obs), np.float32)
        self.extras = {}

    def tensor(self, array):
        return torch.Tensor(array, self.device)

    def zero_actions(self):
        return self.tensor(np.zeros((self.num_envs, self.num_acts), np.float32))

    def reset_idx(self, rows) -> None:
        rows = getattr(rows, "array", rows)
        self.progress_buf[rows] = 0
        self.reset_buf[rows] = 0
        self.obs[rows, 3] = np.random.rand(len(rows))  # noqa: NPY002  (as the real ones do)

    def step(self, actions):
        assert actions.device == self.rl_device
        self.before(actions)
        self.progress_buf.array += 1
        self.obs[:, 0] = self.progress_buf.array
        self.obs[:, 2] = actions.array[:, 0]
        reward = self.after(actions.array)
        cut = (self.progress_buf.array >= self.max_episode_length - 1) & (self.reset_buf.array != 0)
        self.extras["time_outs"] = self.tensor(cut)
        obs = {"obs": self.tensor(self.obs.copy()), "states": self.states()}
        return obs, self.tensor(reward), self.reset_buf, self.extras

    def states(self):
        return "not for the policy"

    def before(self, actions) -> None:
        rows = self.reset_buf.array.nonzero()[0]
        if len(rows):
            self.reset_idx(rows)

    def after(self, actions):
        """The episode ends with its time, or by a second action below -0.5."""
        over = (self.progress_buf.array >= self.max_episode_length - 1) | (actions[:, 1] < -0.5)
        self.reset_buf[:] = np.where(over, 1, self.reset_buf.array)
        return actions[:, 0].copy()


class Kuka(Task):
    """Goals are reached by a first action above 0.5; each sets the clock back; three end the episode."""

    def __init__(self, config, device) -> None:
        super().__init__(config, device)
        self.max_consecutive_successes = config["env"]["maxConsecutiveSuccesses"]
        self.success_tolerance = config["env"]["successTolerance"]
        self.success_steps = config["env"]["successSteps"]
        self.successes = self.tensor(np.zeros(self.num_envs, np.float32))
        self.prev_episode_true_objective = self.tensor(np.zeros(self.num_envs, np.float32))

    def reset_idx(self, rows) -> None:
        super().reset_idx(rows)
        self.prev_episode_true_objective[rows] = self.successes.array[rows] * 0.01
        self.successes[rows] = 0
        self.extras["scalars"] = {"success_tolerance": self.success_tolerance}

    def _extra_curriculum(self) -> None:
        self.success_tolerance *= 0.5

    def after(self, actions):
        self._extra_curriculum()
        success = actions[:, 0] > 0.5
        self.successes.array += success
        self.progress_buf[success] = 0
        self.obs[:, 1] = self.successes.array
        reward = super().after(actions)
        self.reset_buf[self.successes.array >= self.max_consecutive_successes] = 1
        self.extras["successes"] = self.tensor(np.float32(0.25) * np.ones((), np.float32))
        self.extras["true_objective"] = self.successes
        self.extras["true_objective_mean"] = self.tensor(np.ones((), np.float32))
        self.extras["rewards_episode"] = {"not": "a number"}
        return reward


class Terrain(Task):
    """Resets at once, and forgets that the time was over."""

    def before(self, actions) -> None:
        pass

    def after(self, actions):
        self.reset_buf[:] = 0
        reward = super().after(actions)
        rows = self.reset_buf.array.nonzero()[0]
        self.reset_idx(rows)
        self.reset_buf[rows] = 1
        self.obs[rows, 0] = 0
        return reward


class Stated(Task):
    """Has states of two numbers: the clock, and 7."""

    num_states = 2

    def states(self):
        return self.tensor(np.stack([self.progress_buf.array, np.full(self.num_envs, 7)], axis=1).astype(np.float32))


class Old(Task):
    """Of a release that did not tell time-outs."""

    def step(self, actions):
        obs, reward, reset, _ = super().step(actions)
        return obs, reward, reset, {}


TASKS = {
    "AllegroKuka": Kuka,
    "AllegroKukaTwoArms": Kuka,
    "AnymalTerrain": Terrain,
    "Cartpole": Task,
    "Old": Old,
    "Stated": Stated,
}
