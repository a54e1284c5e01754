"""The EPO code that its authors released (github.com/YifanSu1301/EPO), in `benchmarks/peers.py`: learner and observer.

`job["released_epo"]` is a checkout. Its simulator cannot be installed here, so the environment is the noise, with the
two tensors in `infos` from which its observer takes the fitness; what its tasks add beyond these (eight more sums, each
with a loop over ended episodes) is not there. Modules that only its simulator, its shell or its genetic algorithm would
need stand in empty. Its command's settings: 64 blocks, learned parameters, a leader that takes one follower's block.
"""

import os
import sys
import types
from pathlib import Path
from typing import Any
from unittest import mock

import gymnasium
import numpy as np
import torch
from noise import ACT, HORIZON, OBS, Noise, given, rl_games_settings, tell
from torch import Tensor


def stand_in(name: str, **contents: Any) -> None:
    """A module of that name, which holds nothing else."""
    module = types.ModuleType(name)
    vars(module).update(contents)
    sys.modules[name] = module


def released(checkout: Path) -> tuple[Any, ...]:
    """Runner, registers of environments, their base class and the observer, as the checkout has them."""
    sys.path.insert(0, str(checkout / "rl_games"))
    for name in ("", ".spaces", ".wrappers"):
        sys.modules[f"gym{name}"] = __import__(f"gymnasium{name}", fromlist=["_"])
    wrappers: Any = sys.modules["gym.wrappers"]
    wrappers.FilterObservation = object
    nothing = type("Nothing", (), {})
    stand_in("omegaconf", DictConfig=nothing, OmegaConf=nothing)
    stand_in("scipy")
    stand_in("scipy.stats", skew=None)
    stand_in("isaacgymenvs.tasks", isaacgym_task_map={})
    stand_in("isaacgymenvs.pbt")
    stand_in("isaacgymenvs.pbt.pbt", PbtAlgoObserver=nothing)
    for name in ("isaacgymenvs", "isaacgymenvs.utils"):
        stand_in(name, __path__=[str(checkout.joinpath(*name.split(".")))])
    from isaacgymenvs.utils.rlgames_utils import _UNINITIALIZED_VALUE, EPOObserver  # noqa: F401
    from rl_games.common import env_configurations, vecenv
    from rl_games.common.ivecenv import IVecEnv
    from rl_games.torch_runner import Runner

    return Runner, vecenv, env_configurations, IVecEnv, EPOObserver


def main() -> None:
    """Train and tell."""
    job = given()
    runner_of, vecenv, env_configurations, base, observer_of = released(Path(job["released_epo"]))
    os.chdir(job["folder"])
    made: list[Noise] = []

    class Env(base):
        """The noise as its learner steps it."""

        def __init__(self) -> None:
            self.noise = Noise(job)
            self.env = types.SimpleNamespace(device="cpu")
            self.told = {"successes": torch.zeros(job["envs"]), "true_objective": torch.zeros(job["envs"])}
            made.append(self.noise)

        def reset(self) -> Tensor:
            return self.noise.first()

        def step(self, actions: Tensor) -> tuple[Tensor, Tensor, Tensor, dict[str, Any]]:
            return *self.noise.next(), dict(self.told)

        def get_env_info(self) -> dict[str, Any]:
            obs, actions = gymnasium.spaces.Box(-np.inf, np.inf, (OBS,)), gymnasium.spaces.Box(-1, 1, (ACT,))
            return {"observation_space": obs, "action_space": actions}

    vecenv.register("NOISE", lambda config_name, num_actors, **_: Env())
    env_configurations.register("noise", {"vecenv_type": "NOISE", "env_creator": lambda **_: None})
    agents = job["agents"]
    space = {
        "mu_activation": "None",
        "sigma_activation": "None",
        "mu_init": {"name": "default"},
        "sigma_init": {"name": "const_initializer", "val": 0},
        "fixed_sigma": "coef_cond",
    }
    mlp = {"units": job["hidden"], "activation": "elu", "d2rl": False}
    mlp.update(initializer={"name": "default"}, regularizer={"name": "None"})
    config = {
        **rl_games_settings(job),
        "name": "00_noise",
        "schedule_type": "standard",
        "seq_length": HORIZON,
        "use_others_experience": "lf",
        "off_policy_ratio": 1.0,
        "expl_type": "mixed_expl_learn_param",
        "expl_reward_type": "none",
        "expl_reward_coef_scale": 1.0,
        "expl_coef_block_size": job["envs"] // agents,
        "epo": True,
    }
    network = {"name": "actor_critic", "separate": False, "space": {"continuous": space}, "mlp": mlp}
    params = {
        "seed": 1,
        "algo": {"name": "a2c_continuous"},
        "model": {"name": "continuous_a2c_logstd"},
        "network": network,
        "config": config,
    }
    sizes = types.SimpleNamespace(
        task=types.SimpleNamespace(env=types.SimpleNamespace(numEnvs=job["envs"])),
        train=types.SimpleNamespace(params=types.SimpleNamespace(config=types.SimpleNamespace(**config))),
    )
    runner = runner_of(observer_of(sizes))
    runner.load({"params": params})
    with mock.patch("time.sleep"):  # it waits 31 s where it removes a link that is not there
        runner.run({"train": True, "play": False})
    tell(made[-1].times, job["warm_up"])


if __name__ == "__main__":
    main()
