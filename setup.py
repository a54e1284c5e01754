"""What `pyproject.toml` cannot say: the README as a package index shows it, and a tree that is not whole is refused."""

import re
import sys
import tomllib
from pathlib import Path

from setuptools import setup

ROOT = Path(__file__).parent
FOLDERS = {"callbacks": "*.py", "configs": "*.yaml", "pretrained/policies": "*.ckpt"}
"""Folders of the package, and what each must hold."""
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\((?!https?:|mailto:|#)([^)\s]+)\)")


def refuse_incomplete() -> None:
    """End with one line where a folder of the package is missing, a file, or empty: the wheel would lack it."""
    for name, files in FOLDERS.items():
        folder = ROOT / "epo_lightning" / name
        if not any(folder.glob(files)):
            what = "a text file" if folder.is_file() else "empty" if folder.is_dir() else "missing"
            sys.exit(f"error: epo_lightning/{name} is {what}, it must be a folder with {files}; unpack the source anew")


def description(readme: str, repository: str | None) -> str:
    """The README for a page outside the repository, where links that are relative lead nowhere.

    Args:
        readme: The README, whose links are relative to the repository.
        repository: The repository's address, or None: then a picture becomes its text, and a link the text of it.
    """

    def absolute(match: re.Match[str]) -> str:
        picture, text, target = match.groups()
        if repository is None:
            return f"*[{text}]*" if picture else text
        return f"{picture}[{text}]({repository.rstrip('/')}/{'raw' if picture else 'blob'}/HEAD/{target})"

    return LINK.sub(absolute, re.sub(r"<!--.*?-->\n?", "", readme, flags=re.DOTALL))


if __name__ == "__main__":
    refuse_incomplete()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    setup(
        long_description=description(
            (ROOT / "README.md").read_text(encoding="utf-8"), project["urls"].get("Repository")
        ),
        long_description_content_type="text/markdown",
    )
