"""The page on sweeps: its files are studies, and that of the agent is the packaged one."""

import re
from pathlib import Path

import pytest
import yaml

from epo_lightning.cli import resolution
from epo_lightning.cli.arguments import OF_WANDB
from epo_lightning.cli.commands import COMMANDS
from tests.support.command_line import Cli

ROOT = Path(__file__).parents[2]
BLOCKS = re.findall(r"^```yaml\n(.*?)^```$", (ROOT / "docs" / "sweeps.md").read_text(), flags=re.DOTALL | re.MULTILINE)
STUDIES = [*(block for block in BLOCKS if "common:" in block)]
FILES = [*STUDIES, *(path.read_text() for path in sorted((ROOT / "benchmarks" / "studies").glob("*.yaml")))]


@pytest.mark.parametrize("text", FILES, ids=range(len(FILES)))
def test_every_study_of_the_page_and_of_the_results_is_one(
    cli: Cli, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resolution, "_ask", lambda requests: [resolution._answer(request) for request in requests])
    Path("study.yaml").write_text(text)
    outcome = cli("sweep", "study.yaml", "--dry-run", "--out", "out")
    assert outcome.code == 0, outcome.err
    assert "python -m epo_lightning fit --config out/" in outcome.out


def test_the_page_shows_the_agents_file() -> None:
    (shown,) = (block for block in BLOCKS if "program:" in block)
    assert yaml.safe_load(shown) == yaml.safe_load(OF_WANDB.read_text())
    assert len(STUDIES) == 4
    assert "sweep" in COMMANDS
