"""YAML as this package reads and writes it, wherever: files, flags, checkpoints.

What is quoted is a text. What is not quoted may be a number, as `1e-3` and `1_000` are everywhere; `007` is seven, and
`1:30` and `2020-01-01` are texts. A key stands once in a mapping.

jsonargparse reads a text again wherever a value of any type may stand, so that "007" would become 7 on its way. A text
that would be read as something else therefore carries a mark as its first character until something is built with it:
`load` sets the mark, `plain` takes it away, `dump` writes the text in quotes.
"""

import re
from collections.abc import Callable, Hashable
from typing import Any

import yaml

MARK, AS_WRITTEN, UNREAD = "\ue000", "\ue001", "\ue002"
"""Private characters: a text that stays one; one that is read by the type of its key, as that of a flag is; a value
that nobody but `plain` reads."""
Key = tuple[str, ...]
_STR, _MERGE = "tag:yaml.org,2002:str", "tag:yaml.org,2002:merge"
_INT = re.compile(r"[-+]?(?:0b[01_]+|0x[0-9a-fA-F_]+|[0-9][0-9_]*)")
_FLOAT = re.compile(
    r"[-+]?(?:[0-9][0-9_]*\.[0-9_]*(?:[eE][-+]?[0-9]+)?|[0-9][0-9_]*[eE][-+]?[0-9]+|\.[0-9][0-9_]*(?:[eE][-+]?[0-9]+)?"
    r"|\.(?:inf|Inf|INF))|\.(?:nan|NaN|NAN)"
)


class Loader(yaml.SafeLoader):
    """Plain values; numbers as above."""


class _Dumper(yaml.SafeDumper):
    """Quotes every text that another reader could take for something else; repeats what occurs twice."""

    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002
        """Everywhere."""
        return True


Loader.yaml_implicit_resolvers = {
    first: [(tag, form) for tag, form in known if tag.rpartition(":")[2] not in ("timestamp", "int", "float")]
    for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for _tag, _form in (("int", _INT), ("float", _FLOAT)):
    _whole = re.compile(f"(?:{_form.pattern})$")
    Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", _whole, list("-+.0123456789"))


def _number(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    text = str(loader.construct_scalar(node)).replace("_", "").lower()
    unsigned = text.lstrip("+-")
    return int(text, {"0x": 16, "0b": 2}.get(unsigned[:2], 10))


Loader.add_constructor("tag:yaml.org,2002:int", _number)


def load(text: str) -> Any:
    """The value of a flag, or a whole configuration, for the parser.

    Raises:
        yaml.YAMLError: When it is not YAML, or a key stands twice.
    """
    value = Document(text).value()
    if isinstance(value, dict) and value and all(item is None for item in value.values()):
        names = {str(name) for name in value}
        inside = text.strip()
        if inside == f"{next(iter(names))}:" or set(re.split(r"[,\s]+", inside.strip("{} "))) == names:
            return text  # a word with a colon, or words in braces: no mapping is meant
    return value


def dump(value: object) -> str:
    """`value` as YAML that every reader takes for the same."""
    return yaml.dump(plain(value), Dumper=_Dumper, sort_keys=False, allow_unicode=True, default_flow_style=False)


def plain(value: Any) -> Any:
    """`value` without marks, at any depth; what is no text, list, tuple or mapping is left as it is."""
    if isinstance(value, str) and value.startswith(UNREAD):
        return plain(load(value[1:]))
    if isinstance(value, str):
        return value[1:] if value.startswith((MARK, AS_WRITTEN)) else value
    if isinstance(value, dict):
        return {plain(name): plain(item) for name, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(plain(item) for item in value)
    return value


def marked(value: Any) -> Any:
    """`value` with the mark on every text, at any depth, that would be read as something else."""
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, dict):
        return {name: marked(item) for name, item in value.items()}
    return [marked(item) for item in value] if isinstance(value, list) else value


def quoted(text: str) -> str:
    """`text` with the mark, if it would be read as something else."""
    return f"{MARK}{text}" if reads_as_other(text) else text


def reads_as_other(text: str) -> bool:
    """Whether any reader takes `text`, without quotes, for something that is not this text."""
    if text.strip() != text or not text or text.startswith((MARK, AS_WRITTEN, UNREAD)) or not text.isprintable():
        return True
    for loader in (Loader, yaml.SafeLoader):
        try:
            if yaml.load(text, loader) != text:  # both are safe
                return True
        except (yaml.YAMLError, ValueError):
            return True
    return bool(_FLOAT.fullmatch(text) or _INT.fullmatch(text) or text.replace(".", "").isdigit())


class Document:
    """A text in YAML, with the lines of its keys.

    Args:
        text: What the file or the flag says.

    Raises:
        yaml.YAMLError: When it is not YAML.
    """

    def __init__(self, text: str) -> None:
        self._loader = Loader(text)
        self._open: list[yaml.Node] = []
        self.node = self._loader.get_single_node()
        self.lines: dict[Key, int] = {}

    def value(self, as_written: Callable[[Key], bool] = lambda _: False) -> Any:
        """What it says.

        Args:
            as_written: The keys of which a value without quotes is kept as it is written.

        Raises:
            yaml.YAMLError: When a key stands twice, or a value is not plain.
        """
        self._as_written = as_written
        return None if self.node is None else self._build(self.node, ())

    def _build(self, node: yaml.Node, key: Key, *, in_list: bool = False) -> Any:
        if node in self._open:
            raise _error("it contains itself", node)
        self._open.append(node)
        try:
            if isinstance(node, yaml.MappingNode):
                return self._mapping(node, key)
            if isinstance(node, yaml.SequenceNode):
                return [self._build(item, key, in_list=True) for item in node.value]
            assert isinstance(node, yaml.ScalarNode)
            return self._scalar(node, as_written=not in_list and self._as_written(key))
        finally:
            self._open.pop()

    def _mapping(self, node: yaml.MappingNode, key: Key) -> dict[Any, Any]:
        merged: dict[Any, Any] = {}
        own: dict[Any, Any] = {}
        for name_node, item in node.value:
            if name_node.tag == _MERGE and name_node.style is None:
                parts = item.value if isinstance(item, yaml.SequenceNode) else [item]
                for part in parts:
                    if not isinstance(part, yaml.MappingNode):
                        raise _error("<< takes mappings", name_node)
                    merged = {**self._build(part, key), **merged}
                continue
            name = self._loader.construct_object(name_node, deep=True)
            if not isinstance(name, Hashable):
                raise _error("a key must be a name", name_node)
            if name in own:
                raise _error(f"the key {name} stands twice", name_node)
            inner = (*key, str(name))
            self.lines[inner] = name_node.start_mark.line + 1
            own[name] = self._build(item, inner)
        return {**merged, **own}

    def _scalar(self, node: yaml.ScalarNode, *, as_written: bool) -> Any:
        implied: str = self._loader.resolve(yaml.ScalarNode, node.value, (True, False))  # type: ignore[no-untyped-call]
        is_bare = node.style is None and node.tag == implied
        if is_bare and as_written:
            return node.value
        value = self._loader.construct_object(node)
        if not isinstance(value, str) or is_bare:
            return value
        if value.startswith((MARK, AS_WRITTEN)):  # written by `transport`
            return value[1:] if value[0] == AS_WRITTEN else value
        return quoted(value)


def transport(value: Any) -> str:
    """`value`, marks included, as text for the parser, in which `load` finds the same."""

    def seal(each: Any) -> Any:
        if isinstance(each, str) and each[:1] != MARK and reads_as_other(each):
            return f"{AS_WRITTEN}{each}"
        if isinstance(each, dict):
            return {name: seal(item) for name, item in each.items()}
        return [seal(item) for item in each] if isinstance(each, list) else each

    return yaml.dump(seal(value), Dumper=_Dumper, sort_keys=False, default_flow_style=True, width=float("inf"))


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar(_STR, text, style='"' if reads_as_other(text) and "\n" not in text else None)


_Dumper.add_representer(str, _represent_text)


def _error(what: str, node: yaml.Node) -> yaml.YAMLError:
    return yaml.constructor.ConstructorError(None, None, what, node.start_mark)
