"""Mistakes of the user, as one line each."""

from __future__ import annotations

import difflib
import importlib
import sys
from typing import Any

OPTIONS = "data.env.init_args.options"


class Mistake(Exception):
    """What the user has to change, as one line."""


def need(package: str, whose: str) -> Any:
    """Import `package`, which `whose` needs.

    Raises:
        Mistake: When this interpreter has no such package.
    """
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        if error.name is None or not (package + ".").startswith(error.name + "."):
            raise
        raise missing(error, whose) from error


def missing(error: ModuleNotFoundError, whose: str) -> Mistake:
    """The line for a package that `whose` needs and this interpreter lacks."""
    return Mistake(
        f"data.env.init_args.python: {sys.executable} has no package {error.name}, which {whose} needs: install it"
        " there, or name another interpreter"
    )


def one_line(error: BaseException) -> str:
    """Its message without line breaks, of at most 500 characters."""
    return " ".join(str(error).split())[:500]


def choice(has: str, given: str, known: list[str], most: int = 8) -> str:
    """`has` the `known` names, those like `given` first; of many the first ones only."""
    close = difflib.get_close_matches(given, known, most, 0.4)
    names = [*close, *[name for name in known if name not in close]]
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"{has} {', '.join(names[:most])}{more}; got {given!r}"
