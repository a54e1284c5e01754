"""What README and how-tos say can be done: their commands parse, their links lead somewhere."""

import re
import shlex
from pathlib import Path

import pytest

from epo_lightning.cli.arguments import OF_WANDB
from epo_lightning.cli.entry import main
from tests.support.overlays import command_line

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMAND = re.compile(r"(?:python -m epo_lightning|epo-lightning) (fit [^`#\n]*--config[^`#\n]*)")


def commands() -> list[str]:
    """Every `fit --config ...` of every page, as far as its first line."""
    return sorted({match.rstrip("\\ ") for page in PAGES for match in COMMAND.findall(page.read_text())})


@pytest.mark.parametrize("command", commands())
def test_every_fit_command_parses(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if "my_" in command:
        pytest.skip("names a reader's own file")
    monkeypatch.chdir(ROOT)
    with pytest.raises(SystemExit, match="0"):
        main([*shlex.split(command), "--print_config"])
    assert "num_envs:" in capsys.readouterr().out


@pytest.mark.parametrize(
    "config",
    sorted({*(ROOT / "epo_lightning" / "configs").glob("*.yaml")} - {OF_WANDB}),
    ids=lambda path: path.stem,
)
def test_every_configuration_parses(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["fit", *command_line(config.stem, str(config)), "--print_config"])
    assert "env:" in capsys.readouterr().out


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_link_and_file_of_a_page_exists(page: Path) -> None:
    text = page.read_text()
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]
    files = re.findall(r"`((?:epo_lightning|tests|benchmarks|configs|docs)/[\w./]+\.(?:py|yaml|md))`", text)
    missing = [link for link in links if not (page.parent / link).exists()]
    missing += [name for name in files if not (ROOT / name).exists()]
    assert missing == []


def test_the_readme_names_the_two_commands_of_the_makefile() -> None:
    readme, makefile = (ROOT / "README.md").read_text(), (ROOT / "Makefile").read_text()
    train = "-m epo_lightning fit --config two_arm --config laptop"
    assert train in readme
    assert train in makefile
    assert "make test" in readme
    assert "make check" in (ROOT / ".ci" / "run").read_text().splitlines()
    assert re.search(r"^check: .*\btest\b", makefile, re.MULTILINE)
