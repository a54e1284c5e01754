"""Adapters for `WorkerEnv`: a cart that one can follow by hand, and everything that can go wrong with one.

Runs under Python 3.8 as well.
"""

import importlib.util
import os
import signal
import subprocess
import sys
import time

import numpy as np


class Cart:
    """Position and speed; the action is a force. Falls off beyond 1, is timed out after `limit` steps."""

    obs_dim, act_dim, step_seconds, name = 2, 1, 0.05, "Cart"

    def __init__(self, num_envs, seed, limit) -> None:
        self.num_envs, self.max_episode_steps = num_envs, limit
        self.random = np.random.default_rng(seed)
        self.difficulty, self.held = 0.5, False
        self.reset()

    def start(self):
        return self.random.random((self.num_envs, 2), dtype=np.float32) - np.float32(0.5)

    def reset(self):
        self.cart, self.clock = self.start(), np.zeros(self.num_envs, np.int64)
        return self.cart

    def reset_late(self, over):
        obs = self.reset()
        self.clock[:] = over * self.max_episode_steps
        return obs

    def step(self, actions):
        speed = self.cart[:, 1] + np.float32(0.2) * actions[:, 0]
        position = self.cart[:, 0] + np.float32(0.2) * speed
        moved, clock = np.stack((position, speed), 1), self.clock + 1
        terminated, truncated = np.abs(position) > 1.0, clock >= self.max_episode_steps
        done = terminated | truncated
        self.cart = np.where(done[:, None], self.start(), moved)
        self.clock = np.where(done, 0, clock)
        extras = {"final_obs": moved, "successes": np.abs(position) < 0.1, "log": {"speed": np.abs(speed)}}
        return self.cart, -np.abs(position), terminated, truncated, extras


class Resumable(Cart):
    """With a state, and a curriculum."""

    def state(self):
        return {"cart": self.cart, "clock": self.clock, "random": self.random.bit_generator.state}

    def load_state(self, state) -> None:
        self.cart, self.clock = state["cart"], state["clock"]
        self.random.bit_generator.state = state["random"]


class Schooled(Cart):
    """With a curriculum and without a state."""

    def curriculum(self):
        return {"difficulty": self.difficulty}

    def set_curriculum(self, values, hold) -> None:
        self.difficulty, self.held = values["difficulty"], hold

    def step(self, actions):
        *result, extras = super().step(actions)
        if not self.held:
            self.difficulty += 0.125
        return (*result, extras)


def cart(num_envs, seed, limit=20):
    return Resumable(num_envs, seed, limit)


def forgetful(num_envs, seed, limit=20):
    return Cart(num_envs, seed, limit)


def schooled(num_envs, seed):
    return Schooled(num_envs, seed, 20)


class Boxed:
    """What frameworks call a tensor."""

    def __init__(self, array) -> None:
        self._array, self.on_host = array, False

    def detach(self):
        return self

    def cpu(self):
        box = Boxed(self._array)
        box.on_host = True
        return box

    def numpy(self):
        assert self.on_host
        return self._array


class Varied(Cart):
    """Boxed values, lists, float64, an episode that ends both ways, extras that come and go."""

    def step(self, actions):
        obs = np.full((self.num_envs, 2), actions[0, 0], np.float64)
        ended = [True] * self.num_envs
        first = actions[0, 0] > 0
        extras = {"log": {"always": Boxed(actions), "first": 7} if first else {"always": 2.0, "later": np.arange(4.0)}}
        if first:
            extras["final_obs"] = Boxed(obs + 1)
        return Boxed(obs), Boxed(obs[:, 0]), np.array(ended) if first else np.zeros(self.num_envs), ended, extras


class Tensors(Cart):
    """All as torch tensors, one of which wants a gradient."""

    def step(self, actions):
        import torch

        *result, extras = super().step(torch.from_numpy(actions).numpy())
        obs, reward, terminated, truncated = (torch.from_numpy(value) for value in result)
        extras = {"final_obs": torch.from_numpy(extras["final_obs"]), "log": {"speed": torch.ones((), dtype=torch.int)}}
        return obs.requires_grad_(), reward.double(), terminated.long(), truncated.int(), extras


class Choice:
    """Discrete: choose your reward."""

    obs_dim, act_dim, discrete = 1, 3, True

    def __init__(self, num_envs) -> None:
        self.shape = num_envs

    def reset(self):
        return np.zeros((self.shape, 1))

    def step(self, actions):
        assert actions.dtype == np.int64
        assert actions.shape == (self.shape,)
        never = np.zeros(self.shape, bool)
        return self.reset(), actions, never, never, {}


class Trouble(Cart):
    """Does what it is told in its third step."""

    def __init__(self, num_envs, seed, what) -> None:
        self.what, self.steps = what, 0
        super().__init__(num_envs, seed, 20)

    def step(self, actions):
        self.steps += 1
        if self.steps == 3:
            print("the last words of the simulator", file=sys.stderr)
            if self.what == "orphan":
                subprocess.Popen(["sleep", "60"], close_fds=False)
                os._exit(7)
            if self.what == "exit":
                os._exit(7)
            if self.what == "exit on request" and os.path.exists("die"):
                os._exit(7)
            if self.what == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            if self.what == "hang":
                time.sleep(600)
            if self.what == "quit":
                sys.exit("no GPU found")
            if self.what == "raise":
                raise ZeroDivisionError("the physics\nexploded")
            if self.what == "grow":
                return (np.zeros((self.num_envs, 9)), *super().step(actions)[1:])
            if self.what == "log":
                return (*super().step(actions)[:4], {"log": {str(i): i for i in range(256)}})
        if self.what == "chatter":
            for descriptor in (1, 2):
                os.write(descriptor, b"\xff" * 100000 + b"\n")
            print("and from Python", flush=True)
        return super().step(actions)


def varied(num_envs, seed):
    return Varied(num_envs, seed, 20)


def tensors(num_envs, seed):
    return Tensors(num_envs, seed, 4)


def discrete(num_envs, seed):
    return Choice(num_envs)


def trouble(num_envs, seed, what):
    return Trouble(num_envs, seed, what)


def where(num_envs, seed, device):
    made = Cart(num_envs, seed, 20)
    made.name = "{} {} {}".format(device, os.getpid(), "epo_lightning" in sys.modules)
    return made


def places(num_envs, seed, names):
    """Its name tells where modules are looked for, and what would be found under `names`."""
    made = Cart(num_envs, seed, 20)
    found = [importlib.util.find_spec(name) for name in names]
    packages = [name for name in sys.modules if name.startswith("_epo")]
    made.name = " ".join([*sys.path, *[spec.origin for spec in found if spec is not None and spec.origin], *packages])
    return made


def fewer(num_envs, seed):
    return Cart(num_envs - 1, seed, 20)


def nothing(num_envs, seed) -> None:
    return None


def pickled(num_envs, seed):
    made = Resumable(num_envs, seed, 20)
    made.state = lambda: {"random": [made]}
    return made


def never(num_envs, seed) -> None:
    time.sleep(600)


def needs_package(num_envs, seed) -> None:
    import a_simulator_that_nobody_has  # noqa: F401


not_callable = 3
