"""A section of the file of a study: `config`, and keys over it."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path

from epo_lightning.documents.keys import Settings, nested
from epo_lightning.documents.nearest import nearest
from epo_lightning.limits import Mistake

REPORT = "report"
"""Folder of the report inside that of the study."""
TASK = "{task}"
"""Stands for the name of the task in a `config`."""
_MOST_SEEDS = 10_000
_AT_THE_TOP = "it stands at the top of the file"
_OF_THE_STUDY = {
    "seed_everything": "the study gives the seeds: say seeds at the top of the file, or of a task",
    "seeds": "seeds are given at the top of the file, or of a task",
    "run_dir": "the study gives the folders: say out at the top of the file",
    "resume": "a study always goes on with what was cut",
    "pretrained": "every run of a study begins by itself",
    "ckpt_path": "every run of a study begins by itself, and goes on with what is its own",
    "trust": "it is for the command line only",
    "base": "say config, with names of configurations or files",
    "grid": "a grid stands at the top of the file, or of a method",
    "tasks": "tasks stand at the top of the file, and what differs by task in a method",
    "skip": "only a method can leave out tasks",
    **dict.fromkeys(("out", "jobs", "threads", "evaluate", "common", "methods", "search"), _AT_THE_TOP),
}
_MISSPELT = ("config", *_OF_THE_STUDY)
_BRACES = re.compile(r"\{.*?\}")
_NAME = re.compile(r"[A-Za-z0-9][\w.+=,#-]*")
FindConfig = Callable[[str, str], Path]
"""What `--config` means by a name, and the key for its message -> the file."""


class Reader:
    """Reads the sections of one file.

    Args:
        file: The file.
        find_config: What a name of a configuration means that is no file beside this one.
        task: What `{task}` stands for; None where the study has no tasks.
    """

    def __init__(self, file: Path, find_config: FindConfig, task: str | None = None) -> None:
        self.file, self._find_config, self._task = file, find_config, task

    def read(self, where: str, given: object) -> tuple[tuple[Path, ...], Settings]:
        """The configurations that a section names, and its other keys, nested.

        Args:
            where: Its place in the file.
            given: What stands there; None is nothing.

        Raises:
            Mistake: When it is no mapping, names no configuration that there is, or says what the study decides.
        """
        if given is None:
            return (), {}
        if not isinstance(given, Mapping):
            raise Mistake(
                f"{self.file}: {where} must hold keys of a configuration, or config with names; got {given!r}"
            )
        settings = dict(given)
        named = settings.pop("config", None)
        names = named if isinstance(named, list) else [named] if named is not None else []
        configs = tuple(self._find(f"{where}.config", name, named) for name in names)
        known = nested(settings, lambda _: f"{self.file}: {where}: ")
        for key in known:
            if key in _OF_THE_STUDY:
                raise Mistake(f"{self.file}: {where}: {key} cannot stand here, {_OF_THE_STUDY[key]}")
            if (meant := nearest(key, _MISSPELT)) is not None:
                remedy = f", {_OF_THE_STUDY[meant]}" if meant in _OF_THE_STUDY else ""
                raise Mistake(f"{self.file}: {where}: {key} means nothing here (did you mean {meant}?){remedy}")
        return configs, known

    def _find(self, where: str, name: object, named: object) -> Path:
        if not isinstance(name, str) or not name:
            remedy = f"; write '{TASK}' in quotes" if name == {TASK[1:-1]: None} else ""
            raise Mistake(f"{self.file}: {where} must be names of configurations or files; got {named!r}{remedy}")
        if TASK in name:
            if self._task is None:
                raise Mistake(f"{self.file}: {where}: {name} is for a study with tasks: add tasks, with their names")
            name = name.replace(TASK, self._task)
        path = self.file.parent / Path(name).expanduser()
        if path.is_file():
            return path
        if braces := _BRACES.search(name):
            raise Mistake(f"{self.file}: {where}: {braces[0]} of {name} stands for nothing; {TASK} is the task's name")
        return self._find_config(name, f"{self.file}: {where}")


def require_name(file: Path, where: str, name: object) -> None:
    """Refuse what no folder should be called.

    Raises:
        Mistake: With what may be taken.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name) or name.lower() == REPORT:
        raise Mistake(
            f"{file}: {where}: {name!r} cannot be a name, because a folder is called so: take letters, digits and"
            f" . + = , # - _ (and not {REPORT})"
        )


def read_seeds(file: Path, where: str, given: object) -> tuple[int, ...]:
    """How many seeds, from 0, or which.

    Raises:
        Mistake: When it is neither, or one is there twice.
    """
    if isinstance(given, int) and not isinstance(given, bool) and 0 < given <= _MOST_SEEDS:
        return tuple(range(given))
    seeds = given if isinstance(given, list) else []
    if not seeds or not all(isinstance(one, int) and not isinstance(one, bool) and 0 <= one < 2**32 for one in seeds):
        raise Mistake(
            f"{file}: {where} must be how many (from 0, at most {_MOST_SEEDS:,}), or a list such as [3, 7];"
            f" got {given!r}"
        )
    if twice := [seed for place, seed in enumerate(seeds) if seed in seeds[:place]]:
        raise Mistake(f"{file}: {where} has {twice[0]} twice; leave one out")
    return tuple(seeds)
