"""`COMMAND --help`: our keys with defaults and ranges, our classes with a line each, of Lightning what matters here."""

import argparse
import inspect
import shutil
import textwrap
import types
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, Union, get_args, get_origin

from jsonargparse import Namespace
from lightning.pytorch.cli import LightningArgumentParser

from epo_lightning.cli.settings.explanation import class_at
from epo_lightning.cli.settings.keys import ParserKeys
from epo_lightning.cli.settings.own_classes import CALLBACKS, ENVIRONMENTS, OWN
from epo_lightning.cli.settings.ranges import ranges_of, ranges_of_class
from epo_lightning.limits import Mistake

_WIDEST, _INDENT = 100, 24
_FOLDED = ("num_nodes", "enable_progress_bar", "deterministic", "benchmark", "profiler", "detect_anomaly", "strategy")
"""Keys of the Trainer that `--help=all` shows."""
_CLASS_LISTS = {
    "trainer.callbacks": ("callbacks of this package", "--trainer.callbacks+ NAME", CALLBACKS),
    "data.env": ("environments of this package", "--data.env NAME", ENVIRONMENTS),
}
_ORIGINS = ("help", "config", "print_config")
_WORDS = {
    "print_config": "Print the whole configuration, and do nothing else.",
    "help": "Show this; --help=all shows every key, --KEY.help one, or all below it.",
    "data.env": "The task: the name of an environment below, or the class path of one of your own (a VectorEnv); with"
    " arguments in a file: class_path and init_args.",
    "trainer.accelerator": "auto, cpu, gpu, mps, ...",
    "trainer.strategy": "How several devices work together: auto, ddp, ...",
    "trainer.devices": "How many devices, or which; every one has data.num_envs environments.",
    "trainer.precision": "Such as 32-true, 16-mixed, bf16-mixed; null: 32-true.",
    "trainer.logger": "Loggers beside metrics.csv, which is always written: TensorBoardLogger, WandbLogger, ...",
    "trainer.callbacks": "What makes the algorithm, see below; `callbacks+` adds to those of the files before.",
    "trainer.max_epochs": "Iterations to make; -1: until it is stopped.",
    "trainer.max_time": "Stop after this time, DD:HH:MM:SS, and save.",
}
"""Keys that have other words where they come from."""
_OF_THE_RUN = {"num_envs", "device", "seed"}


class Help:
    """The text of `--help`.

    Args:
        parser: Of the command.
        keys: Of the parser.
        module: The algorithm.
        algorithm: Its name.
    """

    def __init__(self, parser: LightningArgumentParser, keys: ParserKeys, module: type, algorithm: str) -> None:
        self.parser, self.keys, self.module, self.algorithm = parser, keys, module, algorithm
        self.width = max(40, min(shutil.get_terminal_size((80, 24)).columns, _WIDEST))

    def asked(self, args: Sequence[str]) -> str | None:
        """What to print for a command line; None where no help is asked for.

        Raises:
            Mistake: When it asks about what there is not.
        """
        for place, arg in enumerate(args):
            name, equals, value = arg.partition("=")
            if name in ("-h", "--help"):
                if equals and value != "all":
                    raise Mistake(f"--help={value}: it is --help, --help=all for all keys, or --KEY.help")
                return self.text(everything=bool(equals))
            if not (name.startswith("--") and name.endswith(".help")):
                continue
            key = name[2:-5]
            following = args[place + 1 : place + 2]
            given = value if equals else "".join(each for each in following if not each.startswith("-"))
            if key in OWN or key in self.keys.classes:
                return self.of_class(key, given) if given else self.of_key(key)
            if key in self.keys.groups or key in self.keys.leaves:
                return self.of_key(key)
        return None

    def text(self, *, everything: bool) -> str:
        """All keys of the command."""
        ranges = ranges_of(self.module)
        folded = () if everything else tuple(f"trainer.{name}" for name in _FOLDED)
        parts = [
            f"usage: {self.parser.prog} [--config NAME_OR_FILE ...] [--KEY VALUE ...]",
            *self._wrapped(str(self.parser.description)),
            "",
            *self._wrapped(
                "Every key may stand in a YAML file, too: --model.num_agents 8 is model: {num_agents: 8} there. Files"
                f" and flags count in their order. The keys under model are those of the algorithm {self.algorithm}."
            ),
        ]
        for title, actions in self._sections():
            rows = [action for action in actions if action.dest not in folded]
            if rows:
                parts += [
                    "",
                    *self._wrapped(f"{title}:"),
                    *(line for action in rows for line in self._row(action, ranges)),
                ]
            if folded and any(action.dest in folded for action in actions):
                names = ", ".join(key for key in folded if key in self.keys.leaves)
                parts += self._wrapped(f"and {names}: --help=all tells.", indent=2)
        for key in _CLASS_LISTS:
            parts += ["", *self._classes(key)]
        return "\n".join(parts)

    def of_key(self, key: str) -> str:
        """One key, or all that stand under it."""
        ranges = ranges_of(self.module)
        lines: list[str] = []
        for title, actions in self._sections():
            rows = [each for each in actions if f"{each.dest}.".startswith(f"{key}.")]
            if rows:
                lines += [f"{title}:", *(line for action in rows for line in self._row(action, ranges)), ""]
        return "\n".join([*lines, *(self._classes(key) if key in _CLASS_LISTS else ())]).rstrip()

    def of_class(self, key: str, name: str) -> str:
        """The arguments of one class.

        Raises:
            Mistake: When there is none of that name.
        """
        path, kind = class_at(key, name)
        inner = LightningArgumentParser(exit_on_error=False)
        inner.add_class_arguments(kind, fail_untyped=False, skip=_OF_THE_RUN if key == "data.env" else set())
        ranges: dict[str, str] = {}
        if path.startswith("epo_lightning.envs.classic"):
            import torch

            ranges = ranges_of_class(kind, num_envs=1, device=torch.device("cpu"), seed=0)
        elif path.startswith("epo_lightning.callbacks"):
            ranges = ranges_of_class(kind)
        rows = [action for action in inner._actions if action.dest != "help" and action.option_strings]
        rows = [action for action in rows if not action.option_strings[0].endswith(".help")]
        head = self._wrapped(f"{path}: {_first_line(kind)}")
        lines = [*head, "", f"keys, under {key}.init_args in a file:"]
        for action in rows:
            option = f"--{key}.{action.dest}"
            lines += self._row(action, {action.dest: ranges[action.dest]} if action.dest in ranges else {}, option)
        return "\n".join(lines if rows else [*head, "It has no settings."])

    def _sections(self) -> Iterator[tuple[str, list[argparse.Action]]]:
        """Titles, and the settings under them, without groups."""
        for group in self.parser._action_groups:
            actions = [
                action for action in group._group_actions
                if action.dest in _ORIGINS or self.keys.leaves.get(action.dest) is action
            ]  # fmt: skip
            if actions:
                title = str(group.title or "options").rstrip(":.")
                title = "of Lightning's Trainer" if "every aspect" in title else title
                section = actions[0].dest.rpartition(".")[0]
                yield (f"{section}.*: {title}" if section else title), actions

    def _row(self, action: argparse.Action, ranges: Mapping[str, str], option: str = "") -> list[str]:
        """One setting."""
        name = option or ", ".join(each for each in action.option_strings if not each.endswith("+"))
        help_text = _WORDS.get(action.dest) or str(action.help or "")
        if action.nargs != 0 and action.dest != "print_config":
            taken = (
                f"{{{','.join(map(str, action.choices))}}}"
                if action.choices
                else action.dest.rpartition(".")[2].upper()
            )
            name += f" {taken}"
        notes = _notes(action, ranges.get(action.dest))
        words = f"{_one_line(help_text)} {notes}".strip()
        return self._beside(name, words)

    def _classes(self, key: str) -> list[str]:
        title, how, classes = _CLASS_LISTS[key]
        lines = [*self._wrapped(f"{title} ({how}; --{key}.help NAME tells its keys):")]
        for name, path in classes.items():
            lines += self._beside(name, _first_line(class_at(key, path)[1]))
        return lines

    def _beside(self, name: str, words: str) -> list[str]:
        """A name, and what it is: to its right, or below where the name is long."""
        left = f"  {name}"
        lines = textwrap.wrap(words, self.width - _INDENT, break_on_hyphens=False) or [""]
        if len(left) + 2 > _INDENT:
            return [left, *(f"{'':{_INDENT}}{line}" for line in lines)]
        return [f"{left:{_INDENT}}{lines[0]}", *(f"{'':{_INDENT}}{line}" for line in lines[1:])]

    def _wrapped(self, text: str, indent: int = 0) -> list[str]:
        return textwrap.wrap(text, self.width, initial_indent=" " * indent, subsequent_indent=" " * indent)


def _notes(action: argparse.Action, bounds: str | None) -> str:
    """Type, range and default, in brackets."""
    if action.dest in _ORIGINS or action.nargs == 0:
        return ""
    kind = getattr(action, "_typehint", None)
    words = _type(kind) if kind is not None else ""
    parts = [words if words.startswith("one of") else f"type: {words}"] if words else []
    parts += [bounds] if bounds else []
    if action.default is not argparse.SUPPRESS:
        parts.append(f"default: {_shown(action.default)}" if not _is_required(action) else "required")
    return f"({', '.join(parts)})" if parts else ""


def _is_required(action: argparse.Action) -> bool:
    kind = getattr(action, "_typehint", None)
    return action.default is None and kind is not None and type(None) not in get_args(kind)


def _type(kind: Any) -> str:
    """A type as a user writes its values; nothing for classes."""
    plain = {int: "int", float: "float", bool: "true or false", str: "str", type(None): "null"}
    args = get_args(kind)
    if kind in plain:
        return plain[kind]
    if get_origin(kind) is Literal:
        return f"one of: {', '.join(map(str, args))}"
    if get_origin(kind) in (Union, types.UnionType):
        parts = [_type(each) for each in args]
        return " | ".join(dict.fromkeys(parts)) if all(parts) and not any("one of" in each for each in parts) else ""
    if get_origin(kind) in (list, tuple, dict):
        inner = [_type(each) for each in args if each is not ...]
        return f"{get_origin(kind).__name__}[{', '.join(inner)}]" if all(inner) else ""
    return ""


def _shown(value: Any) -> str:
    if isinstance(value, Namespace | dict):
        value = value.get("class_path", value)
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    return f"[{', '.join(map(_shown, value))}]" if isinstance(value, list | tuple) else str(value)


def _first_line(kind: Any) -> str:
    return _one_line((inspect.getdoc(kind) or "").split("\n\n")[0])


def _one_line(text: str) -> str:
    return " ".join(text.replace("``", "").split())
