"""Evolutionary Policy Optimization on PyTorch Lightning.

`train`, `Policy` and `Run` are the front door for Python (docs/library.md); they are imported when they are used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from epo_lightning.library.policy import Policy, load_policy
    from epo_lightning.library.run import Run
    from epo_lightning.library.train import train
    from epo_lightning.limits import Mistake

__all__ = ["Mistake", "Policy", "Run", "__version__", "load_policy", "train"]
__version__ = "0.1.0"

_HOMES = {
    "Mistake": "epo_lightning.limits",
    "Policy": "epo_lightning.library.policy",
    "Run": "epo_lightning.library.run",
    "load_policy": "epo_lightning.library.policy",
    "train": "epo_lightning.library.train",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401  (a function or a class)
    """Import the front door when someone stands before it (PEP 562): `--help` and `report` need no torch."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
