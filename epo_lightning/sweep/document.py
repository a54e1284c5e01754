"""The text of a study: YAML in which a number is a number, a quoted text stays a text, and no key comes twice."""

import difflib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from epo_lightning.limits import Mistake

Settings = dict[str, Any]
"""A part of a configuration, nested as in its file."""


class _Loader(yaml.SafeLoader):
    """As configurations are read: 1e-3 is a number."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Refuse a key that comes twice: the first would be lost."""
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(None, None, "a key must be a text", key.start_mark)
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"the key {key.value} comes twice", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in known if tag != "tag:yaml.org,2002:timestamp"]
    for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


class _Dumper(yaml.SafeDumper):
    """Quotes a text that a reader of configurations would take for a number."""


_EXPONENT = re.compile(r"[-+]?(?:[0-9][0-9_]*\.?[0-9_]*|\.[0-9][0-9_]*)[eE][-+]?[0-9]+$")
for _kind in (_Loader, _Dumper):
    _kind.add_implicit_resolver("tag:yaml.org,2002:float", _EXPONENT, [*"-+.0123456789"])


def read_document(file: Path) -> dict[str, Any]:
    """The keys of a YAML file.

    Raises:
        Mistake: When it cannot be read or holds something else, naming the file and the line.
    """
    try:
        content = yaml.load(file.read_text(encoding="utf-8"), _Loader)  # a safe one
    except OSError as error:
        raise Mistake(f"{file}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise Mistake(f"{file}: not UTF-8 text ({error.reason} at byte {error.start}); save it as UTF-8") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        raise Mistake(f"{file}{f', line {mark.line + 1}' if mark else ''}: {error.problem}") from error
    except yaml.YAMLError as error:
        raise Mistake(f"{file}: not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise Mistake(f"{file} is {'empty' if content is None else 'not a mapping of keys'}: see docs/sweeps.md")
    return content


def as_text(settings: Mapping[str, Any]) -> str:
    """Settings as a YAML file that `fit --config` takes."""
    return yaml.dump(dict(settings), Dumper=_Dumper, sort_keys=False, allow_unicode=True)


def require_known(where: str, given: Iterable[object], known: Iterable[str]) -> None:
    """Refuse a key that means nothing.

    Raises:
        Mistake: Naming it, and the nearest that does.
    """
    known = list(known)
    for key in given:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, 1)
            remedy = f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}"
            raise Mistake(f"{where}: {key} means nothing here; {remedy}")


def nested(where: str, flat: Mapping[Any, Any]) -> Settings:
    """Settings whose keys may have dots (`trainer.max_epochs`), as they stand in a configuration.

    Raises:
        Mistake: When a key is no text, or is said twice.
    """
    settings: Settings = {}
    for key, value in flat.items():
        if not isinstance(key, str) or not all(key.split(".")):
            raise Mistake(f"{where}: {key!r} is not a key of a configuration, such as trainer.max_epochs")
        _join(where, settings, _under(key, value), ())
    return settings


def _under(key: str, value: object) -> Settings:
    first, _, rest = key.partition(".")
    return {first: _under(rest, value) if rest else value}


def _join(where: str, settings: Settings, more: Mapping[str, Any], above: tuple[str, ...]) -> None:
    for key, value in more.items():
        if key not in settings:
            settings[key] = dict(value) if isinstance(value, dict) else value
        elif isinstance(settings[key], dict) and isinstance(value, dict):
            _join(where, settings[key], value, (*above, key))
        else:
            raise Mistake(f"{where}: {'.'.join((*above, key))} is said twice; leave one out")
