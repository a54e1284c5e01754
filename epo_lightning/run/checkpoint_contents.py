"""What a checkpoint holds besides its configuration: checked before anything is built from it.

Shape legend: K agents.

The sizes that a file names must be those of the weights that it holds, so that nothing is allocated that is not there.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from epo_lightning.learner.policy import Policy
from epo_lightning.limits import Mistake
from epo_lightning.modules import algorithm_class, contents
from epo_lightning.modules.identity import UnknownSettingError
from epo_lightning.run.history import history_of

_KINDS = {"epoch": int, "global_step": int, "loops": dict, "callbacks": dict, "optimizer_states": list,
          "lr_schedulers": list}  # fmt: skip
"""What Lightning restores."""


def require_sound(checkpoint: Mapping[str, Any], config: Mapping[str, Any]) -> None:
    """Refuse a checkpoint whose parts do not belong together.

    Args:
        checkpoint: See `checkpoint.read_checkpoint`.
        config: Its configuration.

    Raises:
        Mistake: Naming the part.
    """
    saved_network(checkpoint)
    identity = contents.identity_of(checkpoint)
    if config.get("algorithm", identity.algorithm) != identity.algorithm:
        raise Mistake("ckpt_path: its configuration and its weights have another algorithm: it is damaged")
    for key, value in identity.model.items():
        said = _said(config.get("model"), key.split("."), value)
        if (tuple(said) if isinstance(said, list) else said) != value:
            raise Mistake(f"ckpt_path: its configuration and its weights have another model.{key}: it is damaged")
    _require_curricula(checkpoint)
    history_of(checkpoint)
    for name, kind in _KINDS.items():
        if not isinstance(checkpoint.get(name, kind()), kind):
            raise Mistake(f"ckpt_path: its {name} is of the type {type(checkpoint[name]).__name__}: it is damaged")


def saved_network(checkpoint: Mapping[str, Any]) -> Policy:
    """The network of a checkpoint without its numbers, on the device `meta`.

    Raises:
        Mistake: When the file names no network, or holds other weights than that.
    """
    identity, weights = contents.identity_of(checkpoint), saved_weights(checkpoint)
    try:
        if not all(_is_plain(value, len(weights)) for value in identity.plain_values()):
            raise TypeError("not a number")
        with torch.device("meta"):
            policy = algorithm_class(identity.algorithm).build_policy(identity)
    except UnknownSettingError:
        raise
    except Exception as error:  # torch raises half a dozen types for sizes that cannot be
        raise Mistake(f"ckpt_path: there is no network of the sizes that it names ({type(error).__name__})") from error
    if fault := next(_misfits(weights, policy.state_dict()), None):
        raise Mistake(f"ckpt_path: its weights are not those of the network that it names: {fault}")
    return policy


def _said(config: object, path: Sequence[str], default: object) -> object:
    """What a configuration says at `path`; `default` where it says nothing."""
    for name in path:
        if not isinstance(config, Mapping) or name not in config:
            return default
        config = config[name]
    return config


def saved_weights(checkpoint: Mapping[str, Any]) -> dict[str, Tensor]:
    """The network's part of the `state_dict`.

    Raises:
        Mistake: When there is none.
    """
    state = checkpoint.get("state_dict")
    if not (isinstance(state, dict) and all(isinstance(name, str) for name in state)):
        raise Mistake("ckpt_path: it has no state_dict")
    return {
        name.removeprefix(contents.POLICY): value for name, value in state.items() if name.startswith(contents.POLICY)
    }


def _require_curricula(checkpoint: Mapping[str, Any]) -> None:
    """Every rank's is names and numbers, where there has been a rollout."""
    for rank in contents.ranks_of(checkpoint):
        values = rank.get("curriculum")
        if not (isinstance(values, dict) and all(_is_difficulty(*item) for item in values.items())):
            raise Mistake("ckpt_path: its curriculum is not names and numbers")


def _is_difficulty(name: object, value: object) -> bool:
    return isinstance(name, str) and name.isprintable() and isinstance(value, bool | int | float)


def _is_plain(value: object, most: int) -> bool:
    """Whether it is what an identity holds: nothing, a number, a short text, or at most `most` whole numbers."""
    if isinstance(value, tuple):
        return len(value) <= most and all(isinstance(entry, int) for entry in value)
    return (
        value is None
        or isinstance(value, int | float)
        or (isinstance(value, str) and value.isprintable() and len(value) < 100)
    )


def _misfits(weights: Mapping[str, Any], wanted: Mapping[str, Tensor]) -> Iterator[str]:
    """What is missing, too much, or of another shape."""
    for name in sorted(wanted.keys() | weights.keys()):
        if name not in weights:
            yield f"{name} is missing"
        elif name not in wanted:
            yield f"{ascii(name)[:80]} is none of its parameters"
        elif not isinstance(value := weights[name], Tensor) or value.layout != torch.strided or value.is_quantized:
            yield f"{name} is not a plain tensor"
        elif value.shape != wanted[name].shape:
            yield f"{name} has shape {tuple(value.shape)} instead of {tuple(wanted[name].shape)}"
