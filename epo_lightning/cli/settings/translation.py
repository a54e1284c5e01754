"""A command line as the parser reads it: files and flags brought to one meaning.

Each file becomes a text of its keys; what is wrong with a key is told with its file and line. A flag's value is read as
the same key's in a file.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import yaml

from epo_lightning.cli.arguments import CONFIGS
from epo_lightning.cli.settings.explanation import parameters_of
from epo_lightning.cli.settings.keys import ParserKeys
from epo_lightning.cli.settings.listed import LISTS, Listed
from epo_lightning.cli.settings.own_classes import OWN, in_full, require_known
from epo_lightning.cli.settings.values import as_text, at_home, loaded, names_class
from epo_lightning.documents.config_file import ConfigFile, read_config
from epo_lightning.documents.keys import flat, nested
from epo_lightning.documents.nearest import hint
from epo_lightning.documents.plain_yaml import UNREAD, Key, marked, plain, quoted, transport
from epo_lightning.limits import Mistake

OF_THE_COMMAND_LINE = ("base", "ckpt_path", "pretrained", "run_dir", "resume", "config", "trust")
"""What `arguments.resolve` takes out of files, or refuses there."""
_CLASS_KEYS = ("class_path", "init_args", "dict_kwargs")
_IS_QUOTED = re.compile(r"""\s*(?:"(?:[^"\\]|\\.)*"|'(?:[^']|'')*')\s*""", re.DOTALL)


class Translation:
    """What the parser gets.

    Args:
        keys: Of the parser.
        command: What the user calls it.
        args: Command line after `arguments.resolve`.
        replaced: How many files, from the first on, do not count where they speak of `model`.
        others: Lightning's classes by short name, for each key that takes ours, too.
        unknown: Called with a key before it is refused; may refuse it in better words, or add some.

    Attributes:
        sources: What says something, in order: a file, or the key of a flag.
    """

    def __init__(
        self,
        keys: ParserKeys,
        command: str,
        args: Sequence[str],
        replaced: int,
        others: Mapping[str, Mapping[str, str]],
        unknown: Callable[[str], str],
    ) -> None:
        self.keys, self.command, self.others, self.unknown = keys, command, others, unknown
        self.sources: list[ConfigFile | str] = []
        self._args = list(args)
        self._class_paths: dict[str, str] = {}
        self._listed = Listed()
        self._replaced = replaced
        self._reads_files = True

    def arguments(self) -> list[str]:
        """Flags and texts for the parser.

        Raises:
            Mistake: When a file cannot be used, or a key is not known.
        """
        out: list[str] = []
        waiting = list(self._args)
        while waiting:
            name, equals, value = waiting.pop(0).partition("=")
            if not name.startswith("-") or name == "--":
                remedy = f"--config {name}" if self._is_config(name) else "--KEY VALUE"
                raise Mistake(f"{self.command}: {name}{equals}{value} means nothing here; settings are {remedy}")
            is_help = name.endswith(".help") and name[2:-5] in self.keys.classes
            if name in self.keys.switches or is_help or name.startswith("--print_config"):
                out.append(f"{name}{equals}{value}")
                if is_help and not equals and waiting and not waiting[0].startswith("-"):
                    out.append(self._class(name[2:-5], waiting.pop(0)))
                continue
            key = name[2:] if name.startswith("--") else name
            if name not in ("--config", "-c") and not (name.startswith("--") and self.keys.knows(key)):
                more = self.unknown(key)
                known = [f"--{each}" for each in [*self.keys.all, *self.keys.groups, "config", "help"]]
                if name.endswith(".help"):
                    known = [f"{each}.help" for each in known]
                raise Mistake(f"{self.command}: {name} is not a flag{hint(name, known)}{more}")
            if not equals:
                if not waiting or waiting[0].startswith("--"):
                    if not self.keys.is_yes_or_no(key):
                        raise Mistake(f"{self.command}: {name} needs a value")
                    waiting.insert(0, "true")
                value = waiting.pop(0)
            if name in ("--config", "-c"):
                text = self._file(Path(value))
                out += [*self._emptied(), f"--config={text}"]
            elif (whole := self._listed.key_of(key)) is not None:
                self.sources.append(key)
                changes = {key.removeprefix(f"{whole}."): loaded(key, value)}
                out.append(f"--{whole}={transport(self._changed(whole, changes, None))}")
            else:
                self.sources.append(key)
                text = self._flag(key, value)
                out += [*self._emptied(), f"{name}={text}"]
                if key.startswith(tuple(f"{each}." for each in LISTS)):
                    self._listed.note_argument(key, loaded(key, value))
        return out

    def text(self, config: Mapping[str, Any]) -> str:
        """The configuration of a checkpoint, for `--config`; a name of a file in it is only a text."""
        self._reads_files = False
        try:
            text = as_text(self._group("", marked(config), None))
            self._listed.given_whole()  # over nothing
            return text
        except Mistake as mistake:
            raise Mistake(f"ckpt_path: the configuration in the checkpoint cannot be used: {mistake}") from None
        finally:
            self._reads_files = True

    # Files ----------------------------------------------------------------------------------------------------------

    def _file(self, path: Path) -> str:
        file = read_config(path, self._as_written)
        self.sources.append(file)
        self._replaced -= 1
        left_out = (*OF_THE_COMMAND_LINE, *(["model"] if self._replaced >= 0 else []))
        values = {name: value for name, value in file.values.items() if name.partition(".")[0] not in left_out}
        return as_text(self._group("", values, file))

    def _as_written(self, key: Key) -> bool:
        dotted = ".".join(key)
        return dotted in self.keys.leaves or dotted.split(".")[-2:-1] == ["init_args"]

    def _group(self, key: str, values: Mapping[str, Any], file: ConfigFile | None) -> dict[str, Any]:
        """The settings under `key`, as the parser wants them."""
        found: dict[str, Any] = {}
        above = f"{key}." if key else ""
        for name, value in nested(values, lambda inner: _place(file, f"{above}{inner}")).items():
            inner = f"{key}.{name}" if key else str(name)
            if inner in self.keys.groups:
                below = self._group_value(inner, value, file)
                found[name] = below
            elif self._listed.names_members(inner, value):
                found[name] = self._changed(inner, value, file)
            elif self.keys.knows(inner):
                found[name] = self._setting(inner.removesuffix("+"), value, file)
                self._listed.note(inner, found[name])
            else:
                more = self.unknown(inner)
                where = _place(file, inner)
                choices = [each for each in self.keys.all if each not in ("trust",)] + [*self.keys.groups]
                raise Mistake(f"{where}{plain(inner)} is not a key{hint(inner, choices)}{more}")
        return found

    def _group_value(self, key: str, value: Any, file: ConfigFile | None) -> dict[str, Any]:
        if value in (None, "", "null", "~"):
            return {}  # its keys are commented out
        if self._is_file(value):
            file = read_config(Path(value), lambda names: self._as_written((*key.split("."), *names)))
            value = file.values
        if not isinstance(value, Mapping):
            where = _place(file, key)
            raise Mistake(f"{where}{key} holds keys, such as {self._example(key)}, not a value; got {plain(value)!r}")
        return self._group(key, value, file)

    def _emptied(self) -> list[str]:
        """Flags in front of what gives lists whole, so that nothing of an older list stays."""
        return [f"--{key}=null" for key in self._listed.given_whole()]

    def _is_config(self, name: str) -> bool:
        return (CONFIGS / f"{name}.yaml").is_file() or Path(name).is_file()

    def _is_file(self, value: Any) -> bool:
        return self._reads_files and isinstance(value, str) and Path(value).is_file()

    def _example(self, key: str) -> str:
        return next((each for each in self.keys.all if each.startswith(f"{key}.")), key)

    def _changed(self, key: str, changes: Mapping[str, Any], file: ConfigFile | None) -> list[Any]:
        """The objects of a list, some of which have other arguments now."""
        objects: list[Any] = []
        for inside, value in flat(changes).items():
            try:
                objects = self._listed.change(key, inside, value)
            except Mistake as mistake:
                raise Mistake(f"{_place(file, f'{key}.{inside}')}{mistake}") from None
        return objects

    # Values ---------------------------------------------------------------------------------------------------------

    def _setting(self, key: str, value: Any, file: ConfigFile | None = None) -> Any:
        """The value of one setting."""
        value = at_home(key.rpartition(".")[2], value)
        if key in self.keys.leaves and isinstance(value, str) and plain(value) in self.keys.literals(key):
            return plain(value)
        return self._class(key, value, file) if key in self.keys.classes else value

    def _class(self, key: str, value: Any, file: ConfigFile | None = None) -> Any:
        """A class, or several, of which ours are written in full."""
        if self._is_file(value) and value.endswith((".yaml", ".yml")):
            file = read_config(Path(value), lambda names: names[-2:-1] == ("init_args",))
            value = file.values
        for each in value if isinstance(value, list) else [value]:
            strange = [name for name in each if name not in _CLASS_KEYS] if names_class(each) else []
            if strange:
                where = _place(file, key)
                raise Mistake(
                    f"{where}{key}: {plain(strange[0])} stands beside class_path{hint(str(strange[0]), _CLASS_KEYS)};"
                    " arguments of a class stand under init_args"
                )
        full = in_full(key, value) if key in OWN and value not in (None, "null", "~") else value
        last = full[-1] if isinstance(full, list) and full else full
        path = last.get("class_path") if isinstance(last, Mapping) else last
        if isinstance(path, str):
            self._class_paths[key] = path
        if key not in OWN or value in (None, "null", "~"):
            return value
        try:
            require_known(key, full, self.others.get(key, {}))
        except Mistake as mistake:
            raise Mistake(f"{_place(file, key)}{mistake}") from None
        return full

    def _flag(self, flag: str, value: str) -> str:
        """The value of a flag."""
        key = flag.removesuffix("+")
        if _IS_QUOTED.fullmatch(value):
            text = self._setting(key, quoted(str(yaml.safe_load(value))))
            return str(text)
        holder = key.removesuffix(".class_path")
        if key.endswith(".init_args") and self.keys.holder(key):
            return transport(self._arguments(key, value))
        if key in self.keys.groups or holder in self.keys.classes:
            said = loaded(key, value)
            if key in self.keys.groups:
                return transport(self._group_value(key, said, None))
            said = self._setting(holder, said)
            self._listed.note(flag, said)
            return str(said) if isinstance(said, str) else value if said is None else transport(said)
        if (class_key := self.keys.holder(key)) and self._is_loose(class_key, key):
            return f"{UNREAD}{value}"
        return str(self._setting(key, value))

    def _is_loose(self, class_key: str, key: str) -> bool:
        """Whether `key` is inside an argument that takes a mapping of anything, in which jsonargparse reads nothing."""
        inside = key.removeprefix(f"{class_key}.").removeprefix("init_args.").split(".")
        if len(inside) == 1 or class_key not in self._class_paths:
            return False
        kind = parameters_of(self._class_paths[class_key]).get(inside[0])
        return any(each in (dict, Mapping) for each in (kind, *get_args(kind)))

    def _arguments(self, key: str, value: str) -> Mapping[str, Any]:
        said = at_home("", loaded(key, value))
        if not isinstance(said, Mapping):
            raise Mistake(f"--{key} must be keys and values, such as '{{KEY: VALUE}}'; got {value}")
        return said


def _place(file: ConfigFile | None, key: str) -> str:
    """Where a key stands, in front of a message; nothing where it is no file's."""
    return f"config: {file.place(key)}: " if file else ""
