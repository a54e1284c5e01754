"""What every trainer of the command line has, in addition to what its configuration says."""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from jsonargparse import Namespace
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.strategies import DDPStrategy, StrategyRegistry

from epo_lightning.cli.settings.plain_yaml import plain
from epo_lightning.limits import Mistake
from epo_lightning.run.checkpoint import AtomicCheckpointIO
from epo_lightning.run.folder import RunFolder
from epo_lightning.run.metrics_table import MetricsTable


def put_loggers_into(folder: RunFolder, config: Namespace) -> None:
    """Loggers that save somewhere do so inside the run folder.

    Args:
        folder: Of the run.
        config: The parsed configuration; changed in place.
    """
    for logger in _as_list(config.trainer.logger):
        if "save_dir" in logger.get("init_args", {}):
            logger.init_args.save_dir = str(folder.path / (plain(logger.init_args.save_dir) or ""))


def fixed_arguments(config: Mapping[str, Any], folder: RunFolder | None, *, in_one_process: bool) -> dict[str, Any]:
    """Arguments of the Trainer that are not left to the configuration.

    Args:
        config: The trainer's part of it, built.
        folder: Where a training writes; None when nothing is trained.
        in_one_process: Whatever the configuration says of devices.
    """
    _keep_buffers_of_ranks()
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
        fixed["logger"] = [MetricsTable(folder.metrics), *_as_list(config["logger"])]
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
    except MisconfigurationException as error:
        found = "profiler" if "`profiler`" in str(error) else name
        if found is None:
            raise
        raise Mistake(f"trainer.{found}: {error}") from error
    except ValueError as error:  # e.g. an unknown strategy
        raise Mistake(f"trainer: {error}") from error
    except RuntimeError as error:
        if "more than one stateful callback" not in str(error):
            raise
        raise Mistake(
            "trainer.callbacks: two are of one class, and a checkpoint has room for the state of one; `callbacks+`"
            " in a file adds to those of the files and the checkpoint before it"
        ) from error


def _keep_buffers_of_ranks() -> None:
    """Strategies by name do not send buffers before every minibatch: here they are equal on all ranks anyhow."""
    for entry in StrategyRegistry.values():
        if entry["strategy"] is DDPStrategy:
            entry["init_params"].setdefault("broadcast_buffers", False)


def _as_list(loggers: Any) -> list[Any]:
    """The loggers besides `metrics.csv`."""
    if loggers is True:
        raise Mistake("trainer.logger: name loggers by class_path; metrics.csv is always written")
    return loggers if isinstance(loggers, list) else [loggers] if loggers else []
