"""What jsonargparse says of a mistake, in one line that names the key, what it takes, and where that stands."""

import argparse
import importlib
import inspect
import re
import types
from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields, is_dataclass
from datetime import timedelta
from typing import Any, Literal, Union, get_args, get_origin

from epo_lightning.cli.settings.keys import ParserKeys
from epo_lightning.cli.settings.own_classes import OWN, SHORT_NAMES
from epo_lightning.documents.config_file import ConfigFile
from epo_lightning.documents.nearest import hint, nearest
from epo_lightning.documents.plain_yaml import AS_WRITTEN, MARK
from epo_lightning.limits import Mistake

_KEY = re.compile(r'Parser key "([\w.+]+)"(?: element \d+)?:')
_CLASS = re.compile(r"class_path[= ]'([\w.]+)'")
_VALUE = re.compile(r"(?:Got value: |Given value: )(.*?)(?:\. Got value: Namespace.*)?$", re.MULTILINE)
_NOT_OURS = ("num_envs", "device", "seed")
"""Of an environment's constructor, what comes from the run."""
_SHORT = 200


def explain(error: argparse.ArgumentError, keys: ParserKeys, sources: Sequence[ConfigFile | str]) -> Mistake:
    """The line for the user.

    Args:
        error: What the parser raised.
        keys: Those of the parser.
        sources: See `Translation`.
    """
    message = str(error).replace(AS_WRITTEN, "")
    found = _KEY.findall(message)
    if not found:
        return _without_key(message)
    key = found[0]
    if key in keys.classes:
        return _of_class(message, key, keys.type_of(key), sources)
    value = _value_in(message)
    kind = words(keys.type_of(key)) if key in keys.leaves else ""
    if not kind:
        return Mistake(f"{_place(sources, key)}{key}: {_short(message.partition(':')[2])}")
    choices = _choices(keys.type_of(key))
    return Mistake(f"{_place(sources, key)}{key} must be {kind}; got {_short(value)}{hint(value, choices)}")


def words(kind: Any) -> str:
    """A type as a user would say it, such as `an integer or null`; nothing for one that has no words."""
    plain = {int: "an integer", float: "a number (float)", bool: "true or false", str: "a text",
             type(None): "null", timedelta: "a duration", dict: "keys and values", list: "a list"}  # fmt: skip
    if kind in plain:
        return plain[kind]
    if is_dataclass(kind):
        return f"keys and values ({', '.join(each.name for each in fields(kind))})"
    origin, args = get_origin(kind), get_args(kind)
    if origin is Literal:
        return " or ".join((", ".join(map(str, args[:-1])), str(args[-1]))) if len(args) > 1 else str(args[0])
    if origin in (Union, types.UnionType):
        choices = list(_choices(kind))
        others = [words(each) for each in args if get_origin(each) is not Literal and each is not type(None)]
        several = [", ".join(dict.fromkeys(choices))] if choices else []
        parts = [each for each in [*several, *others, *(["null"] if type(None) in args else [])] if each]
        return " or ".join(parts)
    if origin in (list, tuple):
        inner = words(args[0]) if args and not is_dataclass(args[0]) else ""
        many = f"{len(args)} " if origin is tuple and args and args[-1] is not Ellipsis else ""
        return f"a list of {many}{inner.split(' ', 1)[-1].split(' (')[0]}s" if inner else "a list"
    if origin is dict or "Mapping" in str(origin):
        below = {int: "integers", float: "numbers", str: "texts"}.get(args[-1] if args else object)
        return f"keys with {below}" if below else "keys and values"
    return ""


def _choices(kind: Any) -> Iterable[str]:
    if get_origin(kind) is Literal:
        yield from (str(each) for each in get_args(kind))
    elif get_origin(kind) in (Union, types.UnionType):
        for each in get_args(kind):
            yield from _choices(each)


def _without_key(message: str) -> Mistake:
    if missing := re.search(r"arguments are required: (.*)", message, re.DOTALL):
        names = missing[1].strip()
        if names.endswith("data.env"):
            names += " (give a configuration with --config NAME_OR_PATH, --data.env NAME, or --ckpt_path)"
        return Mistake(f"missing: {names}")
    return Mistake(_short(message))


# Classes ------------------------------------------------------------------------------------------------------------


def _of_class(message: str, key: str, hint_of_key: Any, sources: Sequence[ConfigFile | str]) -> Mistake:
    """What is wrong with a class, its name or one of its arguments."""
    place = _place(sources, key)
    problems = message.split("Problem with given class_path ")
    above = [each for each in _KEY.findall(problems[0]) if each != key]
    if len(problems) > 1 and above:
        key = f"{key}.init_args.{above[-1]}"  # a class inside of an argument
    # of several attempts the first is at the user's class, the others at the base of it
    part = f"class_path {problems[1]}" if len(problems) > 1 else message
    path = found[-1] if (found := _CLASS.findall(part)) else None
    if len(problems) > 1 and found:
        path = found[0]
    name = path.rpartition(".")[2] if path else ""
    parameters = parameters_of(path) if path else {}
    if option := re.search(r"(?:Option|Key|Group) '([\w.]+)' (?:is|does) not", part):
        inside = option[1]
        where = _place(sources, f"{key}.init_args.{inside}", inside)
        takes = f"; it takes {', '.join(parameters)}" if parameters and not nearest(inside, parameters) else ""
        return Mistake(f"{where}{key}: {name} has no argument {inside}{hint(inside, parameters)}{takes}")
    if missing := re.search(r"arguments are required: ([\w., ]+?)(?:\. Got|\s*$)", part, re.MULTILINE):
        return Mistake(f"{place}{key}.init_args.{missing[1].strip()} is missing: {name} needs it")
    inner = [each for each in _KEY.findall(part) if each != key]
    if inner:
        rest = "class_path ".join(problems[1:])
        if (deeper := _of_inner_class(rest, key, inner[0], name, sources)) is not None:
            return deeper
        return _of_argument(part, key, inner, name, parameters, sources)
    given = _value_in(message)
    for wanted in dict.fromkeys([path, given]):
        if wanted and re.fullmatch(r"[\w.]+", wanted) and (why := _why_not(key, wanted)):
            return Mistake(f"{place}{why}")
    if known := next((each for each in re.findall(r"dot import path string: (\w+)", message) if each != given), None):
        return Mistake(f"{place}{_why_not(key, known)}")
    if "must be" in part or "expects" in part or "Not a valid" in part or "no attribute 'keys'" in part:
        extra = f" {name}'s init_args are keys and values" if path and "keys'" in part else ""
        return Mistake(
            f"{place}{key} must be a class (its name, or class_path and init_args); got"
            f" {_short(given)}{';' + extra if extra else ''}"
        )
    kind = words(hint_of_key)
    return Mistake(f"{place}{key} must be {kind or 'a class'}; got {_short(given)}")


def _of_inner_class(
    rest: str, key: str, argument: str, name: str, sources: Sequence[ConfigFile | str]
) -> Mistake | None:
    """What is wrong with a class that is an argument of another, such as a crossover; None: something else is."""
    found = re.search(rf'"{re.escape(argument)}".*?{_CLASS.pattern}\s*:\s*(.*)', rest, re.DOTALL)
    if found is None:
        return None
    inside, told = found[1].rpartition(".")[2], found[2]
    where = f"{_place(sources, f'{key}.init_args.{argument}', argument)}{key} {name}.{argument}: {inside}"
    if option := re.match(r"(?:Option|Key|Group) '([\w.]+)' (?:is|does) not", told):
        return Mistake(f"{where} has no argument {option[1]}{hint(option[1], parameters_of(found[1]))}")
    if missing := re.match(r"the following arguments are required: ([\w., ]+)", told):
        return Mistake(f"{where} needs {missing[1].strip()}")
    return None


def _of_argument(
    part: str, key: str, inner: list[str], name: str, parameters: dict[str, Any], sources: Sequence[ConfigFile | str]
) -> Mistake:
    """What is wrong with the value of an argument."""
    argument = inner[0]
    where = _place(sources, f"{key}.init_args.{argument}", argument)
    tail = part[part.index(f'"{argument}"') :]
    value = _value_in(tail, first=True)
    kind = parameters.get(argument)
    short = SHORT_NAMES.get(argument, {})
    known = [*_choices(kind), *short]
    takes = words(kind) if kind is not None else ""
    wanted = f"must be {takes}" if takes else "cannot be that"
    if known:
        wanted = f"must be {', '.join(known)}, or a class"
        wanted = wanted if short else f"must be {takes}"
    return Mistake(f"{where}{key} {name}.{argument} {wanted}; got {_short(value)}{hint(value, known)}")


def class_at(key: str, name: str) -> tuple[str, Any]:
    """The class path and the class that a key means by `name`.

    Raises:
        Mistake: When there is none.
    """
    path = OWN.get(key, {}).get(name) or next(
        (f"{kind.__module__}.{kind.__qualname__}" for kind in _imported(key) if kind.__name__ == name), name
    )
    if why := _why_not(key, path):
        raise Mistake(why)
    module, _, last = path.rpartition(".")
    return path, getattr(importlib.import_module(module), last)


def parameters_of(path: str) -> dict[str, Any]:
    """What a class takes, with the types."""
    module, _, name = path.rpartition(".")
    try:
        kind = getattr(importlib.import_module(module), name)
        names = inspect.signature(kind).parameters
        try:
            hints = inspect.get_annotations(kind.__init__, eval_str=True)
        except (NameError, TypeError):
            hints = {}
    except (ImportError, AttributeError, ValueError, TypeError):
        return {}
    taken = _NOT_OURS if {*_NOT_OURS} <= names.keys() else ()
    return {each: hints.get(each) for each in names if each not in taken}


def _why_not(key: str, path: str) -> str | None:
    """Why a class path is none."""
    ours = OWN.get(key, {})
    if "." not in path:
        return f"{key}: there is no class {path}{hint(path, [*ours, *(kind.__name__ for kind in _imported(key))])}"
    module, _, name = path.rpartition(".")
    try:
        place = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name and f"{module}.".startswith(f"{error.name}."):
            near = hint(name, ours)
            return f"{key}: there is no module {error.name} for {path}, here or in Python's path{near}"
        return f"{key}: {path} cannot be imported: {error}"
    except Exception as error:  # whatever the user's module does
        return f"{key}: {path} cannot be imported: {type(error).__name__}: {' '.join(str(error).split())}"
    if not hasattr(place, name):
        classes = [each for each, kind in vars(place).items() if isinstance(kind, type)]
        return f"{key}: the module {module} has no class {name}{hint(name, classes)}"
    return None if isinstance(getattr(place, name), type | types.FunctionType) else f"{key}: {path} is no class"


def _imported(key: str) -> list[type[Any]]:
    from lightning.pytorch import Callback
    from lightning.pytorch.loggers import Logger

    from epo_lightning.cli.parser import subclasses_of

    base: Callable[..., Any] | None = {"trainer.callbacks": Callback, "trainer.logger": Logger}.get(key)
    return [*subclasses_of(base)] if isinstance(base, type) else []


# Places -------------------------------------------------------------------------------------------------------------


def _place(sources: Sequence[ConfigFile | str], key: str, last: str | None = None) -> str:
    """`config: FILE, line N: ` where a file says a key last; nothing where a flag does."""
    for source in reversed(sources):
        if isinstance(source, str):
            given = source.removesuffix("+").replace(".init_args", "")
            if given == key or key.replace(".init_args", "").startswith(given) or given.startswith(f"{key}."):
                return ""
            if last and given.endswith(f".{last}"):
                return ""
            continue
        for names in source.lines:
            dotted = ".".join(names)
            ends = names[-1].rpartition(".")[2] == last
            if dotted in (key, f"{key}+") or (last and ends and key.startswith(names[0].split(".")[0])):
                return f"config: {source.place(dotted)}: "
    return ""


def _value_in(message: str, *, first: bool = False) -> str:
    """What was given; a text in quotes says so."""
    found = _VALUE.findall(message)
    if not found:
        return "something else"
    value = str(found[0 if first else -1])
    nested = re.match(r"NestedArg\(key='[^']*', val=(.*)\)$", value)
    value = (nested[1] if nested else value).strip().strip("'")
    if value.startswith(MARK):
        return f'the text "{value[1:]}" (leave out the quotes)'
    return value.replace(MARK, "")


def _short(text: str) -> str:
    line = " ".join(text.replace(MARK, "").split())
    line = line or "nothing"
    return line if len(line) <= _SHORT else f"{line[:_SHORT]}..."
