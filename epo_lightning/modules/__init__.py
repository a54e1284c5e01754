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


def algorithm_class(name: str) -> "type[PopulationModule]":
    """The module of an algorithm.

    Raises:
        Mistake: When there is none of that name.
    """
    if name not in ALGORITHMS:
        raise Mistake(f"algorithm must be one of {', '.join(ALGORITHMS)}; got {name!r}")
    module, _, kind = ALGORITHMS[name].rpartition(".")
    found: type[PopulationModule] = getattr(import_module(module), kind)
    return found
