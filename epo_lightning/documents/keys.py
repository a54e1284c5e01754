"""Keys of configurations: those with dots stand where they belong, and one that nothing knows names the nearest."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from epo_lightning.documents.nearest import hint
from epo_lightning.limits import Mistake

Settings = dict[str, Any]
"""A part of a configuration, nested as in its file."""


def nested(given: Mapping[Any, Any], place: Callable[[str], str]) -> Settings:
    """Settings whose keys may have dots (`trainer.max_epochs`), as they stand in a configuration.

    Args:
        given: Keys of any depth, and values.
        place: Says in front of a message where a dotted key stands.

    Raises:
        Mistake: When a key is no name, or says with dots what stands there without.
    """
    settings: Settings = {}
    for key, value in given.items():
        if not isinstance(key, str) or not all(key.split(".")):
            raise Mistake(f"{place(str(key))}{key!r} is not a key of a configuration, such as trainer.max_epochs")
        _join(settings, _under(key, value), place, "")
    return settings


def _under(key: str, value: object) -> Settings:
    first, _, rest = key.partition(".")
    return {first: _under(rest, value) if rest else value}


def _join(settings: Settings, more: Mapping[str, Any], place: Callable[[str], str], above: str) -> None:
    for key, value in more.items():
        name = f"{above}{key}"
        if key not in settings:
            settings[key] = dict(value) if isinstance(value, Mapping) else value
        elif isinstance(settings[key], dict) and isinstance(value, Mapping):
            _join(settings[key], value, place, f"{name}.")
        else:
            raise Mistake(f"{place(name)}the key {name} stands twice, once with dots")


def require_known(where: str, given: Iterable[object], known: Iterable[str]) -> None:
    """Refuse a key that means nothing.

    Raises:
        Mistake: Naming it, and the nearest that does.
    """
    known = list(known)
    for key in given:
        if key not in known:
            raise Mistake(f"{where}: {key} means nothing here{hint(str(key), known)}; known are {', '.join(known)}")


def flat(settings: Mapping[str, Any]) -> Settings:
    """Nested settings by their names with dots."""
    found: Settings = {}
    for key, value in settings.items():
        if isinstance(value, dict) and value:
            found |= {f"{key}.{name}": inner for name, inner in flat(value).items()}
        else:
            found[key] = value
    return found
