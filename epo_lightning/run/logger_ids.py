"""Under which id each logger knows a run, as a file tells it: checked, since it may be anybody's."""

import re
from collections.abc import Mapping
from typing import Any

_MOST_LOGGERS = 100
_ID = re.compile(r"[\w.:-]{1,128}", re.ASCII)


def loggers_of(record: Mapping[str, Any]) -> dict[str, str]:
    """Under which id each logger knows the run; nothing where that is not told."""
    try:
        return known_loggers(record.get("loggers", {}))
    except TypeError:
        return {}


def known_loggers(stored: object) -> dict[str, str]:
    """Ids of loggers from a file.

    Raises:
        TypeError: When they are not names and ids.
    """
    if not isinstance(stored, dict) or len(stored) > _MOST_LOGGERS:
        raise TypeError("loggers")
    if not all(isinstance(part, str) and (is_id(part.replace("#", "-"))) for item in stored.items() for part in item):
        raise TypeError("loggers")
    return dict(stored)


def is_id(value: object) -> bool:
    """Whether a service may have given a run this id."""
    return isinstance(value, str) and _ID.fullmatch(value) is not None
