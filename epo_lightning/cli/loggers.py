"""The loggers of a training as its configuration names them, before they are built.

Where they save, what they need, and with which of their runs they go on.
"""

import pkgutil
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from jsonargparse import Namespace
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only

from epo_lightning.cli.trained import Trained
from epo_lightning.documents.plain_yaml import plain
from epo_lightning.limits import Mistake
from epo_lightning.run.folder import RunFolder
from epo_lightning.run.known_run import id_argument, names
from epo_lightning.run.logger_ids import loggers_of
from epo_lightning.run.record import read_record
from epo_lightning.run.secrets import is_secret


class Package(NamedTuple):
    """What a logger needs.

    Attributes:
        modules: One of these is enough.
        pip: What to install.
    """

    modules: tuple[str, ...]
    pip: str


_PACKAGES = {
    "WandbLogger": Package(("wandb",), "'epo-lightning[wandb]'"),
    "TensorBoardLogger": Package(("tensorboard", "tensorboardX"), "'epo-lightning[tensorboard]'"),
    "MLFlowLogger": Package(("mlflow",), "mlflow"),
    "CometLogger": Package(("comet_ml",), "comet-ml"),
    "LitLogger": Package(("litlogger",), "litlogger"),
}
"""By the class of Lightning."""


def prepare_loggers(config: Namespace, folder: RunFolder, trained: Trained) -> None:
    """Loggers save inside the run folder, and go on with their runs where the run folder's run goes on.

    Args:
        config: The parsed configuration; changed in place.
        folder: Of the run.
        trained: The checkpoint from which it goes on.

    Raises:
        Mistake: When a package is missing.
    """
    specs = as_list(config.trainer.logger)
    classes = [pkgutil.resolve_name(spec["class_path"]) for spec in specs]
    for kind in classes:
        _require_package(kind)
    known = _known_ids(folder, trained) if specs else {}
    places: list[tuple[str, str]] = []
    for name, kind, spec in zip(names(classes), classes, specs, strict=True):
        arguments = spec.get("init_args", {})
        if "save_dir" in arguments:
            arguments["save_dir"] = str(folder.path / Path(plain(arguments["save_dir"]) or "").expanduser())
        if issubclass(kind, TensorBoardLogger):
            place = str(arguments.get("save_dir")), str(arguments.get("name"))
            _continue_tensorboard(arguments, places.count(place), trained)
            places.append(place)
        elif name in known and (key := id_argument(kind)) is not None and _has_no_id(arguments, key):
            arguments[key] = known[name]
        if "resume" in arguments and arguments["resume"] is None:
            arguments["resume"] = "allow"  # W&B: without it, the same id begins the run anew


def without_secrets(config: Namespace) -> Namespace:
    """A copy of a configuration for the run's files, which are shown to others: keys and passwords are left out."""
    kept = config.clone()
    hidden = []
    for name in ("logger", "callbacks"):
        for spec in as_list(kept.trainer.get(name)):
            for arguments in (spec.get("init_args"), spec.get("dict_kwargs")):
                for key in [key for key, value in _items(arguments) if is_secret(key, value)]:
                    arguments[key] = None
                    hidden.append(f"trainer.{name} {key}")
    if hidden and rank_zero_only.rank == 0:  # type: ignore[attr-defined]
        print(
            f"notice: {', '.join(hidden)}: not kept in the run's files; give it again when the run goes on, or set it"
            " where its service looks for it (an environment variable, a login)",
            file=sys.stderr,
        )
    return kept


def _items(arguments: Any) -> list[tuple[str, Any]]:
    if isinstance(arguments, Namespace):
        arguments = vars(arguments)
    return list(arguments.items()) if isinstance(arguments, dict) else []


def as_list(loggers: Any) -> list[Any]:
    """The loggers besides `metrics.csv`.

    Raises:
        Mistake: When none is named.
    """
    if loggers is True:
        raise Mistake("trainer.logger: name loggers by class_path; metrics.csv is always written")
    return loggers if isinstance(loggers, list) else [loggers] if loggers else []


def _has_no_id(arguments: Any, key: str) -> bool:
    """Whether the configuration leaves it to us under which id a run is known."""
    return arguments.get(key) is None and arguments.get("version") is None


def _require_package(kind: type) -> None:
    """Refuse a logger whose package is not there, by one line that says how to get it."""
    for base in kind.__mro__:
        needed = (
            _PACKAGES.get(base.__name__) if base.__module__.startswith(("lightning.", "pytorch_lightning.")) else None
        )
        if needed is not None and not any(find_spec(module) for module in needed.modules):
            raise Mistake(
                f"trainer.logger {kind.__name__} needs the package {needed.modules[0]}, which is not installed:"
                f" pip install {needed.pip}, or leave the logger out (metrics.csv is always written)"
            )


def _known_ids(folder: RunFolder, trained: Trained) -> dict[str, str]:
    """Under which ids the loggers know the run of this folder; nothing where a run begins, or goes on elsewhere."""
    home = RunFolder.of_checkpoint(Path(trained.path)) if trained.path else None
    saved = trained.history.loggers if folder.same_as(home) else {}
    return {**saved, **loggers_of(read_record(folder.record))}


def _continue_tensorboard(arguments: Any, number: int, trained: Trained) -> None:
    """One folder for all continuations; what was logged after the checkpoint does not count any more."""
    if arguments.get("version") is None:
        arguments["version"] = number
    if "purge_step" in arguments and arguments["purge_step"] is None:
        arguments["purge_step"] = trained.env_steps + 1 if trained.path else 0
