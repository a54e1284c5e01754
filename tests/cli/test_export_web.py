"""`export --web`: the page acts like the run, in Node.js and in a browser, from its own folder alone."""

import html
import json
import re
import shutil
from pathlib import Path

import pytest

from epo_lightning.cli.entry import main
from epo_lightning.export.arena_page import STEPS, ArenaShown
from epo_lightning.export.page import compare_page
from epo_lightning.export.web_runtime import ONNX, fetched, require_node
from epo_lightning.limits import Mistake
from tests.support.browser import BROWSER, document, served
from tests.support.command_line import TINY, Cli, refused

MAZE = TINY.replace("Probe, init_args: {max_steps: 3}", "WallMaze, init_args: {max_steps: 20}").replace(
    "hidden: [8]}", "hidden: [8], lstm_units: 5}"
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny population's run in the wall maze, with a memory, and a page."""
    pytest.importorskip("onnxscript")
    try:
        require_node()
        fetched(ONNX)
    except Mistake as missing:
        pytest.skip(str(missing))
    folder = tmp_path_factory.mktemp("trained")
    (folder / "tiny.yaml").write_text(MAZE)
    assert main(["fit", f"--config={folder / 'tiny.yaml'}", f"--run_dir={folder / 'run'}"]) == 0
    assert main(["export", str(folder / "run"), "--web"]) == 0
    return folder / "run"


def test_the_page_lies_beside_the_policy(run: Path) -> None:
    folder = run / "policy"
    names = sorted(path.name for path in folder.iterdir())
    assert names == ["index.html", "page", "parity.json", "policy.onnx", "policy.yaml"]
    own = {
        "check.mjs",
        "page.css",
        "page.json",
        "page.mjs",
        "policy.mjs",
        "task.mjs",
        "onnx.mjs",
        "policy.onnx",
        "task.onnx",
    }
    assert {path.name for path in (folder / "page").iterdir()} == own | {*ONNX.names, "ONNX_RUNTIME.txt"}
    told = json.loads((folder / "parity.json").read_text())["page"]
    assert told["steps"] == 4 * STEPS
    assert 0 <= max(told["actions"], told["task"]) <= told["refused_above"]["task"] == 1e-5
    content = json.loads((folder / "page" / "page.json").read_text())
    assert content["names"][0] == "master"
    assert [port["input"] for port in content["memory"]] == ["hidden", "cell"]
    for text in (
        "index.html",
        "page/page.mjs",
        "page/policy.mjs",
        "page/task.mjs",
        "page/onnx.mjs",
        "page/page.css",
        "page/check.mjs",
    ):
        assert "://" not in (folder / text).read_text()  # nothing is fetched from elsewhere


def test_the_comparison_finds_what_differs(run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "policy"
    shutil.copytree(run / "policy", folder)
    file = folder / "page" / "page.json"
    content = json.loads(file.read_text())
    content["rehearsal"]["action"][50][3][1] += 0.5
    file.write_text(json.dumps(content))
    with pytest.raises(Mistake, match=r"--web: the page acts unlike the run: its actions differ by 0\.5"):
        compare_page(folder, ArenaShown.allowed)
    (folder / "page" / "task.onnx").write_bytes(b"none")
    with pytest.raises(Mistake, match="--web: the page does not run"):
        compare_page(folder, ArenaShown.allowed)


@pytest.mark.skipif(BROWSER is None, reason="needs Chromium")
def test_it_plays_in_a_browser_without_a_network(run: Path, tmp_path: Path) -> None:
    with served(run / "policy") as address:
        text = document(f"{address}?first=1&second=2&share=50&speed=60", tmp_path, 15000)
    said = re.search(r'data-parity="([^"]*)"', text)
    assert said, text[-2000:]
    far = json.loads(html.unescape(said.group(1)))
    assert far["steps"] == 4 * STEPS
    assert max(far["actions"], far["task"]) <= 1e-5
    episodes = re.search(r'id="episodes">(\d+)<', text)
    assert episodes is not None
    assert int(episodes.group(1)) > 1
    assert "50 : 50" in text


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--format=torchscript"], "--web needs --format onnx, got torchscript"),
        ([], "--web: there is no page for Probe, only for points between walls"),
    ],
)
def test_where_there_is_no_page_it_is_one_line(cli: Cli, words: list[str], said: str, run: Path) -> None:
    assert run.is_dir()
    assert cli("fit", "--config=tiny.yaml", "--run_dir=mine", "--trainer.max_epochs=1").code == 0
    refused(cli("export", "mine", "--web", "--out=out", *words), said)
    assert not Path("out").exists()
