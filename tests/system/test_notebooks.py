"""The notebooks run from top to bottom, the first one also twice, and what is committed with them is complete."""

import json
import re
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))
SMALL = {"EPO_NOTEBOOK_ITERATIONS": "8", "EPO_NOTEBOOK_MAP": "4", "EPO_NOTEBOOK_CHILDREN": "4", "EPO_NOTEBOOK_FEW": "1"}
"""By which they are short enough for a test."""
PICTURES = {"01_first_run": 2, "02_genes": 4, "03_scaling": 2}


def read(path: Path) -> Any:  # noqa: ANN401  (nbformat has no types)
    return nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]


def pictures(cells: list[Any]) -> int:
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    return sum("image/png" in output.get("data", {}) for output in outputs)


def execute(notebooks: list[Path], folder: Path) -> Any:  # noqa: ANN401
    """One after the other; each begins without the names of those before."""
    together = nbformat.v4.new_notebook()  # type: ignore[no-untyped-call]
    for number, path in enumerate(notebooks):
        cells = [cell for cell in read(path).cells if cell.cell_type == "code"]
        cells.append(nbformat.v4.new_code_cell("%reset -f"))  # type: ignore[no-untyped-call]
        for cell in cells:
            cell["id"] = f"{cell['id'][:40]}-{number}"
            cell.metadata["notebook"] = path.stem
        together.cells += cells
    with pytest.MonkeyPatch.context() as patch:
        for name, value in SMALL.items():
            patch.setenv(name, value)
        NotebookClient(together, timeout=300, resources={"metadata": {"path": str(folder)}}).execute()
    return together


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> Any:  # noqa: ANN401
    """The first one, twice."""
    return execute(NOTEBOOKS[:1] * 2, tmp_path_factory.mktemp("reader"))


def test_the_first_draws_its_pictures_also_when_its_runs_are_there(executed: Any) -> None:  # noqa: ANN401
    assert pictures(executed.cells) == 2 * PICTURES[NOTEBOOKS[0].stem]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_others_draw_their_pictures(tmp_path: Path) -> None:
    ran = execute(NOTEBOOKS[1:], tmp_path)
    for path in NOTEBOOKS[1:]:
        cells = [cell for cell in ran.cells if cell.metadata["notebook"] == path.stem]
        assert pictures(cells) == PICTURES[path.stem]


def test_a_training_in_a_notebook_shows_a_bar_of_the_notebook(executed: Any) -> None:  # noqa: ANN401
    (content,) = executed.metadata["widgets"].values()
    widgets = [(each["model_name"], each["state"].get("value")) for each in content["state"].values()]
    texts = [text.replace("\u2007", " ") for name, text in widgets if name == "HTMLModel" and text]
    assert len(texts) == 1  # the second run of the first notebook has nothing to do, the others show none
    assert re.fullmatch(r"8/8, 262k env steps, return -[\d.]+, successes [\d.]+, [\d.]+k/s, generation 0 ?", texts[0])
    assert ("FloatProgressModel", 8.0) in widgets


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_what_is_committed_is_a_whole_run(path: Path) -> None:
    notebook = read(path)
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert pictures(notebook.cells) == PICTURES[path.stem]
    assert not any(output.output_type == "error" for output in outputs)
    counts = [cell.execution_count for cell in notebook.cells if cell.cell_type == "code"]
    assert counts == list(range(1, len(counts) + 1))
    assert path.stat().st_size < 500_000
    assert not re.search(r"/(home|root|tmp|work)/", json.dumps(notebook))
