"""The ranges of settings, for help: found by building what checks them (`limits.require_range`), not written twice."""

import contextlib
import inspect
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from typing import Any, Literal, get_args, get_origin, get_type_hints

from epo_lightning.limits import recorded_ranges, require_range
from epo_lightning.modules.data import RolloutDataModule
from epo_lightning.run.run_checkpoints import RunCheckpoints

SEEDS = (0, 2**32 - 1)
"""From the least seed to the greatest."""


def ranges_of(module: type) -> dict[str, str]:
    """The range of every key in words, such as `greater than 0 and at most 1`; keys without one are left out.

    Args:
        module: The algorithm, of which `model.*` are the settings.
    """
    with recorded_ranges() as found:
        require_range("seed_everything", 0, *SEEDS)
        for settings in _settings(module):
            _build(settings)
        _build(module)
        _build(RolloutDataModule, env=None)
        _build(RunCheckpoints)
    return {key: words for key, words in found.items() if _has(module, key)}


def ranges_of_class(kind: Callable[..., Any], **given: Any) -> dict[str, str]:
    """The same of the arguments of one class, by their names.

    Args:
        kind: A class.
        given: Arguments that have no default.
    """
    with recorded_ranges() as found:
        _build(kind, **given)
    return {key.rpartition(".")[2]: words for key, words in found.items()}


def _has(module: type, key: str) -> bool:
    """Whether `key` is a setting of the algorithm, and not of one whose networks it builds."""
    section, _, inside = key.removeprefix("model.").partition(".")
    kind = get_type_hints(module.__init__).get(section)  # type: ignore[misc]
    if not inside or not key.startswith("model.") or not isinstance(kind, type) or not is_dataclass(kind):
        return True
    return inside.partition(".")[0] in {field.name for field in fields(kind)}


def _settings(kind: type) -> list[type]:
    """The dataclasses among the arguments of a class, at any depth."""
    hints = get_type_hints(kind.__init__).values()  # type: ignore[misc]
    found = [hint for hint in hints if isinstance(hint, type) and is_dataclass(hint)]
    return [*found, *(inner for each in found for inner in _settings(each))]


def _build(kind: Callable[..., Any], **given: Any) -> None:
    """Build one with its defaults, then with each setting that is off by default, and each choice."""
    with contextlib.suppress(Exception):
        kind(**given)
    with contextlib.suppress(NameError, TypeError, ValueError):
        hints = get_type_hints(kind.__init__ if isinstance(kind, type) else kind)  # type: ignore[misc]
        for name, parameter in inspect.signature(kind).parameters.items():
            others = [1] if parameter.default is None else _choices(hints.get(name))
            for other in others if name not in given else ():
                with contextlib.suppress(Exception):
                    kind(**given, **{name: other})


def _choices(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) is Literal else ()
