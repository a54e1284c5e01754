"""What the package imports is brought by a dependency or an extra; what it advises to install is there."""

import ast
import json
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]
REMOTE = ROOT / "epo_lightning" / "envs" / "worker" / "remote"
SOURCES = [path for path in (ROOT / "epo_lightning").rglob("*.py") if REMOTE not in path.parents]
RUNNER = tomllib.loads((ROOT / "epo_runtime" / "pyproject.toml").read_text())["project"]
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("notebooks/*.ipynb")]
BROUGHT = {"warp-lang": "warp", "pyopengl": "mujoco"}
"""What comes with a package that is named, and where it is named."""


def distribution(requirement: str) -> str:
    """The package's name in a requirement, as indexes compare it."""
    name = re.match(r"[\w.-]+", requirement)
    assert name is not None, requirement
    return re.sub(r"[-_.]+", "-", name[0]).lower()


def flat(extra: str) -> set[str]:
    """The packages of an extra, and those of the extras that it refers to."""
    found: set[str] = set()
    for requirement in EXTRAS[extra]:
        if inner := re.fullmatch(r"epo-lightning\[(.*)\]", requirement):
            found |= set().union(*(flat(name) for name in inner[1].split(",")))
        else:
            found.add(distribution(requirement))
    return found


NEEDED = {distribution(each) for each in PROJECT["dependencies"]}
OFFERED = set().union(*(flat(extra) for extra in EXTRAS if extra != "dev"))


def imported(path: Path) -> set[str]:
    """Top-level names that a file imports anywhere, or looks for."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.add(str(node.module).partition(".")[0])
    return found - set(sys.stdlib_module_names) - {"epo_lightning", "epo_runtime"}


def test_every_import_is_brought_by_a_dependency_or_an_extra() -> None:
    brings = packages_distributions()
    modules = set().union(*(imported(path) for path in SOURCES))
    assert modules >= {"torch", "yaml", "viser", "PIL"}
    names = {module: {distribution(name) for name in brings.get(module, [module])} for module in modules}
    assert [module for module in modules if not names[module] & (NEEDED | OFFERED | set(BROUGHT))] == []


def test_the_runner_alone_brings_what_it_imports_and_no_torch() -> None:
    modules = set().union(*(imported(path) for path in (ROOT / "epo_runtime").glob("*.py")))
    assert modules == {"numpy", "onnxruntime", "yaml"}
    assert {distribution(each) for each in RUNNER["dependencies"]} == {"numpy", "onnxruntime", "pyyaml"}
    assert RUNNER["version"] == PROJECT["version"]
    assert flat("runtime") | NEEDED >= {"numpy", "onnxruntime", "pyyaml"}


def advice(text: str) -> list[str]:
    """What the `pip install` commands of a text install."""
    quoted = re.findall(r"pip install (?:-\S+ )*(?:'([^']+)'|\"([^\"]+)\"|([\w.\[\],-]+))", text.replace('\\"', '"'))
    return ["".join(groups) for groups in quoted]


def text_of(path: Path) -> str:
    """A file's text; of a notebook what its cells say."""
    text = path.read_text()
    return "".join("".join(cell["source"]) for cell in json.loads(text)["cells"]) if path.suffix == ".ipynb" else text


HINTS = sorted({(path.relative_to(ROOT).as_posix(), hint) for path in SOURCES for hint in advice(path.read_text())})


def test_the_package_gives_hints() -> None:
    assert {extra for _, hint in HINTS for extra in re.findall(r"\[(\w+)\]", hint)} >= {"video", "viewer", "gymnasium"}


@pytest.mark.parametrize(("place", "hint"), HINTS)
def test_every_hint_of_the_package_names_an_extra_or_a_dependency(place: str, hint: str) -> None:
    if hint == "epo-lightning[{extra}]":
        calls = re.findall(r"check_package\(\"[\w-]+\", \"(\w+)\"", "".join(path.read_text() for path in SOURCES))
        assert calls
        assert set(calls) <= set(EXTRAS)
    elif extra := re.fullmatch(r"epo-lightning\[([\w,]+)\]", hint):
        assert set(extra[1].split(",")) <= set(EXTRAS)
    else:
        assert distribution(hint) in NEEDED | {"numpy"} | (OFFERED & {"wandb"}), f"{place}: name an extra instead"


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_every_extra_that_a_page_names_is_there(page: Path) -> None:
    named = re.findall(r"(?:epo-lightning|['\" ]\.)\[([\w,]+)\]", text_of(page))
    assert {extra for each in named for extra in each.split(",")} <= set(EXTRAS)


def test_all_and_dev_hold_every_other_extra() -> None:
    users = set(EXTRAS) - {"all", "dev", "docs"}
    assert flat("all") == set().union(*(flat(extra) for extra in users))
    assert flat("dev") >= flat("all") | flat("docs")


def test_advice_and_requirements_are_read() -> None:
    assert advice("so: pip install 'epo-lightning[video]' or `pip install --force-reinstall torch`") == [
        "epo-lightning[video]",
        "torch",
    ]
    assert distribution("PyYAML>=6") == "pyyaml"
    assert distribution("jsonargparse[signatures]>=4") == "jsonargparse"
