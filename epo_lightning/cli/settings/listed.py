"""Settings that are a list of objects: one of them is named by its class, and any of its arguments can be set.

`trainer.callbacks.GeneticEvolution.num_elites` is an argument of the callback of that class, whatever else is listed.
"""

import copy
from collections.abc import Mapping
from typing import Any

from epo_lightning.sweep.settings import assign

LISTS = ("trainer.callbacks", "trainer.logger")


class Listed:
    """What each list holds so far, as files and flags are read one after the other."""

    def __init__(self) -> None:
        self._objects: dict[str, list[Any]] = {}
        self._whole: list[str] = []

    def key_of(self, flag: str) -> str | None:
        """The list that holds what `flag` sets, where that is an argument of one of its objects."""
        for key in LISTS:
            inside = flag.removeprefix(f"{key}.")
            if inside != flag and inside[:1].isupper():
                return key
        return None

    def names_members(self, key: str, value: object) -> bool:
        """Whether a file gives arguments of single objects instead of the list `key`."""
        return (
            key in LISTS
            and isinstance(value, Mapping)
            and bool(value)
            and all(str(each)[:1].isupper() for each in value)
        )

    def note(self, key: str, value: object) -> None:
        """`key` is `value` now; with `+` behind it that was added."""
        whole = key.removesuffix("+")
        if whole not in LISTS:
            return
        if key == whole and isinstance(value, list):
            self._whole.append(key)
        given = value if isinstance(value, list) else [value]
        objects = [{"class_path": each} if isinstance(each, str) else each for each in given]
        before = self._objects.get(whole, []) if key != whole else []
        self._objects[whole] = [*before, *(each for each in objects if isinstance(each, Mapping))]

    def given_whole(self) -> list[str]:
        """The lists that were given whole since this was last asked.

        jsonargparse lets an object of a new list keep arguments of the old list's object where both lists are of one
        length and both objects of one class; so the old list has to be emptied first.
        """
        whole, self._whole = self._whole, []
        return whole

    def note_argument(self, flag: str, value: object) -> None:
        """`flag` sets an argument of the object that was added last, as `trainer.callbacks.num_elites` does."""
        for key in LISTS:
            inside = flag.removeprefix(f"{key}.")
            objects = self._objects.get(key)
            if inside != flag and objects and inside.removeprefix("init_args") and inside != "class_path":
                assign(objects[-1].setdefault("init_args", {}), inside.removeprefix("init_args."), value)

    def change(self, key: str, inside: str, value: object) -> list[Any]:
        """The objects of the list, one of which has another argument from now on.

        Args:
            key: One of `LISTS`.
            inside: The class and its argument, with dots.
            value: What it becomes.

        Raises:
            Mistake: When there is no object of such a class.
        """
        section, _, name = key.partition(".")
        objects = copy.deepcopy(self._objects.get(key, []))
        assign({section: {name: objects}}, f"{key}.{inside}", value)
        self._objects[key] = objects
        return objects
