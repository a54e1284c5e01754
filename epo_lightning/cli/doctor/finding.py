"""What the doctor found: one line of its report for each part."""

import subprocess
from typing import Literal, NamedTuple

State = Literal["ok", "missing", "broken"]
PATIENCE = 60
"""Seconds in which another program must have answered."""


class Finding(NamedTuple):
    """One line of the report.

    Attributes:
        name: Of the part.
        state: ok, missing (not installed, and not needed), or broken.
        detail: Version, device.
        remedy: What to do, or empty.
        needed: The default path needs it: torch, Lightning, MuJoCo on the CPU.
    """

    name: str
    state: State
    detail: str
    remedy: str = ""
    needed: bool = False


class Gpu(NamedTuple):
    """What the driver says of a GPU."""

    name: str
    capability: float


def find_gpus() -> list[Gpu]:
    """The GPUs of this machine, as the driver names them: no library is loaded for that."""
    command = ["nvidia-smi", "--query-gpu=name,compute_cap", "--format=csv,noheader"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=True).stdout
        rows = [line.rpartition(",") for line in answer.splitlines() if line.strip()]
        return [Gpu(name.strip(), float(capability)) for name, _, capability in rows]
    except (OSError, subprocess.SubprocessError, ValueError):
        return []


def one_line(error: object) -> str:
    """`error` without line breaks."""
    return " ".join(str(error).split())
