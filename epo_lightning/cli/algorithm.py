"""Which algorithm a command line means; `model.*` are its settings, so it is known before the parser is built."""

from pathlib import Path

import yaml

from epo_lightning.cli.arguments import PRETRAINED, is_complete, option_values
from epo_lightning.documents.config_file import read_config
from epo_lightning.documents.nearest import hint
from epo_lightning.documents.plain_yaml import plain
from epo_lightning.limits import Mistake
from epo_lightning.modules import ALGORITHMS, DEFAULT_ALGORITHM, admit, algorithm_class
from epo_lightning.run.overrides import Change, require_changeable

KEY = "algorithm"
FLAG = f"--{KEY}"


def choose_algorithm(args: list[str], trained: str | None) -> str:
    """That of the checkpoint, of the last file or flag that names one, or the default.

    Args:
        args: Command line after `arguments.resolve`.
        trained: What trained the checkpoint that it names; None without one.

    Raises:
        Mistake: When there is no such algorithm, or the checkpoint or policy is of another one.
    """
    named = named_algorithm(args)
    if named is None:
        # a command that says everything itself, as the one that began the run did, says this by its silence
        silent = is_complete(args) and not option_values(args, PRETRAINED)
        named = DEFAULT_ALGORITHM if trained is None or silent else trained
    if named != trained:
        admit(named)  # the user's own words
    if named not in ALGORITHMS:
        raise Mistake(
            f"algorithm must be one of {', '.join(ALGORITHMS)}, or a class path; got {named!r}{hint(named, ALGORITHMS)}"
        )
    algorithm_class(named)
    if trained not in (None, named) and option_values(args, PRETRAINED):
        raise Mistake(f"{PRETRAINED}: that policy is of the algorithm {trained}, not {named}: leave {KEY} to it")
    if trained not in (None, named):
        require_changeable([Change(KEY, trained, named)])
    return named


def named_algorithm(args: list[str]) -> str | None:
    """What the files and flags of a command line say, the last of them as they stand; None where none does."""
    flags, files = option_values(args, FLAG), option_values(args, "--config", "-c")
    named = None
    for place in sorted([*flags, *files]):
        named = (_name(place[1]) if place in flags else _name_in(place[1])) or named
    return named


def replaced_files(args: list[str]) -> int:
    """How many files, from the first on, give way with what they say of `model` to a file of another algorithm.

    A file that names an algorithm begins `model` anew where those below it are of another one, or of the default by
    their silence: so a method lies over a task whose configuration is made for another method.

    Args:
        args: Command line after `arguments.resolve`.
    """
    count, present = 0, DEFAULT_ALGORITHM
    for number, (_, path) in enumerate(option_values(args, "--config", "-c")):
        named = _name_in(path)
        if named not in (None, present):
            count, present = number, named
    return count


def _name_in(path: str) -> str | None:
    """What a file says; None where it says nothing."""
    return _name(read_config(Path(path)).values.get(KEY))


def _name(said: object) -> str | None:
    """The name without quotes; None for nothing and null."""
    said = plain(yaml.safe_load(said) if isinstance(said, str) and said[:1] in ("'", '"') else said)
    return None if said in (None, "null", "~", "") else str(said)


def is_known(name: object) -> bool:
    """Whether `name` is that of an algorithm, and nothing else."""
    return isinstance(name, str) and name in ALGORITHMS
