"""The interpreter of a simulator; with the standard library alone, so that `doctor` finds it whatever is broken."""

import os
import shutil
from pathlib import Path

from epo_lightning.limits import Mistake


def find_python(given: str) -> str:
    """The interpreter that the user named, by its path or as a command.

    Raises:
        Mistake: When there is none.
    """
    path = os.path.expanduser(given)
    found = shutil.which(path)
    if found is None:
        fault = "is not an executable file" if Path(path).exists() else "does not exist"
        raise Mistake(
            f"data.env.init_args.python: {given} {fault}; name the simulator's interpreter, such as"
            " ~/envs/rlgpu/bin/python"
        )
    return os.path.abspath(found)


def environment_of(python: str) -> dict[str, str]:
    """Ours, with the interpreter's folder first on the path, as if its environment were activated."""
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONHOME", "VIRTUAL_ENV")}
    folders = [os.path.dirname(python), *os.environ.get("PATH", os.defpath).split(os.pathsep)]
    return environment | {"PATH": os.pathsep.join(folders)}
