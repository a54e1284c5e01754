"""What a command takes: the keys of its parser, and which of them hold classes, mappings or groups of keys."""

import argparse
import re
from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin

from lightning.pytorch.cli import LightningArgumentParser

_NO_SETTINGS = ("help", "config", "print_config", argparse.SUPPRESS)


class ParserKeys:
    """The keys of a parser.

    Args:
        parser: With all its arguments.

    Attributes:
        leaves: Each setting's action, by its key.
        groups: The keys under which there are others.
        switches: The flags that take no value.
        classes: The settings that take a class.
    """

    def __init__(self, parser: LightningArgumentParser) -> None:
        actions = [action for action in parser._actions if action.option_strings]
        names = {name: action for action in actions for name in action.option_strings}
        dests = {
            action.dest: action
            for action in actions
            if action.dest not in _NO_SETTINGS
            and type(action).__name__ != "ActionLink"  # it follows another key
            and not action.option_strings[0].endswith(".help")
        }
        self.classes = {name[2:-5] for name in names if name.endswith(".help")}
        self.switches = {name for name, action in names.items() if action.nargs == 0}
        self.groups = {key[: dot.start()] for key in dests for dot in re.finditer(r"\.", key)}
        self.leaves = {key: action for key, action in dests.items() if key not in self.groups}

    @property
    def all(self) -> list[str]:
        """Every setting, as a user writes it."""
        return [*self.leaves]

    def knows(self, key: str) -> bool:
        """Whether `key` is a setting, a group, or inside a setting that has keys of its own."""
        key = key.removesuffix("+")
        return key in self.leaves or key in self.groups or self.holder(key) is not None

    def holder(self, key: str) -> str | None:
        """The setting, with keys of its own, inside which `key` is."""
        return next((each for each in self.leaves if key.startswith(f"{each}.") and self._is_open(each)), None)

    def is_yes_or_no(self, key: str) -> bool:
        """Whether `key` is a setting that is on or off: its flag alone means on."""
        return key in self.leaves and self.type_of(key) is bool

    def literals(self, key: str) -> set[str]:
        """The texts among which a setting chooses."""
        return {each for each in _literals(self.type_of(key)) if isinstance(each, str)}

    def type_of(self, key: str) -> Any:
        """The type of a setting."""
        return getattr(self.leaves[key], "_typehint", None)

    def _is_open(self, key: str) -> bool:
        words = str(self.type_of(key)).lower()
        return key in self.classes or "dict" in words or "mapping" in words


def _literals(hint: Any) -> Iterator[Any]:
    if get_origin(hint) is Literal:
        yield from get_args(hint)
    else:
        for part in get_args(hint):
            yield from _literals(part)
