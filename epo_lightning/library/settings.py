"""Settings of a caller in Python, as a configuration file that the command line reads."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from epo_lightning.documents.keys import nested
from epo_lightning.documents.plain_yaml import dump
from epo_lightning.limits import Mistake

Settings = Mapping[str, Any]
"""Dotted keys, such as `model.num_agents`, or nested mappings, and Python values."""


def write_settings(settings: Settings, path: Path) -> None:
    """Write `settings` as YAML.

    Raises:
        Mistake: When a key is no name or stands twice, or a value is not data.
    """
    path.write_text(dump(as_nested(settings)), encoding="utf-8")


def as_nested(settings: Settings) -> dict[str, Any]:
    """`settings` with a mapping for each part of a dotted key.

    Raises:
        Mistake: See `write_settings`.
    """
    if not isinstance(settings, Mapping):
        raise Mistake(f"settings must be a dictionary of keys and values, got {type(settings).__name__}")
    return nested({key: _as_data(value, str(key)) for key, value in settings.items()}, lambda _: "settings: ")


def _as_data(value: object, key: str) -> Any:  # noqa: ANN401  (whatever a configuration can hold)
    """A value as plain data."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, list | tuple | range):
        return [_as_data(each, key) for each in value]
    if isinstance(value, Mapping):
        return nested({name: _as_data(each, f"{key}.{name}") for name, each in value.items()}, lambda _: "settings: ")
    if isinstance(value, bool | int | str) or value is None or (isinstance(value, float) and not math.isnan(value)):
        return value
    raise Mistake(
        f"settings: {key} must be data (numbers, texts, lists, dictionaries), which a run can keep and read again; got"
        f" {value if isinstance(value, float) else type(value).__name__}"
    )
