"""The file of a study: which configurations, which seeds, how many at a time."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from epo_lightning.documents.config_file import read_config
from epo_lightning.documents.keys import Settings, nested, require_known
from epo_lightning.documents.plain_yaml import plain
from epo_lightning.limits import Mistake
from epo_lightning.run.folder import RUNS
from epo_lightning.sweep.grid import cross, point_names
from epo_lightning.sweep.space import Space, read_space

REPORT = "report"
"""Folder of the report inside that of the study."""
_KEYS = ("out", "seeds", "jobs", "threads", "evaluate", "common", "methods", "grid", "search")
_EVALUATIONS = ("validate", "test")
ALL_AGENTS, NOISE = "--agents all", "--noise"
"""What may stand behind the name of an evaluation."""
_OF_THE_STUDY = {
    "seed_everything": "the study gives the seeds: say seeds at the top of the file",
    "run_dir": "the study gives the folders: say out at the top of the file",
    "resume": "a study always goes on with what was cut",
    "ckpt_path": "every run of a study begins by itself, and goes on with what is its own",
    "trust": "it is for the command line only",
    "base": "say config, with names of configurations or files",
}
_NAME = re.compile(r"[A-Za-z0-9][\w.+=,#-]*")
FindConfig = Callable[[str, str], Path]
"""What `--config` means by a name, and the key for its message -> the file."""


@dataclass(frozen=True)
class Method:
    """A configuration that is run with every seed.

    Attributes:
        name: What its folder is called.
        where: Its place in the file, for messages.
        configs: Files, the first at the bottom.
        overlays: Settings that lie over them, in order.
    """

    name: str
    where: str
    configs: tuple[Path, ...]
    overlays: tuple[Settings, ...]


@dataclass(frozen=True)
class Study:
    """What the file says.

    Attributes:
        file: Where it says so.
        out: The study's folder.
        seeds: One run of each method for each.
        jobs: How many runs at a time; None: as many as there are cores for.
        threads: Of a run, where it computes on the CPU.
        evaluate: The command that follows each training, perhaps with `ALL_AGENTS` and `NOISE`, in this order; or None.
        methods: One or more; of a search the only one, whose settings are completed by each trial.
        search: What is searched for, if anything is.
    """

    file: Path
    out: Path
    seeds: tuple[int, ...]
    jobs: int | None
    threads: int
    evaluate: str | None
    methods: tuple[Method, ...]
    search: Space | None


def read_study(file: Path, find_config: FindConfig, *, is_packaged: bool = False) -> Study:
    """Read the file of a study, and check everything that needs no parser of configurations.

    Args:
        file: The file.
        find_config: What a name of a configuration means that is no file beside this one.
        is_packaged: It came with this package: what it writes goes to the working folder.

    Raises:
        Mistake: One line that names file, key and remedy.
    """
    content = plain(read_config(file, lambda _: False, "sweep").values)
    if "methods" not in content and {"parameters", "method"} <= content.keys():
        raise Mistake(f"{file} is for the agent of Weights & Biases: wandb sweep {file}")
    if not {"methods", "grid", "search"} & content.keys() and {"model", "data", "trainer", "base"} & content.keys():
        raise Mistake(f"{file} is a configuration of one run: fit --config {file}; a study has methods, grid or search")
    require_known(str(file), content, _KEYS)
    out = content.get("out")
    if out is not None and (not isinstance(out, str) or not out.strip()):
        raise Mistake(f"{file}: out must be a folder; got {out!r}")
    home = Path() if is_packaged else file.parent
    search = content.get("search")
    methods = tuple(_methods(file, content, find_config))
    for method in methods:
        if not method.configs and not any("env" in (each.get("data") or {}) for each in method.overlays):
            raise Mistake(f"{method.where}: nothing says which task: add config, with a configuration or a file")
    lower = [method.name.lower() for method in methods]
    if twice := [name for place, name in enumerate(lower) if name in lower[:place]]:
        raise Mistake(f"{file}: two methods are called {twice[0]}; give one another name")
    return Study(
        file=file,
        out=home / Path(out).expanduser() if out else RUNS / file.stem,
        seeds=_seeds(file, content.get("seeds", 1)),
        jobs=_count(file, "jobs", content.get("jobs")) if content.get("jobs") is not None else None,
        threads=_count(file, "threads", content.get("threads", 1)),
        evaluate=_evaluation(file, content.get("evaluate")),
        methods=methods,
        search=None if "search" not in content else read_space(f"{file}: search", search),
    )


def _evaluation(file: Path, given: object) -> str | None:
    """`validate --noise --agents=all` becomes `validate --agents all --noise`."""
    if given is None:
        return None
    command, *flags = str(given).replace("--agents=all", ALL_AGENTS).split() or [""]
    rest = f" {' '.join(flags)} "
    wanted = [flag for flag in (ALL_AGENTS, NOISE) if f" {flag} " in rest]
    if command not in _EVALUATIONS or len(flags) != sum(len(flag.split()) for flag in wanted):
        raise Mistake(
            f"{file}: evaluate must be validate or test, perhaps followed by {ALL_AGENTS} and {NOISE}, or be left out;"
            f" got {given!r}"
        )
    return " ".join([command, *wanted])


def _methods(file: Path, content: Mapping[str, Any], find_config: FindConfig) -> Iterator[Method]:
    """Methods times points of the grids."""
    configs, common = _settings(file, "common", content.get("common"), find_config)
    if "search" in content:
        for key in ("methods", "grid"):
            if key in content:
                raise Mistake(
                    f"{file}: {key} and search exclude each other: what a search keeps fixed stands in common"
                )
        if not configs and not common:
            raise Mistake(f"{file}: a search needs common, with what it keeps fixed, such as config: quickstart")
        yield Method("search", f"{file}: common", configs, (common,) if common else ())
        return
    methods, grid = content.get("methods", {"": None}), content.get("grid")
    if not isinstance(methods, Mapping) or not methods:
        raise Mistake(f"{file}: methods must be names with settings below each; got {methods!r}")
    if "methods" not in content and grid is None:
        raise Mistake(f"{file} names nothing to run: add methods, grid or search")
    for name, given in methods.items():
        if "methods" in content:
            _require_name(file, name)
        where = f"methods.{name}" if name else "grid"
        own = dict(given) if isinstance(given, Mapping) else given
        own_grid = own.pop("grid", None) if isinstance(own, dict) else None
        more, settings = _settings(file, where, own, find_config)
        points = [
            {**shared, **its}
            for shared in cross(f"{file}: grid", grid)
            for its in cross(f"{file}: {where}.grid", own_grid)
        ]
        for point, called in zip(points, point_names(points), strict=True):
            last, chosen = _settings(file, where if own_grid else "grid", point, find_config)
            yield Method(
                ",".join(filter(None, (str(name), called))),
                f"{file}: {where}{f' ({called})' if called and name else called and f' {called}'}",
                (*configs, *more, *last),
                tuple(each for each in (common, settings, chosen) if each),
            )


def _settings(file: Path, where: str, given: object, find_config: FindConfig) -> tuple[tuple[Path, ...], Settings]:
    """The configurations that a section names, and its other keys."""
    if given is None:
        return (), {}
    if not isinstance(given, Mapping):
        raise Mistake(f"{file}: {where} must hold keys of a configuration, or config with names; got {given!r}")
    settings = dict(given)
    named = settings.pop("config", None)
    names = named if isinstance(named, list) else [named] if named is not None else []
    configs = []
    for name in names:
        if not isinstance(name, str) or not name:
            raise Mistake(f"{file}: {where}.config must be names of configurations or files; got {named!r}")
        path = file.parent / Path(name).expanduser()
        configs.append(path if path.is_file() else find_config(name, f"{file}: {where}.config"))
    known = nested(settings, lambda _: f"{file}: {where}: ")
    for key, remedy in _OF_THE_STUDY.items():
        if key in known:
            raise Mistake(f"{file}: {where}: {key} cannot stand here, {remedy}")
    return tuple(configs), known


def _require_name(file: Path, name: object) -> None:
    if not isinstance(name, str) or not _NAME.fullmatch(name) or name.lower() == REPORT:
        raise Mistake(
            f"{file}: methods: {name!r} cannot be a name, because a folder is called so: take letters, digits and"
            f" . + = , # - _ (and not {REPORT})"
        )


def _seeds(file: Path, given: object) -> tuple[int, ...]:
    if isinstance(given, int) and not isinstance(given, bool) and given > 0:
        return tuple(range(given))
    seeds = given if isinstance(given, list) else []
    if not seeds or not all(isinstance(one, int) and not isinstance(one, bool) and 0 <= one < 2**32 for one in seeds):
        raise Mistake(f"{file}: seeds must be how many (from 0), or a list such as [3, 7]; got {given!r}")
    if twice := [seed for place, seed in enumerate(seeds) if seed in seeds[:place]]:
        raise Mistake(f"{file}: seeds has {twice[0]} twice; leave one out")
    return tuple(seeds)


def _count(file: Path, key: str, given: object) -> int:
    if not isinstance(given, int) or isinstance(given, bool) or given < 1:
        raise Mistake(f"{file}: {key} must be a number, at least 1; got {given!r}")
    return given
