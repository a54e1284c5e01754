"""What a run is made with and on: versions, the state of the code, machine, command line."""

import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from epo_lightning import __version__
from epo_lightning.run.secrets import command_without_secrets

_PACKAGES = ("torch", "lightning", "mujoco", "numpy")
_OTHERS = ("mujoco-warp", "gymnasium", "wandb", "tensorboard", "optuna")
"""Told where they are installed."""
_PACKAGE = Path(__file__).parents[1]
_PATIENCE = 5
"""Seconds in which git must have answered."""


def versions() -> dict[str, str | None]:
    """Of everything that the numbers of a run depend on; None for what is missing."""
    found = {name: _version(name) for name in (*_PACKAGES, *_OTHERS)}
    told = {name: number for name, number in found.items() if number is not None or name in _PACKAGES}
    return {"epo_lightning": __version__, "python": platform.python_version(), **told}


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


def device_facts(device: torch.device, ranks: int) -> dict[str, Any]:
    """What computes: the kind of device, its name, how many ranks there are, and threads of each."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else _processor()
    return {"kind": device.type, "name": name, "ranks": ranks, "threads": torch.get_num_threads()}


def facts(device: torch.device, ranks: int, command: Sequence[str], config: object) -> dict[str, Any]:
    """Everything, as plain values without secrets.

    Args:
        device: Of this rank.
        ranks: How many there are.
        command: The command line as the user gave it.
        config: What it means.
    """
    return {
        "versions": versions(),
        "git": git_states(),
        "host": platform.node(),
        "device": device_facts(device, ranks),
        "command": command_without_secrets(command, config),
        "working_folder": _working_folder(),
    }


def _working_folder() -> str | None:
    try:
        return os.getcwd()
    except OSError:  # it was deleted
        return None


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


def _processor() -> str:
    """The processor's name, as the system tells it."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()
