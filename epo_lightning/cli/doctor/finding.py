"""What the doctor found: one line of its report for each part."""

import math
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
    """What the driver says of a GPU, and its own version; what an old driver does not say is nan, or empty."""

    name: str
    capability: float
    driver: str = ""


def find_gpus() -> list[Gpu]:
    """The GPUs of this machine, as the driver names them: no library is loaded for that."""
    for fields in ("name,compute_cap,driver_version", "name,driver_version"):  # drivers before 2021 know the latter
        command = ["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader"]
        try:
            answer = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=True).stdout
            return [_gpu(line.split(",")) for line in answer.splitlines() if line.strip()]
        except subprocess.CalledProcessError:
            continue
        except (OSError, subprocess.SubprocessError, ValueError):
            break
    return []


def _gpu(cells: list[str]) -> Gpu:
    name, *capability, driver = (cell.strip() for cell in cells)  # an error is one cell: a ValueError, too
    return Gpu(name, float(capability[0]) if capability else math.nan, driver)


def one_line(error: object) -> str:
    """`error` without line breaks."""
    return " ".join(str(error).split())
