"""The page from paper to code: what it names exists, and equations are cited where it says."""

import ast
import inspect
import pkgutil
import re
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from epo_lightning import callbacks
from epo_lightning.algorithm.diversity import DiversitySettings
from epo_lightning.algorithm.losses import LossSettings
from epo_lightning.experience.settings import RolloutSettings
from epo_lightning.learner.networks import NetworkSettings
from epo_lightning.learner.optimizer import GeneOptimizerSettings
from epo_lightning.modules.data import RolloutDataModule
from epo_lightning.modules.epo import EPOModule

ROOT = Path(__file__).parents[2]
EQUATIONS = range(2, 11)
OWNERS: dict[str, Any] = {
    "model": EPOModule,
    "model.network": NetworkSettings,
    "model.loss": LossSettings,
    "model.diversity": DiversitySettings,
    "model.optimizer": GeneOptimizerSettings,
    "data": RolloutDataModule,
    "model.rollout": RolloutSettings,
    **{name: getattr(callbacks, name) for name in callbacks.__all__},
}
"""Whose arguments the keys before the last dot are."""
CITED = re.compile(r"EPO (eq\. \d+(?:(?:, | and )eq\. \d+)*)")


class Row(NamedTuple):
    """One row of a table of the page: the texts in backticks of its last three cells."""

    equation: int | None
    functions: list[str]
    settings: list[str]
    tests: list[str]


def rows() -> list[Row]:
    """Every row of every table."""
    found = []
    for line in (ROOT / "docs" / "paper.md").read_text().splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if len(cells) >= 4 and "`" in cells[-1]:
            number = int(cells[0]) if cells[0].isdigit() else None
            found.append(Row(number, *(re.findall(r"`([^`]+)`", cell) for cell in cells[-3:])))
    return found


ROWS = rows()


def code(function: str) -> Callable[..., Any]:
    """The function or class of that dotted path inside the package."""
    found: Callable[..., Any] = pkgutil.resolve_name(f"epo_lightning.{function}")
    return found


def numbers(text: str) -> set[int]:
    """Of the equations of EPO that `text` cites."""
    return {int(number) for cited in CITED.findall(text) for number in re.findall(r"\d+", cited)}


def sources() -> list[Path]:
    """Every file of the package."""
    return [*(ROOT / "epo_lightning").rglob("*.py")]


def test_no_table_was_overlooked() -> None:
    text = (ROOT / "docs" / "paper.md").read_text()
    # every line of a table but its two lines of heading
    assert len(ROWS) == text.count("\n|") - 2 * text.count("\n|---")
    assert [row.equation for row in ROWS if row.equation] == list(EQUATIONS)
    assert all(row.functions and row.tests for row in ROWS)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.functions[0])
def test_functions_exist_and_cite_their_equation(row: Row) -> None:
    for function in row.functions:
        source = inspect.getsource(code(function))
        assert row.equation is None or row.equation in numbers(source), function


def test_an_equation_is_cited_in_the_files_of_its_row_and_nowhere_else() -> None:
    cited: defaultdict[int, set[Path]] = defaultdict(set)
    named: defaultdict[int, set[Path]] = defaultdict(set)
    for path in sources():
        for number in numbers(path.read_text()) & set(EQUATIONS):
            cited[number].add(path.resolve())
    for row in ROWS:
        if row.equation is not None:
            named[row.equation] |= {Path(inspect.getsourcefile(code(each)) or "").resolve() for each in row.functions}
    assert cited == named


def test_an_equation_of_another_paper_says_so() -> None:
    for path in sources():
        rest = re.sub(r"arXiv [\d.]+, eq\. \d+", "", CITED.sub("", path.read_text()))
        assert not re.search(r"\beq(s|uations?)?\b\.?\s*\(?\d", rest, re.IGNORECASE), path.name


@pytest.mark.parametrize("setting", sorted({setting for row in ROWS for setting in row.settings}))
def test_settings_exist_with_that_default(setting: str) -> None:
    ((key, value),) = yaml.safe_load(setting).items()
    owner, _, name = key.rpartition(".")
    default = inspect.signature(OWNERS[owner]).parameters[name].default
    assert (list(default) if isinstance(default, tuple) else default) == value  # YAML has no tuples


@pytest.mark.parametrize("test", sorted({test for row in ROWS for test in row.tests}))
def test_tests_exist(test: str) -> None:
    file, *names = test.split("::")
    nodes: list[Any] = [ast.parse((ROOT / file).read_text())]
    if len(names) == 1:  # the name of a test, whatever its class
        nodes += [node for node in nodes[0].body if isinstance(node, ast.ClassDef)]
    for name in names:
        nodes = [each for node in nodes for each in node.body if getattr(each, "name", None) == name]
    assert len(nodes) == 1
    assert isinstance(nodes[0], ast.FunctionDef)
