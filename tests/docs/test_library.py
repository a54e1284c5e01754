"""The page on the use from Python: its code runs from top to bottom."""

import re
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from epo_lightning.cli.arguments import find_config

PAGE = Path(__file__).parents[2] / "docs" / "library.md"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the names of the page stand for after its code has run, with fewer environments."""
    folder, module = tmp_path_factory.mktemp("reader"), types.ModuleType("page")
    small = find_config("wall_maze").read_text().replace("num_envs: 2048", "num_envs: 128")
    (folder / "wall_maze").write_text(small)  # a file goes before a packaged configuration
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), flags=re.DOTALL | re.MULTILINE)
    assert len(blocks) == 8
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setitem(sys.modules, "page", module)  # as __main__ is in a notebook
        for block in blocks:
            exec(compile(block, str(PAGE), "exec"), vars(module))
        return {"folder": folder, **vars(module)}


def test_its_runs_are_there(page: dict[str, Any]) -> None:
    folder = page["folder"]
    runs = {run.name: len((run / "metrics.csv").read_text().splitlines()) - 1 for run in (folder / "runs").iterdir()}
    assert runs == {"library": 32, "profiled": 5, "deep": 2, "made": 2, "watched": 3}
    assert "page.DeepMaze" in (folder / "runs/deep/config.yaml").read_text()
    assert (folder / "runs/profiled/profile.json").exists()


def test_its_agents_act(page: dict[str, Any]) -> None:
    action, noisy = page["action"], page["noisy"]
    assert np.shape(action) == (2,)
    assert np.shape(noisy) == (16, 2)
