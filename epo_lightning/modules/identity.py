"""What a network was made for: every checkpoint tells it, and every command compares it."""

from collections.abc import Collection, Mapping
from dataclasses import asdict
from typing import Any

from epo_lightning.envs.base import EnvSpec
from epo_lightning.learner.networks import NetworkSettings
from epo_lightning.limits import Mistake

NETWORK = "model.network."
CHANGEABLE = tuple(NETWORK + name for name in ("log_std_init", "log_std_min", "log_std_max", "obs_clip"))
"""Settings of a network that say nothing about the sizes or the meaning of its weights."""
_TASK = "task"
_OF_THE_TASK = (_TASK, "observation size", "action size", "discrete actions")


def identity(num_agents: int, network: NetworkSettings, spec: EnvSpec) -> dict[str, Any]:
    """Task, sizes and settings of a network, by the keys that a user knows."""
    sizes = (spec.name, spec.obs_dim, spec.act_dim, spec.discrete)
    settings = {NETWORK + name: value for name, value in asdict(network).items()}
    return {**dict(zip(_OF_THE_TASK, sizes, strict=True)), "model.num_agents": num_agents, **settings}


def require_same_identity(saved: Mapping[str, Any], mine: Mapping[str, Any], may_differ: Collection[str] = ()) -> None:
    """Refuse the network of a checkpoint for another task or of another make.

    Args:
        saved: `identity` as the checkpoint has it; the oldest ones do not tell the task.
        mine: `identity` of what it is to be loaded into.
        may_differ: Keys that are not compared.

    Raises:
        Mistake: Naming the key and both values.
    """
    for key, value in mine.items():
        theirs = saved.get(key, value if key == _TASK else None)
        if theirs == value or key in may_differ:
            continue
        own = f" (an environment of yours that is this task says so in EnvSpec.name: {theirs})" if key == _TASK else ""
        raise Mistake(
            f"--ckpt_path does not match: it has {key} {theirs}, not {value}; leave"
            f" {'data.env' if key in _OF_THE_TASK else key} to the checkpoint{own}"
        )
