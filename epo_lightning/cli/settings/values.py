"""Values of files and flags, before the parser gets them: paths at home, texts that are no files."""

import os
import re
from collections.abc import Mapping
from typing import Any

import yaml

from epo_lightning.documents.plain_yaml import load, transport
from epo_lightning.limits import Mistake

_NO_FILE_NAME = "#" * 256 + "\n"
"""A first line longer than any name of a file (NAME_MAX is 255): the text cannot be taken for a path."""
_PATH = re.compile(r"(?:.*_)?(?:dir|dirpath|path|file|filename|folder|python|out)")


def as_text(config: Mapping[str, Any]) -> str:
    """A configuration for `--config`, which cannot be taken for the name of a file."""
    return _NO_FILE_NAME + transport(config)


def names_class(value: Any) -> bool:
    """Whether `value` is a mapping that names a class, or its keys look as if it should."""
    return isinstance(value, Mapping) and "class_path" in value


def loaded(key: str, value: str) -> Any:
    """The value of a flag that is more than a text.

    Raises:
        Mistake: When it is not YAML.
    """
    try:
        return load(value)
    except yaml.YAMLError as error:
        what = getattr(error, "problem", None) or "it cannot be read"
        raise Mistake(f"--{key}: this is not YAML: {what}; got {value}") from None


def at_home(name: str, value: Any) -> Any:
    """`value` with the home folder for its `~`, where `name` is that of a path; inside mappings and lists, too."""
    if isinstance(value, Mapping):
        return {inner: at_home(str(inner), item) for inner, item in value.items()}
    if isinstance(value, list):
        return [at_home(name, item) for item in value]
    if isinstance(value, str) and value.startswith("~") and value != "~" and _PATH.fullmatch(name):
        return os.path.expanduser(value)
    return value
