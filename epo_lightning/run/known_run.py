"""What every logger is told of a run before its first metric, and how a logger finds the run again.

TensorBoard gets flat keys as hyperparameters, every other logger a mapping by `log_hyperparams`. The keys are those of
the command line: `model.loss.clip_eps`, `trainer.callbacks.GeneticEvolution.num_elites`.
"""

import inspect
import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from lightning.pytorch.core.saving import save_hparams_to_yaml
from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger

from epo_lightning.limits import Mistake
from epo_lightning.run.logger_ids import is_id

_SCORES = ("charts/episodic_return", "charts/episodic_successes")
"""What TensorBoard shows beside the hyperparameters."""
_ID_ARGUMENTS = ("run_id", "experiment_key", "id")
"""Arguments by which loggers of services (MLflow, Comet, W&B) go on with a run that they know."""


def settings_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration with the keys of the command line: classes by name instead of lists, without `init_args`.

    Of the loggers only what was set: they have dozens of arguments, none of which a run depends on.
    """
    settings = {name: _setting(value) for name, value in config.items()}
    if isinstance(loggers := settings.get("trainer", {}).get("logger"), dict):
        settings["trainer"]["logger"] = _without_none(loggers)
    return settings


def flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, bool | int | float | str]]:
    """Dotted keys and plain values; what is neither a number nor a text is told as JSON."""
    for name, value in settings.items():
        if isinstance(value, Mapping) and value:
            yield from flat(value, f"{prefix}{name}.")
        else:
            plain = isinstance(value, bool | int | float | str)
            yield f"{prefix}{name}", value if plain else json.dumps(value, default=str)


def begin(loggers: Sequence[Logger]) -> None:
    """Let each logger open what it writes to, before Lightning does.

    Raises:
        Mistake: When one cannot: no account, no network, no server.
    """
    for logger in loggers:
        try:
            _ = getattr(logger, "experiment", None)
        except Exception as error:  # services raise whatever they like
            raise Mistake(f"trainer.logger {type(logger).__name__} cannot begin: {_one_line(error)}") from error


def introduce(loggers: Sequence[Logger], settings: Mapping[str, Any]) -> None:
    """Tell each logger what the run is.

    Args:
        loggers: Of the first rank.
        settings: Nested; plain values without secrets.
    """
    for logger in loggers:
        name = type(logger).__name__
        try:
            if not (isinstance(logger, TensorBoardLogger) and _introduce_to_tensorboard(logger, settings)):
                logger.log_hyperparams({**settings})
        except Exception as error:  # MLflow, for example, refuses another value than the one it knows
            print(f"notice: trainer.logger {name} did not take the configuration: {_one_line(error)}", file=sys.stderr)


def dismiss(loggers: Sequence[Logger], code: int) -> None:
    """End what a service takes for running: the next run of this process is another one.

    Args:
        loggers: Of the first rank.
        code: The exit code of the run.
    """
    for logger in loggers:
        if isinstance(logger, WandbLogger) and logger._experiment is not None:
            try:
                logger.experiment.finish(exit_code=code)
            except Exception as error:  # the training has ended, whatever the service says
                print(f"notice: trainer.logger WandbLogger did not end: {_one_line(error)}", file=sys.stderr)


def names(classes: Iterable[type]) -> list[str]:
    """What each logger is called: by its class, numbered where there are several of one."""
    found: list[str] = []
    seen: list[str] = []
    for kind in classes:
        seen.append(kind.__name__)
        count = seen.count(kind.__name__)
        found.append(f"{kind.__name__}#{count}" if count > 1 else kind.__name__)
    return found


def id_argument(kind: type) -> str | None:
    """The constructor's argument by which a logger of this class goes on with a run; None where it has none."""
    parameters = inspect.signature(kind).parameters
    return next((name for name in _ID_ARGUMENTS if name in parameters), None)


def ids(loggers: Sequence[Logger]) -> dict[str, str]:
    """Under which id each logger knows the run, of those that can go on with one."""
    called = zip(names(map(type, loggers)), loggers, strict=True)
    found = {name: logger.version for name, logger in called if id_argument(type(logger))}
    return {name: str(value) for name, value in found.items() if is_id(value)}


def _introduce_to_tensorboard(logger: TensorBoardLogger, settings: Mapping[str, Any]) -> bool:
    """As hyperparameters beside the two scores; no value is made up. False where only tensorboardX is there."""
    try:
        from torch.utils.tensorboard.summary import hparams
    except ImportError:
        return False
    logger.hparams.update(settings)
    # Lightning has written it by now, without anything in it
    save_hparams_to_yaml(os.path.join(logger.log_dir, logger.NAME_HPARAMS_FILE), logger.hparams)
    writer = logger.experiment._get_file_writer()
    for summary in hparams(dict(flat(settings)), dict.fromkeys(_SCORES, 0.0)):
        writer.add_summary(summary)
    return True


def _setting(value: Any) -> Any:  # noqa: ANN401  (whatever YAML holds)
    """Classes as `{class_path, **init_args}`; a list of them by their names."""
    if isinstance(value, Mapping):
        if "class_path" in value:
            arguments = value.get("init_args") or {}
            rest = {name: item for name, item in value.items() if name != "init_args"}
            return {name: _setting(item) for name, item in {**rest, **arguments}.items()}
        return {name: _setting(item) for name, item in value.items()}
    if isinstance(value, list) and value and all(map(_is_class, value)):
        classes = [str(each["class_path"]).rpartition(".")[2] for each in value]
        numbers = [classes[: place + 1].count(name) for place, name in enumerate(classes)]
        return {
            name if number == 1 else f"{name}#{number}": _setting(each)
            for name, number, each in zip(classes, numbers, value, strict=True)
        }
    return value


def _without_none(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: _without_none(value) if isinstance(value, Mapping) else value
        for name, value in settings.items()
        if value is not None
    }


def _is_class(value: object) -> bool:
    return isinstance(value, Mapping) and "class_path" in value


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
