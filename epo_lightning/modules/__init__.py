"""Lightning: the modules that learn, one file per algorithm, and the datamodule that owns the environments."""

from importlib import import_module
from typing import TYPE_CHECKING

from epo_lightning.limits import Mistake
from epo_lightning.modules.algorithm_table import ALGORITHMS, DEFAULT_ALGORITHM, admit, algorithm_name

if TYPE_CHECKING:
    from epo_lightning.modules.base import PopulationModule

__all__ = ["ALGORITHMS", "DEFAULT_ALGORITHM", "admit", "algorithm_class", "algorithm_name"]


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
