"""Settings that this algorithm does not have, but another one does, or that have another name now."""

from jsonargparse import Namespace
from lightning.pytorch.cli import LightningArgumentParser

from epo_lightning.cli.algorithm import FLAG, KEY, named_algorithm, replaced_files
from epo_lightning.cli.arguments import option_values
from epo_lightning.cli.given import given_settings
from epo_lightning.limits import Mistake
from epo_lightning.modules import ALGORITHMS, DEFAULT_ALGORITHM, algorithm_class

RENAMED = {"data.rollout": "model.rollout"}
"""Keys that settings had before, with everything below them, and those that they have now."""


def require_present_names(args: list[str]) -> None:
    """Refuse a setting by a name that it had before.

    Raises:
        Mistake: Naming both.
    """
    for key in given_settings(args):
        for old, new in RENAMED.items():
            if f"{key}.".startswith(f"{old}."):
                raise Mistake(f"{key} is {new}{key.removeprefix(old)} now")


def require_own_settings(args: list[str], algorithm: str) -> None:
    """Refuse a setting of another algorithm.

    Args:
        args: Command line after `arguments.resolve`.
        algorithm: The one of this invocation.

    Raises:
        Mistake: Naming the key and whose it is.
    """
    own = _settings(algorithm)
    files = option_values(args, "--config", "-c")
    replaced = {place for place, _ in files[: replaced_files(args)]}
    replaced |= {place - 1 for place in replaced if not args[place].startswith("-")}  # --config FILE are two words
    words = [word for place, word in enumerate(args) if place not in replaced]
    strange = [key for key in _of_model(words) if key not in own]
    for other in (DEFAULT_ALGORITHM, *ALGORITHMS) if strange else ():
        theirs = _settings(other)
        if key := next((key for key in strange if key in theirs), None):
            raise Mistake(
                f"{key} is a setting of the algorithm {other}, and this one is {algorithm}: leave it out, or choose by"
                f" {FLAG} {other}"
            )


def require_replaceable(args: list[str], algorithm: str) -> None:
    """Refuse a file that gives way with its `model`, and means this very algorithm without saying so.

    Args:
        args: Command line after `arguments.resolve`.
        algorithm: The one of this invocation.

    Raises:
        Mistake: Naming the file and a key.
    """
    files = [path for _, path in option_values(args, "--config", "-c")]
    for number, path in enumerate(files[: replaced_files(args)], start=1):
        below = named_algorithm([f"--config={each}" for each in files[:number]]) or DEFAULT_ALGORITHM
        meant = [key for key in _of_model([f"--config={path}"]) if key in _settings(algorithm)]
        if below in ALGORITHMS and (key := next((key for key in meant if key not in _settings(below)), None)):
            raise Mistake(
                f"config: {path}: {key} is a setting of the algorithm {algorithm}, but by its silence this file is of"
                f" {below}, and a file after it begins model anew: say {KEY}: {algorithm} in it"
            )


def _of_model(args: list[str]) -> list[str]:
    """The keys below `model` that a command line gives."""
    given = given_settings(args).items()
    return [key for key, value in given if key.startswith("model.") and not isinstance(value, dict)]


def _settings(algorithm: str) -> Namespace:
    """The keys of everything that can be set of an algorithm."""
    parser = LightningArgumentParser(exit_on_error=False)
    parser.add_lightning_class_args(algorithm_class(algorithm), "model")
    return parser.get_defaults()
