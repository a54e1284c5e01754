"""`pretrained`: the policies that come with the package, and what their cards say."""

import argparse

from epo_lightning import pretrained
from epo_lightning.documents.plain_yaml import dump


def main(args: list[str]) -> int:
    """List all of them, or tell the card of one.

    Args:
        args: What follows the command's name.
    """
    parser = argparse.ArgumentParser(
        prog="epo-lightning pretrained",
        description="List the policies that come with the package, or tell the card of one.",
        exit_on_error=False,
    )
    parser.add_argument("name", nargs="?", help="Which; all of them, one line each, when nothing is said.")
    name = parser.parse_args(args).name
    if name is None:
        print(listed())
    else:
        print(dump(dict(pretrained.card(pretrained.find(name, "pretrained").stem))), end="")
    return 0


def listed() -> str:
    """A line for each, and how they are used."""
    known = pretrained.names()
    width = max(map(len, known), default=0)
    rows = [f"{name:{width}}  {pretrained.card(name)['title']}" for name in known]
    uses = "play, view, validate, test, export and fit take --pretrained NAME; epo-lightning pretrained NAME: its card"
    return "\n".join([*rows, "", uses])
