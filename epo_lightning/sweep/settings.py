"""Settings by name in a whole configuration, those of callbacks and loggers by their class."""

from collections.abc import Mapping
from typing import Any

from epo_lightning.documents.keys import Settings
from epo_lightning.limits import Mistake

_LISTS = ("callbacks", "logger")


def split(settings: Settings) -> tuple[Settings, Settings]:
    """What an overlay can say, and what it cannot: settings of a callback that is there already.

    Args:
        settings: Nested, and perhaps with `trainer.callbacks.GeneticEvolution.num_elites`.

    Returns:
        The settings without those, and those by their names with dots.
    """
    trainer = settings.get("trainer")
    if not isinstance(trainer, dict):
        return settings, {}
    inside: Settings = {}
    for key in _LISTS:
        given = trainer.get(key)
        if isinstance(given, dict) and "class_path" not in given:
            inside |= {f"trainer.{key}.{name}": value for name, value in flat(given).items()}
    rest = {
        key: value for key, value in trainer.items() if not any(name.startswith(f"trainer.{key}.") for name in inside)
    }
    whole = {**settings, "trainer": rest}
    return {key: value for key, value in whole.items() if key != "trainer" or rest}, inside


def flat(settings: Mapping[str, Any]) -> Settings:
    """Nested settings by their names with dots."""
    found: Settings = {}
    for key, value in settings.items():
        if isinstance(value, dict) and value:
            found |= {f"{key}.{name}": inner for name, inner in flat(value).items()}
        else:
            found[key] = value
    return found


def assign(config: Settings, key: str, value: object) -> None:
    """Set what `key` names.

    Args:
        config: A whole configuration; changed in place.
        key: With dots; the parts behind a list of objects are a class and one of its arguments.
        value: What it becomes.

    Raises:
        Mistake: When a list has no object of that class.
    """
    *above, last = key.split(".")
    place: Any = config
    for depth, name in enumerate(above):
        if isinstance(place, list):
            place = _member(place, name, ".".join(above[:depth]))
        else:
            if not isinstance(place.get(name), dict | list):
                place[name] = [] if depth == 1 and above[0] == "trainer" and name in _LISTS else {}
            place = place[name]
    if isinstance(place, list):
        raise Mistake(f"{key} needs the name of an argument behind the class")
    place[last] = value


def _member(objects: list[Any], name: str, where: str) -> Settings:
    """The arguments of the object whose class is called `name`."""
    classes = [str(each["class_path"]).rpartition(".")[2] for each in objects]
    if name not in classes:
        raise Mistake(f"{where}.{name}: there is none in this configuration, which has {', '.join(classes) or 'none'}")
    arguments: Settings = objects[classes.index(name)].setdefault("init_args", {})
    return arguments
