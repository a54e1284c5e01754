"""Keys, tokens and passwords do not reach files and loggers.

The environment is never recorded. What is said in a configuration or on the command line is, so a text under a name
that tells a secret (`api_key`, `token`, `password`, ...) is hidden, and so is the password in an address.
"""

import math
import re
from collections.abc import Iterator, Sequence
from typing import Any

HIDDEN = "***"
_KEY = (
    r"(?:[\w.-]*[_.-])?"
    r"(?:api_?key|token|pass(?:word|wd|phrase)?|secret(?:_?key)?|access_?key|private_?key|auth|credentials?)"
)
_NAME = re.compile(_KEY, re.IGNORECASE)
_FLAG = re.compile(rf"--{_KEY}", re.IGNORECASE)
_GIVEN = re.compile(rf"""(\b{_KEY}["']?\s*[:=]\s*)(?:"[^"]*"|'[^']*'|[^\s,}}\]"']+)""", re.IGNORECASE)
_ADDRESS = re.compile(r"(\w+://[^\s/:@]*:)[^\s/@]+(@)")
_SHORTEST = 6
"""Characters of a secret that is looked for in other texts, too."""


def is_secret(name: object, value: object) -> bool:
    """Whether a setting is a secret by its name."""
    return isinstance(value, str) and bool(value) and isinstance(name, str) and _NAME.fullmatch(name) is not None


def without_secrets(value: Any) -> Any:  # noqa: ANN401  (whatever YAML holds)
    """Plain values as JSON has them, with every secret in them hidden; infinity and NaN become texts."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {name: HIDDEN if is_secret(name, item) else without_secrets(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_secrets(item) for item in value]
    return _ADDRESS.sub(rf"\1{HIDDEN}\2", value) if isinstance(value, str) else value


def command_without_secrets(words: Sequence[str], config: object = None) -> list[str]:
    """A command line with every secret in it hidden: after `--api_key`, in YAML, in addresses.

    Args:
        words: The command line.
        config: What it means: secrets in there are hidden wherever they stand.
    """
    told: list[str] = []
    known = [secret for secret in _secrets(config) if len(secret) >= _SHORTEST]
    for place, word in enumerate(words):
        name, equals, _ = word.partition("=")
        if place and "=" not in words[place - 1] and _FLAG.fullmatch(words[place - 1]):
            word = HIDDEN
        elif equals and _FLAG.fullmatch(name):
            word = f"{name}={HIDDEN}"
        for secret in known:
            word = word.replace(secret, HIDDEN)
        told.append(_ADDRESS.sub(rf"\1{HIDDEN}\2", _GIVEN.sub(rf"\1{HIDDEN}", word)))
    return told


def _secrets(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        for name, item in value.items():
            if is_secret(name, item):
                yield item
            else:
                yield from _secrets(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _secrets(item)
