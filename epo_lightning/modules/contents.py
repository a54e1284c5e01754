"""What a checkpoint holds besides what Lightning puts into it, and under which names: the one place that knows.

Shape legend: N environments of a rank.

The command line adds the configuration, the module what its network was built for and the experience of every rank.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor

from epo_lightning.algorithm.population import MASTER
from epo_lightning.learner.observations import Group, require_groups
from epo_lightning.limits import Mistake
from epo_lightning.modules.identity import Identity

CONFIG = "epo_config"
"""The configuration of the run, as YAML."""
SIGNATURE = "epo_signature"
"""The mark of that configuration (see `cli.trust.signature`)."""
IDENTITY = "identity"
"""What the network was built for, as `Identity` tells it."""
LAYOUT = "layout"
"""Number of the layout of what follows."""
RANKS = "ranks"
"""The experience of every rank (see `Experience.saved`)."""
HISTORY = "history"
"""Where the run comes from, and what it took so far (see `run.history`)."""
COMPILED = "compiled"
"""Whether the run computed with compiled code (see `compilation`)."""
POLICY = "policy."
"""How the names of the network's weights begin in `state_dict`."""

CHAMPION = "policy.best"
"""Where a population without a master keeps who is its best."""

PRESENT_LAYOUT = 3
"""Of what a checkpoint keeps for a run that goes on; raised when that changes."""
_OLD_IDENTITY = "epo"
_OLD_NAMES = {"observation size": "obs_dim", "action size": "act_dim", "discrete actions": "discrete", "task": "task"}
"""Layouts 1 and 2 had a dictionary of these and of keys that begin with `model.`."""


def identity_of(checkpoint: Mapping[str, Any]) -> Identity:
    """What the network of a checkpoint was built for.

    Raises:
        Mistake: When it does not tell.
    """
    stored = checkpoint.get(IDENTITY, checkpoint.get(_OLD_IDENTITY))
    try:
        if IDENTITY not in checkpoint:
            stored = _upgraded(cast(dict[str, Any], stored))
        identity = Identity(**cast(dict[str, Any], stored))
        model = {str(key): tuple(value) if isinstance(value, list) else value for key, value in identity.model.items()}
        groups = tuple(_group(**group) for group in cast(Any, identity.groups))
        require_groups(groups, identity.obs_dim)
    except (TypeError, AttributeError, KeyError, Mistake) as error:
        raise Mistake("ckpt_path: it does not say for which network its weights are") from error
    return replace(identity, model=model, groups=groups)


def _group(name: str, shape: Any, privileged: bool) -> Group:
    """One of the observation."""
    return Group(name, tuple(shape) if isinstance(shape, list) else shape, bool(privileged))


def _upgraded(old: dict[str, Any]) -> dict[str, Any]:
    """The identity of an older layout under the present names; the oldest ones do not tell the task."""
    sizes = {name: old.get(key, "") for key, name in _OLD_NAMES.items()}
    model = {key.removeprefix("model."): value for key, value in old.items() if key.startswith("model.")}
    return {"algorithm": "epo", **sizes, "model": model}


def has_present_layout(checkpoint: Mapping[str, Any]) -> bool:
    """Whether a training can go on from it."""
    return checkpoint.get(LAYOUT) == PRESENT_LAYOUT


def ranks_of(checkpoint: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The experience of every rank; empty where there has been no iteration."""
    old = checkpoint.get("RolloutDataModule", {})
    ranks = checkpoint.get(RANKS, old.get(RANKS, []) if isinstance(old, dict) else None)
    if not (isinstance(ranks, list) and all(isinstance(rank, dict) for rank in ranks)):
        raise Mistake("ckpt_path: it does not hold the ranks of a training")
    return ranks


def env_steps_of(checkpoint: Mapping[str, Any]) -> int:
    """How many the training had made, over all environments and ranks."""
    ranks = ranks_of(checkpoint)
    return int(ranks[0].get("env_steps", 0)) if ranks else 0


def champion_of(checkpoint: Mapping[str, Any]) -> int:
    """The agent that acts where nobody is named; of weights that nobody has checked yet."""
    state = checkpoint.get("state_dict")
    best = state.get(CHAMPION) if isinstance(state, dict) else None
    if isinstance(best, Tensor) and best.dim() == 0 and best.dtype == torch.int64:
        return int(best)
    return MASTER


def curriculum_of(checkpoint: Mapping[str, Any]) -> dict[str, float] | None:
    """The difficulty that the training had reached; None when the checkpoint was written before any rollout."""
    ranks = ranks_of(checkpoint)
    return ranks[0]["curriculum"] if ranks else None


def gather(local: dict[str, Any]) -> list[dict[str, Any]] | None:
    """`local` of every rank, on the CPU of the first, which writes: a collective call when there are several."""
    local = cast(dict[str, Any], _to_cpu(local))
    if not (dist.is_available() and dist.is_initialized()):
        return [local]
    ranks: list[Any] | None = [None] * dist.get_world_size() if dist.get_rank() == 0 else None
    dist.gather_object(local, ranks)
    return ranks


def require_resumable(checkpoint: Mapping[str, Any], world_size: int, num_envs: int, device: torch.device) -> None:
    """Refuse to train on where that cannot go on.

    Args:
        checkpoint: Its contents.
        world_size: Ranks of this training.
        num_envs: N of this training.
        device: Of this rank.

    Raises:
        Mistake: When another version or kind of device wrote it, or as many ranks with other environments.
    """
    if not has_present_layout(checkpoint):
        raise Mistake(
            "--ckpt_path was written by another version of epo_lightning, which kept other things of a running"
            " training: validate, test and play it, or start a new run"
        )
    ranks = ranks_of(checkpoint)
    if not ranks:
        return
    if "obs" not in ranks[0]:
        raise Mistake(
            "--ckpt_path holds a policy without the state of its training: begin a new run with it, by fit --pretrained"
        )
    envs = ranks[0]["obs"].shape[0]
    if envs != num_envs and len(ranks) == world_size:
        raise Mistake(
            f"--ckpt_path: data.num_envs {envs} -> {num_envs} cannot change on resume, every environment has a running"
            " episode in the checkpoint; leave it to the checkpoint, or start a new run (on another number of ranks it"
            " may change)"
        )
    if len(ranks[0]["generator"]) != len(torch.Generator(device).get_state()):
        raise Mistake(
            f"--ckpt_path was not trained on a {device.type}, and random numbers go on only on the same kind of device:"
            " choose it by --trainer.accelerator"
        )


def _to_cpu(value: object) -> object:
    """`value` with every tensor in it copied to the CPU."""
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        return {key: _to_cpu(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_to_cpu(item) for item in value)
    return value
