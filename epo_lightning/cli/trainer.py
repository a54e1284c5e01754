"""What every trainer of the command line has, in addition to what its configuration says."""

import contextlib
import sys
from collections.abc import Iterator, Mapping
from enum import Enum
from pathlib import Path
from types import TracebackType
from typing import Any

from jsonargparse import Namespace
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.strategies import DDPStrategy, StrategyRegistry
from lightning.pytorch.utilities import rank_zero_warn

from epo_lightning.cli.doctor.cards import unused_card, why_unusable
from epo_lightning.cli.doctor.finding import find_gpus
from epo_lightning.cli.loggers import as_list
from epo_lightning.documents.plain_yaml import plain
from epo_lightning.limits import Mistake
from epo_lightning.run.checkpoint import AtomicCheckpointIO
from epo_lightning.run.folder import RunFolder
from epo_lightning.run.metrics_table import MetricsTable

_MODEL_CHECKPOINTS = "model_checkpoints"
"""Where Lightning's `ModelCheckpoint` saves, so that it does not meet our own files."""


def put_into(folder: RunFolder, config: Namespace) -> None:
    """What callbacks and the profiler save goes into the run folder, where they name no absolute one.

    Args:
        folder: Of the run.
        config: The parsed configuration; changed in place.
    """
    trainer = config.trainer
    for callback in as_list(trainer.callbacks):
        _put(folder, callback, "dirpath", _MODEL_CHECKPOINTS)
    if isinstance(trainer.profiler, Namespace):
        _put(folder, trainer.profiler, "dirpath", "")


def _put(folder: RunFolder, saver: Namespace, key: str, default: str) -> None:
    arguments = saver.get("init_args", {})
    if key in arguments:
        arguments[key] = str(folder.path / Path(plain(arguments[key]) or default).expanduser())


def name_members(config: Any) -> None:
    """Put the text of what YAML has no word for in its place: members of enumerations, as defaults of Lightning's are.

    Args:
        config: A parsed configuration, or a part of it; changed in place.
    """
    parts: list[tuple[Any, Any]] = []
    match config:
        case Namespace():
            parts = list(vars(config).items())
        case dict():
            parts = list(config.items())
        case list():
            parts = list(enumerate(config))
    for key, value in parts:
        if isinstance(value, Enum) and isinstance(value, str):
            config[key] = value.value
        else:
            name_members(value)


def fixed_arguments(config: Mapping[str, Any], folder: RunFolder | None, *, in_one_process: bool) -> dict[str, Any]:
    """Arguments of the Trainer that are not left to the configuration.

    Args:
        config: The trainer's part of it, built.
        folder: Where a training writes; None when nothing is trained.
        in_one_process: Whatever the configuration says of devices.
    """
    _keep_buffers_of_ranks()
    if folder is not None and (line := unused_card(config["accelerator"])):
        rank_zero_warn(line)
    if config["profiler"] == "xla":
        raise Mistake("trainer.profiler xla is for a TPU, which cannot train here; use simple, advanced or pytorch")
    fixed: dict[str, Any] = {
        "max_time": None,
        "logger": False,
        "plugins": [AtomicCheckpointIO()],
        "num_sanity_val_steps": 0,
        "enable_model_summary": False,
        "use_distributed_sampler": False,
        "inference_mode": False,
    }
    if folder is not None:
        fixed["default_root_dir"] = str(folder.path)
        fixed["logger"] = [MetricsTable(folder.metrics), *as_list(config["logger"])]
        fixed["limit_val_batches"] = 0  # evaluation is a command of its own
    if in_one_process:
        fixed |= {"devices": 1, "num_nodes": 1, "strategy": "auto"}
    return fixed


@contextlib.contextmanager
def naming_the_key(name: str | None = None) -> Iterator[None]:
    """Turn what Lightning says of a user's mistake into one line that names the key.

    Args:
        name: Of the trainer's argument in question, where that is known.

    Raises:
        Mistake: Instead of Lightning's errors.
    """
    try:
        yield
    except RuntimeError as error:
        if "more than one stateful callback" not in str(error):
            raise
        raise Mistake(
            "trainer.callbacks: two are of one class, and a checkpoint has room for the state of one; `callbacks+`"
            " in a file adds to those of the files and the checkpoint before it"
        ) from error
    except (ValueError, TypeError, ImportError, MisconfigurationException) as error:
        if isinstance(error, Mistake) or not _is_lightnings(error):
            raise
        if "gpu" in str(error).lower():
            remedy = why_unusable(find_gpus()) or "use --trainer.accelerator cpu where there is none"
            raise Mistake(f"trainer.accelerator: {error} ({remedy})") from error
        key = "profiler" if "`profiler`" in str(error) else name
        raise Mistake(f"trainer{f'.{key}' if key else ''}: {error}") from error  # e.g. devices that are not there


@contextlib.contextmanager
def naming_the_callback() -> Iterator[None]:
    """Turn what one of Lightning's own callbacks raises into one line that names it.

    Raises:
        Mistake: Instead of it.
    """
    try:
        yield
    except Exception as error:
        name = None if isinstance(error, Mistake | OSError) else _callback_that_raised(error)
        if name is None:
            raise
        what = f"{type(error).__name__} {error}" if isinstance(error, KeyError) else error
        raise Mistake(f"trainer.callbacks {name}: {what}") from error


def _modules(error: BaseException) -> list[tuple[str, object]]:
    """The package of each frame that it passed through, and whose method that was; the one that raised comes last."""
    found: list[tuple[str, object]] = []
    trace: TracebackType | None = error.__traceback__
    while trace is not None:
        frame = trace.tb_frame
        found.append((frame.f_globals.get("__name__", ""), frame.f_locals.get("self")))
        trace = trace.tb_next
    return found


def _is_lightnings(error: BaseException) -> bool:
    """Whether Lightning itself raised it, and not somebody's class that it built."""
    return _modules(error)[-1][0].partition(".")[0] in ("lightning", "importlib")


def _callback_that_raised(error: BaseException) -> str | None:
    """The class of Lightning's callback in which it arose; None where code of ours or of the user was to blame."""
    for module, owner in reversed(_modules(error)):
        kind = type(owner)
        if isinstance(owner, Callback) and kind.__module__.startswith("lightning."):
            return kind.__name__
        package = module.partition(".")[0]
        if package not in ("lightning", "torch") and package not in sys.stdlib_module_names:
            return None
    return None


def _keep_buffers_of_ranks() -> None:
    """Strategies by name do not send buffers before every minibatch: here they are equal on all ranks anyhow."""
    for entry in StrategyRegistry.values():
        if entry["strategy"] is DDPStrategy:
            entry["init_params"].setdefault("broadcast_buffers", False)
