"""The commands, one row each; what a row names is imported when it runs.

A command is a function in a file of its own. There are two kinds: one gets its arguments as they stand, the other reads
a run's configuration and gets everything that is built from it.
"""

import pkgutil
from collections.abc import Sequence
from dataclasses import dataclass

from epo_lightning.cli.arguments import option_values, resolve, run_name
from epo_lightning.cli.given import require_flags_behind_files
from epo_lightning.cli.process_settings import keep_compiled_code, keep_freed_memory, yield_idle_threads
from epo_lightning.documents.nearest import hint
from epo_lightning.limits import Mistake


@dataclass(frozen=True)
class Command:
    """A command that needs no configuration.

    Attributes:
        help: What it does, in one line.
        function: `module:function`; what follows the command's name -> exit code.
    """

    help: str
    function: str

    def run(self, name: str, args: Sequence[str]) -> int:  # noqa: ARG002  (which a `RunCommand` needs)
        """Do it; returns the exit code.

        Args:
            name: What the user calls it.
            args: What follows that.
        """
        return int(pkgutil.resolve_name(self.function)(args))


@dataclass(frozen=True)
class RunCommand(Command):
    """A command that reads a run's configuration: files, flags, a checkpoint's.

    Attributes:
        function: `module:function`; an `Invocation`, and arguments that become flags, the docstring their help -> exit
            code.
        trains: It makes a run, or continues one.
        in_one_process: Whatever the configuration says of devices.
        names_run: Its first word may be the run, as `--ckpt_path` names it.
    """

    trains: bool = False
    in_one_process: bool = False
    names_run: bool = False

    def run(self, name: str, args: Sequence[str]) -> int:
        """Build what the configuration says, then do it."""
        if self.names_run and args and not args[0].startswith("-"):
            args = ["--ckpt_path", *args]
        given = [name, *args]
        require_flags_behind_files(given)
        resolved = resolve(given)
        asks = any(arg == "-h" or "help" in arg or arg.startswith("--print_config") for arg in args)
        if self.names_run and not asks and not option_values(resolved, "--ckpt_path"):
            raise Mistake(f"{name}: name a run folder or a checkpoint: epo-lightning {name} RUN")
        keep_freed_memory()
        yield_idle_threads()
        keep_compiled_code()
        return int(pkgutil.resolve_name("epo_lightning.cli.invocation:run")(self, resolved, run_name(given), given))


COMMANDS: dict[str, Command] = {
    "fit": RunCommand("Train a population, or continue a run.", "epo_lightning.cli.fit:fit", trains=True),
    "validate": RunCommand("Evaluate the master of a checkpoint.", "epo_lightning.cli.evaluate:validate"),
    "test": RunCommand("Evaluate it by protocol: the number for a table.", "epo_lightning.cli.evaluate:test"),
    "play": RunCommand(
        "Film agents of a checkpoint, or a policy without a network.",
        "epo_lightning.cli.shows:play",
        in_one_process=True,
    ),
    "view": RunCommand(
        "Watch agents in the browser, and push the object.", "epo_lightning.cli.shows:view", in_one_process=True
    ),
    "export": RunCommand(
        "Write a policy as ONNX with its meaning, for use without torch.",
        "epo_lightning.cli.export:export",
        in_one_process=True,
        names_run=True,
    ),
    "pretrained": Command("List the policies that come with the package.", "epo_lightning.cli.pretrained:main"),
    "report": Command("Compare runs: a page with curves and tables, CSV, JSON.", "epo_lightning.cli.report:main"),
    "sweep": Command("Run configurations times seeds, or search for settings.", "epo_lightning.cli.sweep:main"),
    "doctor": Command("Tell what of this machine can be used.", "epo_lightning.cli.doctor:main"),
}


def find_command(name: str) -> Command:
    """The command that the user calls `name`.

    Raises:
        Mistake: When there is none.
    """
    if name not in COMMANDS:
        raise Mistake(
            f"{name} is not a command{hint(name, COMMANDS)}; the first word must be one of: {', '.join(COMMANDS)}"
        )
    return COMMANDS[name]


def overview() -> str:
    """What `--help` says."""
    rows = "\n".join(f"  {name:12}{command.help}" for name, command in COMMANDS.items())
    return f"""usage: epo-lightning COMMAND ...

Evolutionary Policy Optimization.

options:
  -h, --help  Show this help message and exit; after a command: all of its settings.
  --version   Show the version and exit.

commands:
{rows}"""
