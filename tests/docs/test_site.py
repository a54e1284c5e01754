"""The documentation's pages: built without a network, and every link inside leads somewhere."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag

import pytest

ROOT = Path(__file__).parents[2]
LOADS = {"script", "img", "link", "iframe", "source", "video", "audio", "embed", "object"}
"""Elements whose address the browser fetches without being asked."""


class Page(HTMLParser):
    """The places and the addresses of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[tuple[str, str]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an id and an address."""
        for name, value in attrs:
            if name == "id" and value:
                self.ids.add(value)
            elif name in ("href", "src") and value:
                self.links.append((tag, value))


@pytest.fixture(scope="module")
def html(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pages; building them needs no network, and a warning is an error."""
    out = tmp_path_factory.mktemp("docs") / "out"
    proxies = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
    environment = {**os.environ, **proxies, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(ROOT / "docs" / "site" / "build.py"), str(out)]
    result = subprocess.run(command, env=environment, cwd=out.parent, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stderr == ""
    return out / "html"


@pytest.fixture(scope="module")
def pages(html: Path) -> dict[Path, Page]:
    """Every page."""
    return {path: Page(path.read_text()) for path in html.rglob("*.html")}


def test_every_page_of_the_repository_is_there(html: Path) -> None:
    wanted = [*ROOT.glob("docs/*.md"), *ROOT.glob("notebooks/*.ipynb"), *ROOT.glob("*.md")]
    names = {path.relative_to(ROOT).with_suffix(".html").as_posix() for path in wanted} - {"README.html"}
    found = {path.relative_to(html).as_posix() for path in html.rglob("*.html")}
    assert len(names) > 15
    assert names | {"index.html", "reference/cli.html", "reference/configuration.html", "search.html"} <= found


def test_nothing_is_loaded_from_elsewhere(html: Path, pages: dict[Path, Page]) -> None:
    loaded = [(path.name, link) for path, page in pages.items() for tag, link in page.links if tag in LOADS]
    assert loaded
    assert [each for each in loaded if re.match(r"(https?:)?//", each[1])] == []
    for sheet in html.rglob("*.css"):
        assert not re.search(r"(url\(|@import)\s*['\"]?(https?:)?//", sheet.read_text()), sheet


def test_every_link_inside_leads_to_a_place(html: Path, pages: dict[Path, Page]) -> None:
    assert list(broken(html, pages)) == []


def broken(html: Path, pages: dict[Path, Page]) -> Iterator[str]:
    """Links to a file that is not there, or to a place that its page does not have."""
    for path, page in pages.items():
        for _, link in page.links:
            if re.match(r"[a-z]+:|//", link):
                continue
            address, place = urldefrag(link)
            target = (path.parent / unquote(address.partition("?")[0])).resolve() if address else path
            inside = target.is_relative_to(html.resolve()) and target.exists()
            named = inside and place and target.suffix == ".html"
            if not inside or (named and unquote(place) not in pages[html / target.relative_to(html)].ids):
                yield f"{path.name}: {link}"


def test_the_reference_has_modules_commands_and_keys(html: Path, pages: dict[Path, Page]) -> None:
    callbacks = pages[html / "api" / "callbacks.html"]
    assert "epo_lightning.callbacks.evolution.GeneticEvolution" in callbacks.ids
    assert "epo_lightning.algorithm.losses.hybrid_loss" in pages[html / "api" / "algorithm.html"].ids
    commands = pages[html / "reference" / "cli.html"]
    assert {"fit", "validate", "test", "play", "view", "report", "doctor"} <= commands.ids
    keys = re.sub(r"<[^>]+>", "", (html / "reference" / "configuration.html").read_text())
    for key in ("model.loss.clip_eps", "model.replay.capacity_per_env", "data.num_envs", "trainer.max_epochs"):
        assert key in keys


def test_the_paper_map_leads_to_the_code(html: Path, pages: dict[Path, Page]) -> None:
    links = {link for _, link in pages[html / "docs" / "paper.html"].links}
    assert "../api/algorithm.html#epo_lightning.algorithm.losses.clipped_surrogate" in links
    assert "../api/callbacks.html#epo_lightning.callbacks.evolution.GeneticEvolution" in links


def test_docstrings_keep_their_words(html: Path) -> None:
    text = re.sub(r"<[^>]+>", "", (html / "api" / "run.html").read_text())
    assert "checkpoints/last.ckpt    the latest iteration" in text  # a drawing stays one
    assert "Alias for field number" not in text
    assert "Bases: object" not in text


def test_a_broken_link_is_found(tmp_path: Path) -> None:
    a, b = tmp_path / "a.html", tmp_path / "b.html"
    a.write_text(
        '<a href="b.html#here">x</a><a href="b.html#there">x</a><a href="c.html">x</a><a href="https://x">y</a>'
    )
    b.write_text('<p id="here"><a href="#here">x</a><a href="../out.html">x</a></p>')
    found = list(broken(tmp_path, {path: Page(path.read_text()) for path in (a, b)}))
    assert found == ["a.html: b.html#there", "a.html: c.html", "b.html: ../out.html"]


def test_links_to_files_folders_and_notebooks_lead_somewhere_on_the_pages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "docs" / "site"))
    import sources  # type: ignore[import-not-found]  # lies beside Sphinx's settings

    page = ROOT / "docs" / "running.md"
    text = "[a](../Makefile) [b](../epo_lightning) [c](../README.md#words) [d](../notebooks/01_first_run.ipynb)"
    text += (
        " [paper.md](paper.md#equations) ![f](pictures/viewer.png) [g](nowhere.md) [h](https://x.y/z.md) [i](#place)"
    )
    led = "[a](../Makefile) b [c](../index.md#words) [d](../notebooks/01_first_run.md)"
    led += " [](paper.md#equations) ![f](pictures/viewer.png) [g](nowhere.md) [h](https://x.y/z.md) [i](#place)"
    assert sources._links(text, page, tmp_path) == led
    assert {path.name for path in tmp_path.rglob("*.*")} == {"viewer.png"}
    assert (tmp_path / "Makefile").is_file()


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("algorithm.losses.hybrid_loss", "epo_lightning.algorithm.losses.hybrid_loss"),
        ("epo_lightning.callbacks.GeneticEvolution", "epo_lightning.callbacks.evolution.GeneticEvolution"),
        ("epo_lightning/run/folder.py", "epo_lightning.run.folder"),
        ("run.folder", None),  # an attribute of somebody's `run`
        ("model.loss.clip_eps", None),
        ("torch.equal", None),
    ],
)
def test_code_leads_to_what_it_names(text: str, target: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "docs" / "site"))
    import references  # type: ignore[import-not-found]  # lies beside Sphinx's settings

    assert references.documented(text) == target
