"""The command line: `python -m epo_lightning fit|validate|test --config NAME_OR_PATH ...`.

A user's mistake is one line and exit code 2; a bug is a traceback. `EPO_DEBUG=1` shows the traceback always.
"""

import argparse
import os
import sys
import traceback
from pathlib import Path

from epo_lightning import __version__
from epo_lightning.allocator import keep_freed_memory
from epo_lightning.arguments import resolve

_PACKAGE = Path(__file__).parent
_USAGE = 2


def main(args: list[str] | None = None) -> int:
    """Run one command.

    Args:
        args: What follows the program's name; by default that of the process.

    Returns:
        The exit code: 0, 2 for a user's mistake, 128 + n after signal n.
    """
    args = sys.argv[1:] if args is None else args
    if "--version" in args:
        print(f"epo-lightning {__version__}")
        return 0
    try:
        resolved = resolve(args or ["--help"])
        keep_freed_memory()
        from epo_lightning.command import Command

        return Command(resolved).exit_code
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        if os.environ.get("EPO_DEBUG") or not is_users_mistake(error):
            raise
        print(f"error: {one_line(error)}", file=sys.stderr)
        return _USAGE


def is_users_mistake(error: Exception) -> bool:
    """Whether the message says it all: the parser's errors, Lightning's, and what this package's own code raised."""
    from lightning.fabric.utilities.exceptions import MisconfigurationException

    if isinstance(error, argparse.ArgumentError | MisconfigurationException):
        return True
    origin = Path(traceback.extract_tb(error.__traceback__)[-1].filename)
    return isinstance(error, ValueError) and (_PACKAGE in origin.parents or _PACKAGE.parent / "callbacks" in origin.parents)


def one_line(error: Exception) -> str:
    """The message without line breaks."""
    return " ".join(str(error).split())
