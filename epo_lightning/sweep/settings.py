"""One setting by name in a whole configuration, those of callbacks and loggers by their class."""

from typing import Any

from epo_lightning.documents.keys import Settings
from epo_lightning.limits import Mistake

_LISTS = ("callbacks", "logger")


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
