"""Which code makes the numbers of a run: version, commit, sources, and the libraries that compute.

It loads no torch: `report` and `sweep` ask, too.
"""

import hashlib
import json
import platform
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

from epo_lightning import __version__

_PACKAGES = ("torch", "lightning", "mujoco", "numpy")
_OTHERS = ("mujoco-warp", "gymnasium", "wandb", "tensorboard", "optuna")
"""Told where they are installed."""
_COMPUTING = ("python", *_PACKAGES, "mujoco-warp", "gymnasium")
"""On which numbers depend."""
_NOT_OWN = ("epo_lightning.", "lightning.", "torch.")
_PACKAGE = Path(__file__).parents[1]
_PATIENCE = 5
"""Seconds in which git must have answered."""
_SHORT = 8
"""Digits of a commit, as people tell it."""


class Code(NamedTuple):
    """What a session of a run was computed by; None for what nobody knows.

    Attributes:
        version: Of this package.
        commit: Of its repository, where it is a checkout.
        dirty: Whether tracked files differed from that.
        sources: The fingerprint of the package's modules.
        libraries: Names and versions.
        own: The commit of the working folder, with `+` for changes, where the configuration names classes from there.
    """

    version: str | None = None
    commit: str | None = None
    dirty: bool | None = None
    sources: str | None = None
    libraries: tuple[tuple[str, str], ...] = ()
    own: str | None = None


def made_by() -> dict[str, Any]:
    """What `run.json` and evaluations tell of the code that is running; see `code_of`."""
    return {"versions": versions(), "git": git_states(), "sources": fingerprint()}


def code_of(told: Mapping[str, Any], config: object = None) -> Code:
    """The code that a session tells of, whatever else stands there.

    Args:
        told: As of `made_by`.
        config: Of the run, for classes of one's own.
    """
    numbers, git = (_mapping(told.get(name)) for name in ("versions", "git"))
    package, folder = (_mapping(git.get(name)) for name in ("package", "working_folder"))
    commit, dirty = _text(package.get("commit")), package.get("dirty")
    own = _text(folder.get("commit"))
    if own is None or (own == commit and folder.get("dirty") == dirty) or not has_own_classes(config):
        own = None
    else:
        own = f"{own}{'+' if folder.get('dirty') else ''}"
    libraries = tuple((name, str(numbers[name])) for name in _COMPUTING if numbers.get(name) is not None)
    return Code(
        _text(numbers.get("epo_lightning")),
        commit,
        dirty if isinstance(dirty, bool) else None,
        _text(told.get("sources")),
        libraries,
        own,
    )


def sessions_of(record: Path) -> tuple[Code, ...]:
    """By which code a run was begun, and then continued, without repetitions; empty where `run.json` does not tell.

    A run that never saved was begun anew: what was before counts for nothing.
    """
    try:
        content = json.loads(record.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return ()
    if not isinstance(content, dict):
        return ()
    earlier = content.get("earlier") if content.get("lineage") else None
    told = [*(earlier if isinstance(earlier, list) else ()), content]
    codes = [code_of(_mapping(each), content.get("config")) for each in told]
    known = [code for code in codes if code != Code()]
    return tuple(code for place, code in enumerate(known) if not place or code != known[place - 1])


def names_of(codes: Iterable[Code]) -> dict[Code, str]:
    """What to call each of them beside the others: `epo_lightning 0.1.0, commit 47e5cff5 with uncommitted changes`."""
    every = list(dict.fromkeys(codes))
    different = [name for name in _COMPUTING if len({dict(code.libraries).get(name) for code in every}) > 1]
    names = {code: _name(code, different) for code in every}
    count = Counter(names.values())
    return {
        code: f"{name} (sources {code.sources or 'unknown'})" if count[name] > 1 else name
        for code, name in names.items()
    }


def _name(code: Code, libraries: Sequence[str]) -> str:
    parts = [f"epo_lightning {code.version or '(version unknown)'}"]
    if code.commit is not None:
        perhaps = {None: " perhaps with uncommitted changes", True: " with uncommitted changes", False: ""}[code.dirty]
        sources = f" (sources {code.sources})" if code.dirty and code.sources else ""
        parts.append(f"commit {code.commit[:_SHORT]}{perhaps}{sources}")
    elif code.sources is not None:
        parts.append(f"sources {code.sources}")
    if code.own is not None:
        own, changed = code.own.rstrip("+")[:_SHORT], " with uncommitted changes" * code.own.endswith("+")
        parts.append(f"classes of one's own at commit {own}{changed}")
    numbers = dict(code.libraries)
    return ", ".join([*parts, *(f"{name} {numbers.get(name, 'unknown')}" for name in libraries)])


def versions() -> dict[str, str | None]:
    """Of everything that the numbers of a run depend on; None for what is missing."""
    found = {name: _version(name) for name in (*_PACKAGES, *_OTHERS)}
    told = {name: number for name, number in found.items() if number is not None or name in _PACKAGES}
    return {"epo_lightning": __version__, "python": platform.python_version(), **told}


def computing_versions() -> dict[str, str | None]:
    """Of those on which numbers depend."""
    return {name: number for name, number in versions().items() if name in ("epo_lightning", *_COMPUTING)}


def fingerprint() -> str:
    """Of the modules of this package, whether they are committed or not: the same code has the same."""
    digest = hashlib.sha256()
    for path in sorted(_PACKAGE.rglob("*.py")):
        digest.update(f"{path.relative_to(_PACKAGE).as_posix()}\0".encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:_SHORT]


def own_fingerprint(config: object) -> str | None:
    """Of the modules, as loaded here, whose classes a configuration names and which are nobody's package's; or None."""
    named = {name.rpartition(".")[0] for name in _classes(config) if "." in name and not name.startswith(_NOT_OWN)}
    files = {getattr(sys.modules.get(module), "__file__", None) for module in named}
    digests = sorted(hashlib.sha256(Path(file).read_bytes()).hexdigest() for file in files if file)
    return hashlib.sha256("".join(digests).encode()).hexdigest()[:_SHORT] if digests else None


def git_states() -> dict[str, dict[str, Any] | None]:
    """Commit and cleanliness of the working folder, and of this package where it is a checkout; None without git."""
    tracked = _git(_PACKAGE.parent, "ls-files", "--error-unmatch", "--", f"{_PACKAGE.name}/__init__.py")
    return {
        "working_folder": git_state(Path()),
        # an installed package may lie inside somebody else's repository, which does not track it
        "package": git_state(_PACKAGE.parent) if tracked else None,
    }


def git_state(folder: Path) -> dict[str, Any] | None:
    """The commit of the repository in which `folder` lies, and whether tracked files differ from it.

    Returns:
        None where there is no repository, no commit or no git; `dirty` is None where git takes too long to tell.
    """
    commit = _git(folder, "rev-parse", "--verify", "HEAD")
    if not commit:
        return None
    changes = _git(folder, "status", "--porcelain", "--untracked-files=no", "--ignore-submodules")
    return {"commit": commit, "dirty": None if changes is None else bool(changes)}


def _git(folder: Path, *words: str) -> str | None:
    """What git says; None where it does not run, or refuses."""
    command = ["git", "-C", str(folder), "--no-optional-locks", "-c", "core.fsmonitor=false", *words]
    try:
        ran = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE, check=False)
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return None
    return ran.stdout.strip() if ran.returncode == 0 else None


def _version(package: str) -> str | None:
    loaded = getattr(sys.modules.get(package), "__version__", None)
    try:
        return str(loaded) if loaded is not None else version(package)
    except PackageNotFoundError:
        return None


def has_own_classes(config: object) -> bool:
    """Whether a configuration names a class that is neither this package's nor Lightning's."""
    return any("." in name and not name.startswith(_NOT_OWN) for name in _classes(config))


def _classes(config: object) -> Iterator[str]:
    inside = config.items() if isinstance(config, dict) else enumerate(config) if isinstance(config, list) else ()
    for key, value in inside:
        if key in ("class_path", "algorithm") and isinstance(value, str):
            yield value
        else:
            yield from _classes(value)


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
