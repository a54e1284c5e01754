"""The methods of a study: tasks times methods times points of the grids."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from epo_lightning.documents.keys import Settings
from epo_lightning.documents.nearest import hint
from epo_lightning.limits import Mistake
from epo_lightning.sweep.grid import Point, cross, point_names
from epo_lightning.sweep.section import FindConfig, Reader, read_seeds, require_name


@dataclass(frozen=True)
class Method:
    """A configuration that is run with every seed.

    Attributes:
        name: What it is called; no other on this task is called so.
        where: Its place in the file, for messages.
        seeds: One run for each.
        configs: Files, the first at the bottom.
        overlays: Settings that lie over them, in order.
        task: What its task is called; empty where the study has no tasks.
    """

    name: str
    where: str
    seeds: tuple[int, ...]
    configs: tuple[Path, ...]
    overlays: tuple[Settings, ...]
    task: str = ""

    @property
    def folder(self) -> Path:
        """Where its runs lie in the folder of the study."""
        return Path(self.task, self.name)


def read_methods(file: Path, content: Mapping[str, Any], find_config: FindConfig) -> list[Method]:
    """Everything that is run, task by task.

    Args:
        file: The file of the study.
        content: What stands in it.
        find_config: See `Reader`.

    Raises:
        Mistake: One line that names file, key and remedy.
    """
    seeds = read_seeds(file, "seeds", content.get("seeds", 1))
    if "search" in content:
        return [_base_of_a_search(file, content, seeds, Reader(file, find_config))]
    methods = content.get("methods", {"": None})
    if not isinstance(methods, Mapping) or not methods:
        raise Mistake(f"{file}: methods must be names with settings below each; got {methods!r}")
    if "methods" not in content and content.get("grid") is None:
        raise Mistake(f"{file} names nothing to run: add methods, grid or search")
    tasks = _tasks(file, content["tasks"]) if "tasks" in content else {"": None}
    for where, names in (("task", tasks), ("method", methods)):
        _require_names(file, where, [name for name in names if name != "" or f"{where}s" in content])
    for name, given in methods.items():
        _require_tasks_of(f"{file}: methods.{name}", given, list(tasks) if "tasks" in content else [])
    found: list[Method] = []
    for task, of_task in tasks.items():
        reader = Reader(file, find_config, task or None)
        common = reader.read("common", content.get("common"))
        its_seeds, keys = seeds, of_task
        if isinstance(of_task, Mapping) and "seeds" in of_task:
            its_seeds = read_seeds(file, f"tasks.{task}.seeds", of_task["seeds"])
            keys = {key: value for key, value in of_task.items() if key != "seeds"}
        below = [common, reader.read(f"tasks.{task}", keys)]
        for name, given in methods.items():
            if not isinstance(given, Mapping) or task not in (given.get("skip") or ()):
                found += _points(reader, str(name), given, content.get("grid"), below, its_seeds, task)
    for method in found:
        if not method.configs and not any("env" in (each.get("data") or {}) for each in method.overlays):
            raise Mistake(f"{method.where}: nothing says which task: add config, with a configuration or a file")
    return found


def _base_of_a_search(file: Path, content: Mapping[str, Any], seeds: tuple[int, ...], reader: Reader) -> Method:
    for key in ("methods", "grid", "tasks"):
        if key in content:
            raise Mistake(f"{file}: {key} and search exclude each other: what a search keeps fixed stands in common")
    configs, common = reader.read("common", content.get("common"))
    if not configs and not common:
        raise Mistake(f"{file}: a search needs common, with what it keeps fixed, such as config: quickstart")
    method = Method("search", f"{file}: common", seeds, configs, (common,) if common else ())
    if not configs and "env" not in (common.get("data") or {}):
        raise Mistake(f"{method.where}: nothing says which task: add config, with a configuration or a file")
    return method


def _tasks(file: Path, given: object) -> Mapping[Any, Any]:
    """What each task says of itself."""
    if isinstance(given, list) and given and all(isinstance(name, str) for name in given):
        if twice := [name for place, name in enumerate(given) if name in given[:place]]:
            raise Mistake(f"{file}: tasks has {twice[0]} twice; leave one out")
        return dict.fromkeys(given)
    if not isinstance(given, Mapping) or not given:
        raise Mistake(f"{file}: tasks must be names, or names with settings below each; got {given!r}")
    return given


def _require_names(file: Path, kind: str, names: Sequence[object]) -> None:
    for name in names:
        require_name(file, f"{kind}s", name)
    lower = [str(name).lower() for name in names]
    if twice := [name for place, name in enumerate(lower) if name in lower[:place]]:
        raise Mistake(f"{file}: two {kind}s are called {twice[0]}; give one another name")


def _require_tasks_of(where: str, given: object, tasks: Sequence[str]) -> None:
    """What a method says of single tasks must be of some that there are, and leave it one."""
    if not isinstance(given, Mapping):
        return
    skipped, own = given.get("skip"), given.get("tasks")
    for key, value, kind in (("skip", skipped, list), ("tasks", own, Mapping)):
        if key in given and not tasks:
            raise Mistake(f"{where}.{key} is for a study with tasks: add tasks at the top of the file")
        if key in given and (not isinstance(value, kind) or not value):
            form = "a list of tasks" if kind is list else "names of tasks with settings below each"
            raise Mistake(f"{where}.{key} must be {form}; got {value!r}")
    for key, names in (("skip", skipped or ()), ("tasks", own or ())):
        for name in names:
            if name not in tasks:
                near = hint(str(name), tasks)
                raise Mistake(f"{where}.{key}: {name} is no task of this study{near}; it has {', '.join(tasks)}")
            if key == "tasks" and name in (skipped or ()):
                raise Mistake(f"{where}: {name} stands in skip and in tasks; leave one out")
    if tasks and set(skipped or ()) == {*tasks}:
        raise Mistake(f"{where}.skip leaves out every task: leave out the method")


def _points(
    reader: Reader,
    name: str,
    given: object,
    grid: object,
    below: Sequence[tuple[tuple[Path, ...], Settings]],
    seeds: tuple[int, ...],
    task: str,
) -> Iterator[Method]:
    """A method on a task, at every point of both grids."""
    file, where = reader.file, f"methods.{name}" if name else "grid"
    own = dict(given) if isinstance(given, Mapping) else given
    has_grid, own_grid = False, None
    of_tasks: Mapping[str, Any] = {}
    if isinstance(own, dict):
        has_grid, own_grid = "grid" in own, own.pop("grid", None)
        of_tasks = own.pop("tasks", None) or {}
        own.pop("skip", None)
    layers = [*below, reader.read(where, own), reader.read(f"{where}.tasks.{task}", of_tasks.get(task))]
    points = _crossed(f"{file}: grid", grid, f"{file}: {where}.grid", own_grid, has_grid=has_grid)
    for point, called in zip(points, point_names(points), strict=True):
        its = [*layers, reader.read(where if has_grid else "grid", point)]
        told = ", ".join(filter(None, (task, called)))
        yield Method(
            ",".join(filter(None, (name, called))),
            f"{file}: {where}{f' ({told})' if told and name else told and f' {told}'}",
            seeds,
            tuple(config for configs, _ in its for config in configs),
            tuple(settings for _, settings in its if settings),
            task,
        )


def _crossed(where: str, grid: object, own_where: str, own_grid: object, *, has_grid: bool) -> list[Point]:
    shared, own = cross(where, grid), cross(own_where, own_grid if own_grid is not None or not has_grid else {})
    if both := [key for key in own[0] if key in shared[0]]:
        raise Mistake(f"{own_where}.{both[0]} stands in the grid of all methods, too; leave one out")
    return [{**one, **other} for one in shared for other in own]
