"""A configuration file, read strictly: what is wrong with it is one line with its name and, mostly, the place."""

import codecs
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from epo_lightning.documents.plain_yaml import Document, Key, dump, plain
from epo_lightning.limits import Mistake

_MOST_BYTES = 2**24


class ConfigFile(NamedTuple):
    """What a file says.

    Attributes:
        path: Its name.
        values: Its keys and values; see `plain_yaml` for the marks in it.
        lines: Where each key stands, from 1.
    """

    path: Path
    values: dict[str, Any]
    lines: dict[Key, int]

    def place(self, key: str) -> str:
        """`file, line 3` of a dotted key."""
        line = max((line for names, line in self.lines.items() if ".".join(names) == key), default=None)
        return f"{self.path}, line {line}" if line else str(self.path)


def read_config(
    path: Path, as_written: Callable[[Key], bool] = lambda key: len(key) == 1, asked_by: str = "config"
) -> ConfigFile:
    """The keys of a YAML file.

    Args:
        path: The file.
        as_written: See `Document.value`; by default those at the top.
        asked_by: The flag or command that names the file, in front of messages.

    Raises:
        Mistake: When it cannot be read, is no text in UTF-8, no YAML, no mapping, or says a key twice.
    """
    text = _text_of(path, asked_by)
    try:
        document = Document(text)
        values = document.value(as_written)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f", line {mark.line + 1}" if mark else ""
        what = error.problem or error.context or "it cannot be read"
        if "\\t" in what or "'\t'" in what:
            what = "a tab; indent with spaces"
        elif "stands twice" not in what and "contains itself" not in what:
            what = f"this is not YAML: {what}"
        raise Mistake(f"{asked_by}: {path}{line}: {what}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise Mistake(f"{asked_by}: {path} is not YAML: {' '.join(str(error).split())}") from None
    if values is None:
        raise Mistake(f"{asked_by}: {path} is empty: it must hold keys and values")
    if not isinstance(values, dict):
        kind = "a list" if isinstance(values, list) else f"only {dump(values).split(chr(10))[0][:40]!r}"
        raise Mistake(f"{asked_by}: {path} holds {kind}; it must hold keys and values")
    for name in values:
        if not isinstance(name, str):
            raise Mistake(f"{asked_by}: {path}: the key {plain(name)} is not a name")
    return ConfigFile(path, values, document.lines)


def _text_of(path: Path, asked_by: str) -> str:
    """The content, without a byte order mark."""
    try:
        with path.open("rb") as file:
            content = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise Mistake(f"{asked_by}: {path} cannot be read: {error.strerror or error}") from None
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise Mistake(f"{asked_by}: {path} is in UTF-16; save it as UTF-8")
    if len(content) > _MOST_BYTES or b"\0" in content:
        raise Mistake(f"{asked_by}: {path} is not a configuration but a binary file")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise Mistake(f"{asked_by}: {path}, line {line}: not in UTF-8; save the file in that encoding") from None
