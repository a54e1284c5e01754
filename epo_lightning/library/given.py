"""Environments that a caller gives as Python objects: what the configuration says of them, so that it stays data."""

import sys
from collections.abc import Callable
from typing import Any

import torch

from epo_lightning.envs.base import EnvFactory, VectorEnv
from epo_lightning.limits import Mistake

_GIVEN: dict[str, EnvFactory] = {}
"""By name, of this process."""


class GivenEnv(VectorEnv):
    """Stands in a configuration for what only a Python process knows, such as a function defined in a notebook.

    Args:
        num_envs: See `VectorEnv`.
        device: See `VectorEnv`.
        seed: See `VectorEnv`.
        name: What it was called in Python.

    Raises:
        Mistake: When this process does not know it.
    """

    def __new__(cls, num_envs: int, device: torch.device, seed: int, name: str) -> VectorEnv:  # type: ignore[misc]
        """Build what was given."""
        if name not in _GIVEN:
            raise Mistake(
                f"data.env: this run's environment, {name}, was given as a Python object: go on in Python, with"
                " train(..., env=...), or name a class by data.env.class_path"
            )
        return _GIVEN[name](num_envs, device, seed)


def env_settings(env: object) -> dict[str, Any]:
    """What a configuration says of an environment: nested settings below `data.env`.

    A class that can be imported by its name (also one of `__main__`) is named; everything else stays in this process.

    Args:
        env: A subclass of `VectorEnv`, its import path, or a function (num_envs, device, seed) -> environment.

    Raises:
        Mistake: When it is none of these.
    """
    if isinstance(env, str):
        return {"class_path": env}
    if isinstance(env, VectorEnv):
        raise Mistake(
            f"env: give the class {type(env).__name__} or a function (num_envs, device, seed) -> environment, not an"
            " environment: an evaluation needs more of them"
        )
    if isinstance(env, type) and not issubclass(env, VectorEnv):
        raise Mistake(f"env: {env.__name__} must derive from epo_lightning.envs.base.VectorEnv")
    if not callable(env):
        raise Mistake(
            "env must be a subclass of epo_lightning.envs.base.VectorEnv, its import path, or a function (num_envs,"
            f" device, seed) -> environment; got {type(env).__name__}"
        )
    if isinstance(env, type) and _is_importable(env):
        return {"class_path": f"{env.__module__}.{env.__qualname__}"}
    name = _name_of(env)
    _GIVEN[name] = env
    return {"class_path": f"{__name__}.{GivenEnv.__name__}", "init_args": {"name": name}}


def _is_importable(kind: type) -> bool:
    """Whether the name of a class leads to it."""
    return getattr(sys.modules.get(kind.__module__), kind.__qualname__, None) is kind


def _name_of(env: Callable[..., Any]) -> str:
    """What Python calls it; of an object without a name, its class."""
    named = env if hasattr(env, "__qualname__") else type(env)
    return f"{named.__module__}.{named.__qualname__}"
