"""The repository's own pages, laid out as Sphinx wants them: the same folders, the README as the start page.

The pages stay as they are in the repository. Only links to what is no page there, but one here, are changed.
"""

import json
import re
import shutil
from base64 import b64decode
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
CHAPTERS = {
    "How to": [
        *(
            "docs/installing",
            "docs/running",
            "docs/sweeps",
            "docs/library",
            "docs/pretrained",
            "docs/export",
            "docs/own_environment",
        ),
        *("docs/own_algorithm", "docs/population_based_training"),
        *("docs/worker", "docs/gymnasium", "docs/isaac_gym", "docs/isaac_lab_and_mjlab", "docs/gpu", "docs/many_ranks"),
    ],
    "Notebooks": [],
    "Background": [
        *("docs/rivals", "docs/paper", "docs/differences", "docs/architecture"),
        *("docs/tasks", "docs/allegro_kuka", "docs/physics"),
    ],
    "Results": ["docs/study", "docs/study_rounds", "docs/results", "docs/benchmarks"],
    "Reference": ["reference/cli", "reference/configuration", "api/index"],
    "Project": ["CHANGELOG", "CONTRIBUTING", "SECURITY"],
}
"""Pages that are there, in their order; a page of `docs/` that stands nowhere goes to the end of the first chapter."""

_LINK = re.compile(r"\[((?:[^\[\]]|\[[^\]]*\])*)\]\((?!\w+:|#)([^)\s#]+)(#[^)\s]*)?\)")


def lay_out(out: Path) -> None:
    """Copy every page of the repository, and what it shows, to `out`.

    Args:
        out: An empty folder; `reference/` and `api/` are there already.
    """
    for page in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]:
        _write(out / page.relative_to(ROOT), _links(page.read_text(encoding="utf-8"), page, out))
    for notebook in sorted(ROOT.glob("notebooks/*.ipynb")):
        target = out / notebook.relative_to(ROOT)
        _write(target.with_suffix(".md"), _links(_notebook(notebook, target.parent), notebook, out))
        shutil.copy(notebook, target)
    readme = (out / "README.md").read_text(encoding="utf-8")
    (out / "README.md").unlink()
    _write(out / "index.md", readme + _contents(out))


def _links(text: str, page: Path, out: Path) -> str:
    """Links that lead somewhere here, too: to the start page, to notebooks as pages, to copies of files.

    Args:
        text: Of the page.
        page: Where it lies in the repository.
        out: Where the pages are laid out; files that are no pages are copied there.
    """

    def lead(link: re.Match[str]) -> str:
        words, target, place = link.groups(default="")
        path = (page.parent / target).resolve()
        if not path.is_relative_to(ROOT) or not path.exists():
            return link[0]  # Sphinx says so
        if path.is_dir():
            return words
        if path == ROOT / "README.md":
            target = target.replace("README.md", "index.md")
        elif path.suffix == ".ipynb":
            target = f"{target.removesuffix('.ipynb')}.md"
        elif path.suffix != ".md":
            (out / path.relative_to(ROOT)).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, out / path.relative_to(ROOT))
        if re.fullmatch(r"[\w./]+\.md", words):
            words = ""  # the title of the page stands there
        return f"[{words}]({target}{place})"

    return _LINK.sub(lead, text)


def _contents(out: Path) -> str:
    """The pages by chapters, for the sidebar."""
    chapters = {name: [page for page in pages if (out / f"{page}.md").is_file()] for name, pages in CHAPTERS.items()}
    placed = {page for pages in chapters.values() for page in pages}
    chapters["Notebooks"] = [f"notebooks/{page.stem}" for page in sorted((out / "notebooks").glob("*.md"))]
    others = [f"docs/{page.stem}" for page in sorted((out / "docs").glob("*.md"))]
    chapters["How to"] += [page for page in others if page not in placed]
    trees = (
        "\n".join([f"```{{toctree}}\n:hidden:\n:caption: {name}\n", *pages, "```\n"])
        for name, pages in chapters.items()
    )
    return "\n" + "\n".join(trees)


def _notebook(path: Path, folder: Path) -> str:
    """A notebook as a page: its texts, its code, and what it put out when it was saved."""
    parts = []
    for number, cell in enumerate(json.loads(path.read_text(encoding="utf-8"))["cells"]):
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
        elif cell["cell_type"] == "code" and source.strip():
            parts.append(f"```python\n{source}\n```")
            outputs = enumerate(cell.get("outputs", []))
            parts += [_output(output, folder / f"{path.stem}_{number}_{index}.png") for index, output in outputs]
    return "\n\n".join([*(part for part in parts if part), f"{{download}}`This notebook <{path.name}>`", ""])


def _output(output: dict[str, Any], picture: Path) -> str:
    """One output of a cell: its picture, or its text."""
    data = output.get("data", {})
    if "image/png" in data:
        picture.parent.mkdir(parents=True, exist_ok=True)
        picture.write_bytes(b64decode("".join(data["image/png"])))
        return f"![Output of the cell above]({picture.name})"
    text = "".join(output.get("text", data.get("text/plain", "")))
    return f"```text\n{text.rstrip()}\n```" if text.strip() else ""


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
