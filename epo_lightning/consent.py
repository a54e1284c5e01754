"""Whose configuration a checkpoint may bring: what of it needs the user's consent, and whether the user has given it.

Somebody else's checkpoint names this package's own classes and plain values, or it is refused by one line. Consent is
that the user's own `fit` wrote it (`signature`), that the same command line gives these keys itself, or `--trust`.
"""

import os
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from lightning.pytorch.utilities import rank_zero_only

from epo_lightning import embedded_config
from epo_lightning.arguments import option_values
from epo_lightning.checkpoint import CONFIG_KEY, SIGNATURE_KEY
from epo_lightning.embedded_config import at, class_specs
from epo_lightning.envs.allegro_kuka.objects import OBJECT_SETS
from epo_lightning.run_folder import RunFolder
from epo_lightning.signature import is_signed, sign

TRUST = "--trust"

_GYMNASIUM = "epo_lightning.envs.gymnasium.GymnasiumEnv"
_WORKER = "epo_lightning.envs.worker.WorkerEnv"
_OWN = {
    "data.env": {
        "epo_lightning.envs.classic.MountainCar": {},
        "epo_lightning.envs.classic.Pendulum": {},
        "epo_lightning.envs.classic.Probe": {"ending": r"terminated|truncated"},
        "epo_lightning.envs.classic.WallMaze": {},
        "epo_lightning.envs.allegro_kuka.AllegroKuka": {
            "task": r"\w+",
            "objects": "|".join(OBJECT_SETS),
            "gains": r"\w+",
            "physics": r"\w+",
        },
        _GYMNASIUM: {"id": r"[\w-]+", "vectorization": r"sync|own"},
    },
    "trainer.callbacks": {
        "epo_lightning.callbacks.ElitePreservation": {},
        "epo_lightning.callbacks.GeneticEvolution": {"crossover": r"\w+"},
        "epo_lightning.callbacks.NaNGuard": {},
        "epo_lightning.callbacks.NetworkScaleProfiler": {},
        "epo_lightning.callbacks.VideoRecorder": {},
    },
}
"""The classes that anybody's checkpoint may name, and which of their arguments may be texts, of which form.

`WorkerEnv` is none of them: it starts whatever interpreter and factory it is given. An id of Gymnasium with a colon
imports the module before it, and `async` starts a process for each environment.
"""
_TEXTS = {
    "model.network.activation": r"\w+",
    "model.loss.off_policy_clip": r"\w+",
    "data.rollout.estimator": r"\w+",
    "data.rollout.off_policy_source": r"\w+",
    "trainer.accelerator": r"auto|cpu|gpu|cuda|mps|tpu",
    "trainer.strategy": r"auto|ddp|ddp_find_unused_parameters_(true|false)",
    "trainer.devices": r"auto|-1|[1-5]?\d",
    "trainer.precision": r"(bf)?16(-mixed|-true)?|(32|64)(-true)?",
    "trainer.max_time": r"\d+(:\d\d){3}",
    "trainer.deterministic": r"warn",
    "trainer.profiler": r"simple|advanced",
}
"""Every other text that may stand in a configuration."""
_NUMBERS = ("devices", "num_nodes", "precision", "max_epochs", "max_time", "enable_progress_bar", "deterministic",
            "benchmark", "detect_anomaly", "logger")  # fmt: skip
"""Of the trainer, what may be a number or a truth value."""
_MOST = {"trainer.num_nodes": 1, "trainer.devices": 64, "data.env.threads": 256}
"""How many processes or threads anybody's checkpoint may ask for."""
_NAME = re.compile(r"[A-Za-z]\w*")
_SHOWN = 60


class Finding(NamedTuple):
    """Something in a configuration that needs consent.

    Attributes:
        key: The key at which the user would have to give it, such as `data.env`.
        what: What would happen, in words.
    """

    key: str
    what: str


def consented_config(checkpoint: Mapping[str, Any], path: Path, args: list[str]) -> dict[str, Any]:
    """The configuration of a checkpoint, when the user has consented to it.

    Args:
        checkpoint: See `checkpoint.read_checkpoint`.
        path: Its file.
        args: Command line after `arguments.resolve`.

    Raises:
        ValueError: When it is not a configuration, or names what nobody has consented to. Nothing of that is imported,
            started or read.
    """
    text = checkpoint[CONFIG_KEY]
    own, trusted = isinstance(text, str) and is_signed(text, checkpoint.get(SIGNATURE_KEY)), TRUST in args
    try:
        config = embedded_config.parse(text, limited=not (own or trusted))
    except ValueError as error:
        raise ValueError(f"ckpt_path: {path} cannot be used: {error}") from None
    if not own and not trusted:
        _leave_to_the_user(config, path, args)
        if (link := _way_out(path)) is not None:
            raise ValueError(
                f"ckpt_path: {path} is none of your own runs, and {link} is a link to {shown(os.readlink(link))}, where"
                f" this command would write: remove it, or add {TRUST} if you trust who made that folder"
            )
    if not own:
        _keep_inside(config)
    return config


def signature_of(config: str) -> str | None:
    """The mark for a checkpoint with the configuration `config`; None, and one notice if it matters, without a key."""
    try:
        return sign(config)
    except OSError as error:
        needs = findings(embedded_config.parse(config, limited=False))
        if needs:
            _tell(
                f"these checkpoints cannot be marked as yours ({error.filename or 'key'}: {error.strerror or error}):"
                f" to use them, add {TRUST}, or give {_keys(needs)} again"
            )
        return None


def findings(config: Mapping[str, Any]) -> list[Finding]:
    """Everything in `config` (see `embedded_config.parse`) that needs consent."""
    found: list[Finding] = []
    for name, value in (config.get("trainer") or {}).items():
        key = f"trainer.{name}"
        if key in _OWN:
            found += [each._replace(key=key) for spec in class_specs(value) for each in _of_class(spec, key)]
        elif specs := [spec for spec in class_specs(value) if isinstance(spec, dict) and "class_path" in spec]:
            found += [Finding(key, f"import {_imports(spec)}") for spec in specs]
        elif not _is_plain_setting(name, value):
            found.append(Finding(key, f"set {key} to {shown(value)}"))
    data = dict(config.get("data") or {})
    found += _of_class(data.pop("env", None), "data.env")
    for section, values in (("model", config.get("model")), ("data", data), ("checkpoint", config.get("checkpoint"))):
        found += _texts(values, section)
    found += _texts(config.get("seed_everything"), "seed_everything")
    return found


def shown(value: object) -> str:
    """A value of a stranger's file for a message: short, and without anything that a terminal would obey."""
    text = value if isinstance(value, str) and re.fullmatch(r"[\w.:/~ -]+", value, re.ASCII) else ascii(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


# What needs consent -------------------------------------------------------------------------------------------------


def _of_class(spec: Any, key: str) -> list[Finding]:
    """What a class at `key` needs: nothing when it is one of ours with plain arguments."""
    if spec is None:
        return []
    class_path, arguments = spec["class_path"], spec.get("init_args") or {}
    if class_path == _WORKER and isinstance(arguments, dict):
        started = f"start {shown(arguments.get('python'))} with the factory {shown(arguments.get('factory'))}"
        return [Finding(key, started)]
    if class_path not in _OWN[key] or not set(spec) <= {"class_path", "init_args"} or not isinstance(arguments, dict):
        return [Finding(key, f"import {_imports(spec)}")]
    forms = {f"{key}.{name}": form for name, form in _OWN[key][class_path].items()}
    return list(_texts(arguments, key, forms))


def _texts(value: Any, key: str, forms: Mapping[str, str] = _TEXTS) -> Iterator[Finding]:
    """Texts, names and numbers under `key` that are none of `forms`."""
    if isinstance(value, dict):
        for name, item in value.items():
            if not _NAME.fullmatch(name) or name in ("class_path", "init_args", "dict_kwargs"):
                what = f"import {_imports(value)}" if "class_path" in value else f"set {shown(f'{key}.{name}')}"
                yield Finding(key, what)
            else:
                yield from _texts(item, f"{key}.{name}", forms)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item, key, {})
    elif isinstance(value, str):
        if not re.fullmatch(forms.get(key, r"(?!)"), value, re.ASCII):
            yield Finding(key, f"set {key} to {shown(value)}")
    elif isinstance(value, int) and not -(2**63) <= value <= _MOST.get(key, 2**63 - 1):
        yield Finding(key, f"set {key} to {shown(value)}")


def _is_plain_setting(name: str, value: Any) -> bool:
    """Whether the trainer may be given `value` from anybody."""
    key = f"trainer.{name}"
    if isinstance(value, list) and len(value) > _MOST.get(key, 0):
        return False
    return value is None or ((isinstance(value, str) or name in _NUMBERS) and not list(_texts(value, key)))


def _imports(spec: Mapping[str, Any]) -> str:
    """The class paths in `spec`, at any depth."""
    return ", ".join(dict.fromkeys(shown(path) for path in _class_paths(spec)))


def _class_paths(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        if "class_path" in value:
            yield value["class_path"]
        for item in value.values():
            yield from _class_paths(item)
    elif isinstance(value, list):
        for item in value:
            yield from _class_paths(item)


# Consent ------------------------------------------------------------------------------------------------------------


def _leave_to_the_user(config: dict[str, Any], path: Path, args: list[str]) -> None:
    """Take out of `config` what needs consent and is given by the user's own command line.

    Raises:
        ValueError: When it is not.
    """
    needs, given = findings(config), given_settings(args)
    missing = [each for each in needs if not _gives(given, each.key)]
    if missing:
        what = ", ".join(dict.fromkeys(each.what for each in missing[:5])) + (", ..." if len(missing) > 5 else "")
        raise ValueError(
            f"ckpt_path: {path} is none of your own runs, and its configuration would {what}: add {TRUST} if you trust"
            f" who made it, or give {_keys(missing)} yourself"
        )
    for key in dict.fromkeys(each.key for each in needs):
        _drop(config, key)
    if needs:
        _tell(f"{_keys(needs)}: as your command line has it, nothing of it from the checkpoint")


def given_settings(args: list[str]) -> dict[str, Any]:
    """What a command line gives itself, by configuration files and flags: dotted keys without `init_args`, and values.

    What cannot be read is left out: the parser will say what is wrong with it.
    """
    given: dict[str, Any] = {}
    for _, name in option_values(args, "--config", "-c"):
        try:
            given |= _flat(yaml.safe_load(Path(name).read_text()))
        except (OSError, ValueError, yaml.YAMLError):
            continue
    for index, arg in enumerate(args):
        name, equals, value = arg.partition("=")
        if name.startswith("--") and name not in ("--config", TRUST):
            value = value if equals else args[index + 1] if index + 1 < len(args) else ""
            try:
                parsed = yaml.safe_load(value)
            except (ValueError, yaml.YAMLError):
                parsed = value
            key = _without_init_args(name.removeprefix("--"))
            given |= {key: parsed} | _flat(parsed, f"{key}.")
    return given


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """Every key in nested mappings, with its value."""
    found: dict[str, Any] = {}
    for name, item in value.items() if isinstance(value, dict) else ():
        found[_without_init_args(f"{prefix}{name}")] = item
        found |= _flat(item, f"{prefix}{name}.")
    return found


def _without_init_args(key: str) -> str:
    return key.replace(".init_args", "")


def _gives(given: Mapping[str, Any], key: str) -> bool:
    """Whether the value at `key`, or the class whose argument it is, is the user's; a part of it is not enough."""
    names = key.split(".")
    above = [".".join(names[:end]) for end in range(2, len(names) + 1)]
    return any(f"{each}.class_path" in given or (each in given and not isinstance(given[each], dict)) for each in above)


def _drop(config: dict[str, Any], key: str) -> None:
    """Take `key` out."""
    *groups, last = key.split(".")
    value: Any = config
    for name in (*groups, last):
        if name not in value and "init_args" in value:
            value = value["init_args"]
        if name == last and value.pop(last, None) is not None:
            return
        value = value.get(name, {})


def _keys(needs: list[Finding]) -> str:
    return ", ".join(dict.fromkeys(each.key for each in needs[:5]))


# Where it would write -----------------------------------------------------------------------------------------------


def _way_out(checkpoint: Path) -> Path | None:
    """A link by which a stranger's run folder leads out of itself, where this package would write."""
    home = RunFolder.of_checkpoint(checkpoint)
    root = home.path if home else checkpoint.parent
    for each in root.rglob("*") if home else root.glob(f"{checkpoint.stem}.*"):
        is_replaced = each.suffix == ".ckpt"  # and not written to
        if each.is_symlink() and not is_replaced and not _is_inside(each, root):
            return each
    return None


def _keep_inside(config: dict[str, Any]) -> None:
    """Where loggers and callbacks save is for this invocation to say, unless it is inside the run folder."""
    for name in ("logger", "callbacks", "profiler"):
        for spec in class_specs(at(config, f"trainer.{name}")):
            arguments: Any = spec.get("init_args") if isinstance(spec, dict) else None
            for argument, value in list(arguments.items()) if isinstance(arguments, dict) else ():
                if isinstance(value, str) and _points_outside(value):
                    del arguments[argument]
                    if argument == "save_dir":
                        arguments[argument] = "."
                    _tell(f"trainer.{name}: {shown(argument)} {shown(value)} of the checkpoint is not used")


def _is_inside(link: Path, root: Path) -> bool:
    try:
        return link.resolve().is_relative_to(root.resolve())
    except (OSError, RuntimeError):  # a link to itself
        return False


def _points_outside(path: str) -> bool:
    return os.path.isabs(path) or path.startswith("~") or ".." in Path(path).parts


def _tell(notice: str) -> None:
    if rank_zero_only.rank == 0:  # type: ignore[attr-defined]
        print(f"notice: {notice}", file=sys.stderr)
