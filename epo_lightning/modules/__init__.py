"""Lightning: the modules that learn, one file per algorithm, and the datamodule that owns the environments."""

from importlib import import_module
from typing import TYPE_CHECKING

from epo_lightning.limits import Mistake

if TYPE_CHECKING:
    from epo_lightning.modules.base import PopulationModule

ALGORITHMS: dict[str, str] = {
    "epo": "epo_lightning.modules.epo.EPOModule",
    "sac": "epo_lightning.modules.sac.SACModule",
}
"""The class of each algorithm, by the name that `algorithm` has in configurations and checkpoints."""
DEFAULT_ALGORITHM = "epo"


def admit(name: str) -> None:
    """Take an algorithm of the user's own into the table, by its class path.

    It names code that will run: only who has consented to that may call this, and never with what a file of somebody
    else says.
    """
    if "." in name:
        ALGORITHMS.setdefault(name, name)


def algorithm_name(kind: "type[PopulationModule]") -> str:
    """What configurations and checkpoints call an algorithm: its name in the table, else its class path."""
    path = f"{kind.__module__}.{kind.__qualname__}"
    return next((name for name, known in ALGORITHMS.items() if known == path), path)


def algorithm_class(name: str) -> "type[PopulationModule]":
    """The module of an algorithm.

    Raises:
        Mistake: When there is none of that name.
    """
    from epo_lightning.modules.base import PopulationModule  # which is heavy

    if name not in ALGORITHMS:
        raise Mistake(f"algorithm must be one of {', '.join(ALGORITHMS)}, or a class path; got {name!r}")
    module, _, kind = ALGORITHMS[name].rpartition(".")
    try:
        found = getattr(import_module(module), kind, None)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise  # a bug in there
        found = None
    if not (isinstance(found, type) and issubclass(found, PopulationModule)):
        raise Mistake(
            f"algorithm: {name} is not the class path of a PopulationModule; it is module.Class, and the module must be"
            " importable from here"
        )
    return found
