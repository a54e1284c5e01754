"""The configuration in a checkpoint, as data: a mapping of plain values, and never the name of a file.

jsonargparse reads a file wherever a text names one, and a class wherever a name is one. So nothing of a checkpoint
reaches it as it stands: the text is parsed here, checked, and written anew.
"""

from collections.abc import Iterator
from dataclasses import is_dataclass
from typing import Any, get_type_hints

import yaml

from epo_lightning.cli.algorithm import KEY, is_known
from epo_lightning.cli.settings.own_classes import expand
from epo_lightning.documents.plain_yaml import Loader
from epo_lightning.limits import Mistake
from epo_lightning.modules import ALGORITHMS, algorithm_class

SECTIONS = (KEY, "seed_everything", "trainer", "model", "data", "checkpoint")
"""What is taken; everything else belongs to one invocation (`out`, `run_dir`, `ckpt_path`, `config`, ...)."""
MAX_CHARACTERS, MAX_VALUES, MAX_DEPTH = 2**18, 100_000, 32
"""Of a configuration that somebody else wrote: a hundred times what a run of one's own needs."""
_GROUPS = ("trainer", "model", "data", "checkpoint")
_CLASSES = ("trainer.callbacks", "trainer.logger")
_GONE = {"model.loss.entropy_evolves": False}
"""Settings that there are no more, at the value without effect: a checkpoint that has it is what it would be now."""


class _Loader(Loader):
    """Plain values only; no merge keys, which multiply."""

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Refuse `<<`."""
        if any(key.tag == "tag:yaml.org,2002:merge" for key, _ in node.value):
            raise yaml.constructor.ConstructorError(None, None, "it has a merge key", node.start_mark)


def _text(loader: _Loader, node: yaml.ScalarNode) -> str:
    return str(loader.construct_scalar(node))


_Loader.add_constructor("tag:yaml.org,2002:timestamp", _text)


def parse(text: object, *, limited: bool) -> dict[str, Any]:
    """The sections of a configuration.

    Args:
        text: What the checkpoint holds.
        limited: Refuse what is not plain, or larger than a run needs; for what somebody else wrote.

    Raises:
        Mistake: When it is not a mapping in YAML, with a mapping where one must be.
    """
    if not isinstance(text, str):
        raise Mistake(f"its configuration is not a text but {type(text).__name__}")
    if limited and len(text) > MAX_CHARACTERS:
        raise Mistake(f"its configuration has more than {MAX_CHARACTERS} characters")
    try:
        content = yaml.load(text, _Loader)
    except (yaml.YAMLError, ValueError, RecursionError, OverflowError) as error:
        raise Mistake(f"its configuration is not plain YAML ({type(error).__name__})") from None
    if not isinstance(content, dict):
        raise Mistake("its configuration is not a mapping of keys to values")
    config = {name: content[name] for name in SECTIONS if name in content}
    if limited:
        _require_plain(config)
    _upgrade(config)
    config = expand(config)
    _require_mappings(config)
    return config


def at(config: dict[str, Any], key: str) -> object:
    """The value at a dotted `key`; None where there is none."""
    value: object = config
    for name in key.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value


def class_specs(value: object) -> list[Any]:
    """The classes that a key holds: none, one, or a list."""
    return value if isinstance(value, list) else [] if value is None or isinstance(value, bool) else [value]


def _require_plain(config: dict[str, Any]) -> None:
    """Names, numbers, texts, lists and mappings, and not too many; what is shared counts every time."""
    waiting: list[tuple[Any, int]] = [(config, 0)]
    seen = 0
    while waiting:
        value, depth = waiting.pop()
        seen += 1
        if seen > MAX_VALUES or depth > MAX_DEPTH:
            raise Mistake(f"its configuration has more than {MAX_VALUES} values, or more than {MAX_DEPTH} levels")
        if isinstance(value, dict) and not all(isinstance(name, str) for name in value):
            raise Mistake("its configuration has a key that is not a name")
        if value is not None and not isinstance(value, bool | int | float | str | list | dict):
            raise Mistake(f"its configuration holds a value that is not plain ({type(value).__name__})")
        children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        waiting += [(child, depth + 1) for child in children]


def _upgrade(config: dict[str, Any]) -> None:
    """Older versions kept the settings of rollouts under `data`, and had some that have gone since."""
    data, model = config.get("data"), config.get("model") or {}
    if isinstance(data, dict) and isinstance(model, dict) and "rollout" in data:
        rollout = data.pop("rollout")
        config["model"] = {"rollout": rollout, **model}
    for key, idle in _GONE.items():
        group, _, name = key.rpartition(".")
        settings = at(config, group)
        if isinstance(settings, dict) and name in settings and settings[name] == idle:
            del settings[name]


def _require_mappings(config: dict[str, Any]) -> None:
    """Where jsonargparse would read a file if there were its name."""
    for key in (*_GROUPS, *_groups_of_model(config.get(KEY))):
        if at(config, key) is not None and not isinstance(at(config, key), dict):
            raise Mistake(f"its configuration has no keys and values under {key}")
    for key in ("data.env", *_CLASSES):
        value = at(config, key)
        for spec in [value] if key == "data.env" and value is not None else class_specs(value):
            if not (isinstance(spec, dict) and isinstance(spec.get("class_path"), str)):
                raise Mistake(f"its configuration has no class_path under {key}")


def _groups_of_model(algorithm: object) -> Iterator[str]:
    """The keys under `model` that hold several settings; of every algorithm in the table where none is named.

    What is named but not in the table is only used when it is the user's own.
    """
    for name in ALGORITHMS if algorithm is None else [str(algorithm)] if is_known(algorithm) else ():
        yield from _groups_of(algorithm_class(name), "model")


def _groups_of(kind: type, key: str) -> Iterator[str]:
    """The keys of the arguments of a class at `key` that are settings themselves, at any depth."""
    for name, hint in get_type_hints(kind.__init__).items():  # type: ignore[misc]
        if is_dataclass(hint) and isinstance(hint, type):
            yield f"{key}.{name}"
            yield from _groups_of(hint, f"{key}.{name}")
