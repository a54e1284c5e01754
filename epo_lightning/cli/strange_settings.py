"""Settings that this algorithm does not have, but another one does, or that have another name now."""

from jsonargparse import Namespace
from lightning.pytorch.cli import LightningArgumentParser

from epo_lightning.cli.algorithm import FLAG
from epo_lightning.cli.trust.consent import given_settings
from epo_lightning.limits import Mistake
from epo_lightning.modules import ALGORITHMS, algorithm_class

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
    strange = [
        key for key, value in given_settings(args).items()
        if key.startswith("model.") and key not in own and not isinstance(value, dict)
    ]  # fmt: skip
    for other in ALGORITHMS if strange else ():
        theirs = _settings(other)
        if key := next((key for key in strange if key in theirs), None):
            raise Mistake(
                f"{key} is a setting of the algorithm {other}, and this one is {algorithm}: leave it out, or choose by"
                f" {FLAG} {other}"
            )


def _settings(algorithm: str) -> Namespace:
    """The keys of everything that can be set of an algorithm."""
    parser = LightningArgumentParser(exit_on_error=False)
    parser.add_lightning_class_args(algorithm_class(algorithm), "model")
    return parser.get_defaults()
