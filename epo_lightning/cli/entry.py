"""The command line: `python -m epo_lightning COMMAND ...`; `commands` has them all.

A user's mistake is one line and exit code 2; a bug is a traceback. `EPO_DEBUG=1` shows the traceback always.
"""

import argparse
import contextlib
import errno
import os
import re
import select
import signal
import sys

from epo_lightning import __version__
from epo_lightning.cli.commands import find_command, overview
from epo_lightning.limits import Mistake

_USAGE = 2
_FULL = [getattr(errno, name) for name in ("ENOSPC", "EDQUOT", "EFBIG", "EROFS", "EIO") if hasattr(errno, name)]
"""What the file system says without a file's name, and no bug is the cause of."""


def main(args: list[str] | None = None) -> int:
    """Run one command.

    Args:
        args: What follows the program's name; by default that of the process.

    Returns:
        The exit code: 0, 2 for a user's mistake, 128 + n after signal n; of `doctor`: 1 when no training would run.
    """
    if args is None:
        args = sys.argv[1:]
        find_modules_here()
    if "--version" in args:
        print(f"epo-lightning {__version__}")
        return 0
    try:
        if not args or args[0] in ("-h", "--help"):
            print(overview())
            return 0
        return find_command(args[0]).run(args[0], args[1:])
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except Exception as wrapped:
        error = _unwrapped(wrapped)
        if isinstance(error, OSError) and output_is_closed(error):
            return leave_output()
        if os.environ.get("EPO_DEBUG") or not is_users_mistake(error):
            raise
        rank = _rank()
        print(f"{f'[rank {rank}] ' if rank else ''}error: {describe(error)}", file=sys.stderr)
        return _USAGE
    finally:
        leave_process_group()


def find_modules_here() -> None:
    """Let `mine.Env` be found in the working folder, as `python -m` does, also from the console script."""
    here = os.getcwd()
    if not sys.flags.safe_path and not {"", here} & set(sys.path):
        sys.path.insert(0, here)


def _unwrapped(error: Exception) -> Exception:
    """The mistake that a callback's constructor found, which the parser tells in a list of what the value is not."""
    if not isinstance(error, ValueError) or isinstance(error, Mistake):
        return error
    if isinstance(error.__cause__, Mistake):
        return error.__cause__
    told = re.search(r"^ *- (trainer\.callbacks \w+\.\w+.*)$", str(error), re.MULTILINE)
    return Mistake(told[1]) if told else error


def is_users_mistake(error: Exception) -> bool:
    """Whether the message says it all: a `Mistake`, the parser's and Lightning's errors, or a file that is named."""
    if isinstance(error, OSError):
        return error.filename is not None or error.errno in _FULL
    return isinstance(error, Mistake | argparse.ArgumentError) or _is_lightnings(error)


def _is_lightnings(error: Exception) -> bool:
    """Whether Lightning means a mistake of the user; what has not been imported raises nothing."""
    exceptions = sys.modules.get("lightning.fabric.utilities.exceptions")
    return exceptions is not None and isinstance(error, exceptions.MisconfigurationException)


def _rank() -> int:
    """Of this process; the only one, as long as Lightning has not been imported."""
    loaded = sys.modules.get("lightning.pytorch.utilities")
    return int(loaded.rank_zero_only.rank) if loaded is not None else 0


def describe(error: Exception) -> str:
    """The message in one line."""
    if isinstance(error, OSError):
        return f"{error.filename}: {error.strerror}" if error.filename is not None else f"{error.strerror}"
    return " ".join(str(error).split())


def output_is_closed(error: OSError) -> bool:
    """Whether the reader of what this process prints has gone, as after `... | head -1`, so that `error` came of it."""
    if not hasattr(select, "poll"):  # Windows
        return isinstance(error, BrokenPipeError)
    output = select.poll()
    output.register(1, 0)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in output.poll(0))


def leave_output() -> int:
    """Say so, and keep the interpreter from trying to print what is left; returns the exit code, as the shell's."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    with contextlib.suppress(OSError):
        print("error: nobody reads the standard output any more (a run keeps its last checkpoint)", file=sys.stderr)
    return 128 + getattr(signal, "SIGPIPE", 13)


def leave_process_group() -> None:
    """The threads of gloo abort a process that ends without this."""
    distributed = sys.modules.get("torch.distributed")
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()
