"""Pages that are generated: the modules, the commands, and every key of a configuration."""

import contextlib
import importlib
import inspect
import io
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lightning.pytorch.cli import LightningArgumentParser

import epo_lightning
from epo_lightning.cli.commands import COMMANDS, Command, RunCommand, overview
from epo_lightning.cli.parser import add_origins, add_parts
from epo_lightning.modules import ALGORITHMS, algorithm_class

ROOT = Path(__file__).parents[2]
_DRAWING = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8").split("```")[1]
FLOORS = re.findall(r"^   (\w+)  ", _DRAWING, flags=re.MULTILINE)[::-1]
"""From the ground up, as they are drawn in `docs/architecture.md`."""
_NO_KEYS = ("_ActionConfigLoad", "_ActionPrintConfig", "_ActionHelpClassPath")
"""Kinds of arguments that set nothing."""
ELSEWHERE = ("epo_lightning.envs.worker.remote.", "epo_lightning.__main__")
"""Runs in simulators' interpreters, or is no module to import."""


def write(out: Path) -> None:
    """Write all generated pages into `out`."""
    pages = {**api(), "reference/cli": cli(), "reference/configuration": configuration()}
    for name, text in pages.items():
        path = out / f"{name}.md"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


# The modules ------------------------------------------------------------------------------------------------------


def modules() -> dict[str, list[str]]:
    """Every public module by its floor, the floors from the ground up."""
    found: dict[str, list[str]] = {floor: [] for floor in FLOORS}
    for module in pkgutil.walk_packages(epo_lightning.__path__, "epo_lightning."):
        floor, _, inner = module.name.removeprefix("epo_lightning.").partition(".")
        if not module.name.startswith(ELSEWHERE) and not any(part.startswith("_") for part in (floor, inner)):
            found.setdefault(floor, []).append(module.name)
    return {floor: names for floor, names in found.items() if names}


def api() -> dict[str, str]:
    """A page for each floor, and one that leads to them."""
    pages, rows = {}, []
    for floor, names in modules().items():
        pages[f"api/{floor}"] = "\n".join([f"# {floor}", "", *map(_module, names)])
        words = inspect.getdoc(importlib.import_module(f"epo_lightning.{floor}")) or ""
        rows.append(f"| [`epo_lightning.{floor}`]({floor}.md) | {words.partition(chr(10))[0]} |")
    door = [
        _directive("autofunction" if inspect.isroutine(each) else "autoclass", f"epo_lightning.{name}", "no-index")
        for name, each in front_door()
    ]
    text = "The modules, floor by floor: a module imports from its own floor and from those above it in this list."
    intro = [
        "# API",
        "",
        *(["What `import epo_lightning` gives:", "", *door, "## Modules", ""] if door else []),
        text,
        "",
    ]
    table = ["| floor | what it is |", "|---|---|", *rows, ""]
    tree = ["```{toctree}", ":hidden:", "", *(name.removeprefix("api/") for name in pages), "```", ""]
    return {"api/index": "\n".join([*intro, *table, *tree]), **pages}


def front_door() -> Iterator[tuple[str, Any]]:
    """Functions and classes that `import epo_lightning` gives by name, and what they are."""
    for name in getattr(epo_lightning, "__all__", ()):
        found = getattr(epo_lightning, name)
        if callable(found):
            yield name, found


def _module(name: str) -> str:
    importlib.import_module(name)  # what cannot be imported is a traceback here, not a warning among many
    inner = name.removeprefix("epo_lightning.")
    heading = f"## {inner}\n\n" if "." in inner else ""  # a floor stands under the title
    return heading + _directive("automodule", name)


def _directive(name: str, argument: str, *flags: str) -> str:
    options = "".join(f"\n   :{flag}:" for flag in flags)
    return f"```{{eval-rst}}\n.. {name}:: {argument}{options}\n```\n"


# The commands -----------------------------------------------------------------------------------------------------


def cli() -> str:
    """Every command with its own arguments."""
    parts = ["# Command line", "", "`epo-lightning`, or `python -m epo_lightning`.", "", _text(overview()), ""]
    for name, command in COMMANDS.items():
        parts += [f"## {name}", ""]
        parts += _run_command(command) if isinstance(command, RunCommand) else _command(command)
    return "\n".join(parts)


def _run_command(command: RunCommand) -> list[str]:
    parser = LightningArgumentParser(add_help=False)
    parser.add_function_arguments(pkgutil.resolve_name(command.function), skip={"run"})
    own = [*_rows(parser, "--")]
    text = f"{command.help} It takes every key of [a configuration](configuration.md) as a flag"
    return [f"{text}, and:" if own else f"{text}.", "", *(_table(own, "flag") if own else ()), ""]


def _command(command: Command) -> list[str]:
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):
        pkgutil.resolve_name(command.function)(["--help"])
    return [command.help, "", _text(said.getvalue()), ""]


def _text(said: str) -> str:
    return f"```text\n{said.rstrip()}\n```"


# The configuration ------------------------------------------------------------------------------------------------


def configuration() -> str:
    """Every key with its default; those of `model` once for each algorithm."""
    parts = [
        "# Configuration",
        "",
        "Every key is a line of a YAML file, `model: {loss: {clip_eps: 0.1}}`, and a flag,",
        "`--model.loss.clip_eps 0.1`.",
        "What an environment or a callback takes stands under its `init_args`: see [envs](../api/envs.md) and",
        "[callbacks](../api/callbacks.md).",
        "",
    ]
    for number, algorithm in enumerate(ALGORITHMS):
        parser = LightningArgumentParser(add_help=False)
        add_origins(parser)
        add_parts(parser, algorithm_class(algorithm))
        rows = [*_rows(parser)]
        if not number:
            for part in ("", "trainer", "data", "checkpoint"):
                where = [row for row in rows if row[0].partition(".")[0] == part or (not part and "." not in row[0])]
                parts += [f"## {part}" if part else "## The run", "", *_table(where, "key"), ""]
        parts += [
            f"## model, of {algorithm}",
            "",
            *_table([row for row in rows if row[0].startswith("model.")], "key"),
            "",
        ]
    return "\n".join(parts)


def _rows(parser: LightningArgumentParser, prefix: str = "") -> Iterator[tuple[str, str, str]]:
    """Key, default and meaning of each argument that takes a value."""
    for action in parser._actions:
        words = re.sub(r":\w+:`~?([^`]+)`|``([^`]+)``", r"`\1\2`", " ".join(str(action.help or "").split()))
        if words == "==SUPPRESS==" or not action.option_strings or type(action).__name__ in _NO_KEYS:
            continue
        default = action.default if action.dest != "config" else None
        shown = "" if str(default) in ("==SUPPRESS==", "<unset>") else _value(default)
        yield f"{prefix}{action.dest}", shown, words


def _value(default: object) -> str:
    if default is None:
        return "null"
    return str(default).lower() if isinstance(default, bool) else str(default)


def _table(rows: list[tuple[str, str, str]], first: str) -> list[str]:
    def cell(text: str) -> str:
        return text.replace("|", "\\|").replace("<", "&lt;")

    return [
        f"| {first} | default | meaning |",
        "|---|---|---|",
        *(f"| `{name}` | {f'`{cell(value)}`' if value else ''} | {cell(words)} |" for name, value, words in rows),
    ]
