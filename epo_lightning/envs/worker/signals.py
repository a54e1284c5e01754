"""What an adapter in another interpreter says of the entries of its observations and actions."""

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from epo_lightning.envs.base import EnvSpec
from epo_lightning.envs.signals import Signal, Signals, check_signals
from epo_lightning.limits import Mistake

_KINDS = ("observation", "action")
_TEXTS, _BOUNDS = ("unit", "meaning"), ("low", "high")


def told_signals(told: object, known: Signals, spec: EnvSpec) -> Signals:
    """The signals that `told` means.

    Args:
        told: As it came from the worker: lists of {name, size, unit, meaning, low, high} under `observation` and
            `action`; None for nothing.
        known: What stands for a kind that is not told.
        spec: Of the environment.

    Raises:
        Mistake: Naming what does not read as signals, or does not fit the environment.
    """
    if told is None:
        return known
    if not isinstance(told, Mapping) or not set(told) <= {*_KINDS}:
        got = ", ".join(map(str, told)) if isinstance(told, Mapping) else type(told).__name__
        raise Mistake(f"data.env: an adapter's signals must be a dict with {' and '.join(_KINDS)}, got {got}")
    kinds = {kind: tuple(map(_signal, _listed(kind, told[kind]))) for kind in _KINDS if kind in told}
    try:
        return check_signals(known._replace(**kinds), spec.seen, spec.act_dim)
    except Mistake as mistake:
        raise Mistake(f"data.env: an adapter's {mistake}") from None


def _listed(kind: str, entries: object) -> Sequence[object]:
    if not isinstance(entries, list):
        raise Mistake(f"data.env: an adapter's signals must have a list under {kind}, got {type(entries).__name__}")
    return entries


def _signal(entry: object) -> Signal:
    """One of them.

    Raises:
        Mistake: When it has no name or size, or something that a signal has not.
    """
    if not isinstance(entry, Mapping) or not {"name", "size"} <= set(entry) <= set(Signal._fields):
        fields = ", ".join(Signal._fields)
        raise Mistake(f"data.env: an adapter's signals must be dicts with name and size, of {fields}; got {entry}")
    values: dict[str, Any] = dict(entry)
    fits = isinstance(values["name"], str) and values["name"] and type(values["size"]) is int and values["size"] > 0
    fits = fits and all(isinstance(values.get(name, ""), str) for name in _TEXTS)
    if not fits or not all(_numbers(values.get(name, [])) for name in _BOUNDS):
        raise Mistake(
            "data.env: an adapter's signals must have texts for name, unit and meaning, a size of at least 1, and"
            f" lists of finite numbers for low and high; got {entry}"
        )
    return Signal(**values | {name: tuple(map(float, values.get(name, ()))) for name in _BOUNDS})


def _numbers(value: object) -> bool:
    largest = sys.float_info.max  # an integer may be larger, and NaN is neither
    return isinstance(value, list) and all(
        isinstance(one, (int, float)) and -largest <= one <= largest for one in value
    )
