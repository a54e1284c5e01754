"""Docstrings as Sphinx reads them: ours are plain text with code in backticks, and a few drawings."""

import re
from itertools import groupby

_CODE = re.compile(r"(`+)(.+?)\1", re.DOTALL)
_DRAWN = re.compile(r"\S {3,}\S")
_SYMBOL = re.compile(r"((?:^|(?<=: )) *[A-Za-z])([.)])(?=\s|$)", re.MULTILINE)
"""A letter such as K or N that stands alone: it begins no list."""
_LABEL = re.compile(r"^\s*[A-Z][a-z]+:$")


_VALUES = ("attribute", "data", "property")
_values: dict[str, list[str]] = {}


def tidy(_app: object, what: str, name: str, _obj: object, _options: object, lines: list[str]) -> None:
    """Turn the lines of a docstring into reStructuredText, in place; sections are left to napoleon."""
    result: list[str] = []
    for blank, block in groupby(lines, key=lambda line: not line.strip()):
        paragraph = [*block]
        if not blank and _is_drawn(paragraph):
            indent = min(len(line) - len(line.lstrip()) for line in paragraph)
            result += [f"{' ' * indent}::", "", *(f"    {line}" for line in paragraph)]
        else:
            result += paragraph if blank else escape("\n".join(paragraph)).split("\n")
    lines[:] = result
    if what in _VALUES:
        _values[name] = result


def keep_values(_app: object, what: str, name: str, _obj: object, _options: object, lines: list[str]) -> None:
    """Undo what napoleon makes of a value's docstring: it takes what stands before a colon for a type."""
    if what in _VALUES:
        lines[:] = _values.pop(name)


def _is_drawn(paragraph: list[str]) -> bool:
    """Whether the place of words means something: columns, or a tree of files."""
    return (
        not any(_LABEL.match(line) for line in paragraph) and sum(bool(_DRAWN.search(line)) for line in paragraph) > 1
    )


def escape(text: str) -> str:
    """`text` so that only its code in backticks is marked up."""
    result, position = "", 0
    for code in _CODE.finditer(text):
        result += _plain(text[position : code.start()])
        before = "\\ " if result[-1:].isalnum() else ""
        after = "\\ " if text[code.end() : code.end() + 1].isalnum() else ""
        result += f"{before}``{' '.join(code[2].split())}``{after}"
        position = code.end()
    return result + _plain(text[position:])


def _plain(text: str) -> str:
    text = re.sub(r"([\\*|])", r"\\\1", text)
    text = _SYMBOL.sub(r"\1\\\2", text)
    return re.sub(r"(?<=\w)_(?!\w)", r"\\_", text)


def skip(_app: object, _what: str, _name: str, obj: object, _skipped: bool, _options: object) -> bool | None:
    """Leave out what Python itself says of the fields of a tuple."""
    return True if type(obj).__name__ == "_tuplegetter" else None
