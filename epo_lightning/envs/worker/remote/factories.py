"""What makes an adapter: ready factories by name, and the user's own."""

from __future__ import annotations

import importlib.util
import inspect
import os
import sys
from collections.abc import Callable
from typing import Any

from .isaacgym import isaacgym
from .isaaclab import isaaclab
from .mistakes import OPTIONS, Mistake, choice, missing, need
from .mjlab import mjlab

FACTORIES: dict[str, Callable[..., Any]] = {"isaacgym": isaacgym, "isaaclab": isaaclab, "mjlab": mjlab}


def make(message: dict[str, Any]) -> Any:
    """The adapter that a message asks for.

    Raises:
        Mistake: When there is no such factory, or it does not take these options.
    """
    factory, options = message["factory"], dict(message["options"])
    call = FACTORIES[factory] if factory in FACTORIES else load_callable(factory)
    parameters = inspect.signature(call).parameters
    named = [each.name for each in parameters.values() if each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)]
    if "device" in named:
        options.setdefault("device", message["device"])
    own = [name for name in named if name not in ("num_envs", "seed", "device")]
    if not any(each.kind == each.VAR_KEYWORD for each in parameters.values()):
        for name in options:
            if name not in own and name != "device":
                raise Mistake(f"{OPTIONS}: {factory} {choice('knows the options', name, own)}")
    for name in own:
        if parameters[name].default is inspect.Parameter.empty and name not in options:
            raise Mistake(f"{OPTIONS}.{name} must be given for {factory}")
    try:
        return call(num_envs=message["num_envs"], seed=message["seed"], **options)
    except ModuleNotFoundError as error:
        raise missing(error, factory) from error


def load_callable(path: str) -> Callable[..., Any]:
    """What `module:callable` or `file.py:callable` names.

    Raises:
        Mistake: When there is no such factory.
    """
    key, (place, _, name) = "data.env.init_args.factory", path.rpartition(":")
    if place.endswith(".py"):
        file = os.path.abspath(os.path.expanduser(place))
        sys.path.insert(0, os.path.dirname(file))
        spec = importlib.util.spec_from_file_location(os.path.splitext(os.path.basename(file))[0], file)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
    else:
        module = need(place, f"{key} {path}")
    found: Callable[..., Any] | None = getattr(module, name, None)
    if not callable(found):
        raise Mistake(f"{key}: {place} has nothing callable named {name}")
    return found
