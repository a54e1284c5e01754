"""What a command line gives itself, by configuration files and flags, and that nothing of it is lost."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from epo_lightning.cli.arguments import find_config, option_values, with_bases
from epo_lightning.documents.config_file import read_config
from epo_lightning.documents.plain_yaml import Loader
from epo_lightning.limits import Mistake

_NO_SETTINGS = ("config", "trust")


def given_settings(args: list[str]) -> dict[str, Any]:
    """What a command line gives itself: dotted keys without `init_args`, and values.

    What cannot be read is left out: the parser will say what is wrong with it.

    Args:
        args: After `arguments.resolve`.
    """
    given = _of_files([Path(name) for _, name in option_values(args, "--config", "-c")])
    for flag, value in _flags(args):
        key = _without_init_args(flag)
        given |= {key: value} | _flat(value, f"{key}.")
    return given


def gives(given: Mapping[str, Any], key: str) -> bool:
    """Whether the value at `key`, or the class whose argument it is, is among `given`; a part of it is not enough."""
    names = key.split(".")
    above = [".".join(names[:end]) for end in range(1, len(names) + 1)]
    return any(f"{each}.class_path" in given or (each in given and not isinstance(given[each], dict)) for each in above)


def require_flags_behind_files(args: list[str]) -> None:
    """Refuse a flag that a file after it takes back.

    Args:
        args: As the user gave them.

    Raises:
        Mistake: Naming the flag and the file.
    """
    for place, name in option_values(args, "--config", "-c"):
        flags = _flags(args[:place])
        given = _of_files(with_bases(find_config(name))) if flags else {}
        for flag, value in flags:
            key = _without_init_args(flag).removesuffix("+")
            below = any(each.startswith(f"{key}.") for each in given)
            if (gives(given, key) or below) and _read(given.get(key, given)) != value:
                raise Mistake(
                    f"--{flag} stands before --config {name}, which says something else of it and would win: put the"
                    " flag behind the file"
                )


def _of_files(files: list[Path]) -> dict[str, Any]:
    given: dict[str, Any] = {}
    for file in files:
        given |= _flat(read_config(file).values)
    return given


def _flags(args: list[str]) -> list[tuple[str, object]]:
    """Name, as it is written, and value of every flag that sets something."""
    found = []
    for index, arg in enumerate(args):
        name, equals, value = arg.partition("=")
        flag = name.removeprefix("--")
        if not name.startswith("--") or flag in _NO_SETTINGS:
            continue
        value = value if equals else args[index + 1] if index + 1 < len(args) else ""
        found.append((flag, _read(value)))
    return found


def _read(value: object) -> object:
    """What a text means as YAML, where it means anything."""
    try:
        return yaml.load(value, Loader) if isinstance(value, str) else value  # a safe one
    except (ValueError, yaml.YAMLError):
        return value


def _flat(value: object, prefix: str = "") -> dict[str, Any]:
    """Every key in nested mappings, with its value."""
    found: dict[str, Any] = {}
    for name, item in value.items() if isinstance(value, dict) else ():
        found[_without_init_args(f"{prefix}{name}")] = item
        found |= _flat(item, f"{prefix}{name}.")
    return found


def _without_init_args(key: str) -> str:
    return key.replace(".init_args", "")
