"""Settings of a caller in Python, as a configuration file that the command line reads."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from epo_lightning.limits import Mistake

Settings = Mapping[str, Any]
"""Dotted keys, such as `model.num_agents`, or nested mappings, and Python values."""


class _Dumper(yaml.SafeDumper):
    """Writes every text in quotes, so that it is read as a text, and nothing as a reference to something else."""

    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002
        return True


_Dumper.add_representer(str, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"'))


def write_settings(settings: Settings, path: Path) -> None:
    """Write `settings` as YAML.

    Raises:
        Mistake: When a key is no name or stands twice, or a value is not data.
    """
    path.write_text(yaml.dump(nested(settings), Dumper=_Dumper, sort_keys=False, allow_unicode=True), encoding="utf-8")


def nested(settings: Settings, where: str = "") -> dict[str, Any]:
    """`settings` with a mapping for each part of a dotted key.

    Args:
        settings: What the caller gave.
        where: The dotted key that holds them, for messages.

    Raises:
        Mistake: See `write_settings`.
    """
    if not isinstance(settings, Mapping):
        raise Mistake(f"settings must be a dictionary of keys and values, got {type(settings).__name__}")
    result: dict[str, Any] = {}
    for key, value in settings.items():
        if not isinstance(key, str) or not all(key.split(".")):
            raise Mistake(f"settings: a key must be a name such as trainer.max_epochs, got {key!r}")
        names = key.split(".")
        full = f"{where}{key}"
        tree: Any = nested(value, f"{full}.") if isinstance(value, Mapping) else _as_data(value, full)
        for name in reversed(names):
            tree = {name: tree}
        _merge(result, tree, where)
    return result


def _merge(into: dict[str, Any], tree: dict[str, Any], where: str) -> None:
    """Add the keys of `tree`; none may stand twice."""
    for name, value in tree.items():
        if name not in into:
            into[name] = value
        elif isinstance(into[name], dict) and isinstance(value, dict):
            _merge(into[name], value, f"{where}{name}.")
        else:
            raise Mistake(f"settings: {where}{name} is given twice")


def _as_data(value: object, key: str) -> Any:  # noqa: ANN401  (whatever a configuration can hold)
    """A value as plain data."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, list | tuple | range):
        return [_as_data(each, key) for each in value]
    if isinstance(value, Mapping):
        return nested(value, f"{key}.")
    if isinstance(value, bool | int | str) or value is None or (isinstance(value, float) and not math.isnan(value)):
        return value
    raise Mistake(
        f"settings: {key} must be data (numbers, texts, lists, dictionaries), which a run can keep and read again; got"
        f" {value if isinstance(value, float) else type(value).__name__}"
    )
