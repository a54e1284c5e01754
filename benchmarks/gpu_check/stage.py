"""A stage: what it is told, how it tells what it finds, and the process that it runs in."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from benchmarks.gpu_check.sizes import Sizes

ROOT = Path(__file__).parents[2]
SHOWN = 30
"""Last lines of a stage's output that the JSON keeps."""


class Report:
    """What a stage has found so far; each finding is in the file before the next one is looked for.

    Args:
        file: JSON that is written anew with every finding.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._found: dict[str, Any] = {"faults": []}

    def tell(self, **found: Any) -> None:
        """Keep `found`, plain values by name."""
        self._found |= found
        self._write()

    def row(self, table: str, **cells: Any) -> None:
        """Add a row to the list called `table`."""
        self._found.setdefault(table, []).append(cells)
        self._write()

    def fault(self, line: str) -> None:
        """Something is not as it should be: the stage has failed, and goes on."""
        self._found["faults"].append(line)
        self._write()

    def _write(self) -> None:
        whole = self._file.with_suffix(".part")
        whole.write_text(json.dumps(self._found, indent=1))
        whole.replace(self._file)


class Setting(NamedTuple):
    """What a stage is told.

    Attributes:
        device: Of Warp and of the learner.
        sizes: How large it is.
        folder: For what it writes; the same for all stages of a check.
        seconds: It is ended after so many.
    """

    device: torch.device
    sizes: Sizes
    folder: Path
    seconds: float


def run_stage(name: str, options: Sequence[str], folder: Path, seconds: float) -> dict[str, Any]:
    """Run a stage in a process of its own, and end that and its children when its time is over.

    Args:
        name: Of the stage.
        options: Of the command line of this package.
        folder: Where it writes.
        seconds: Its time.

    Returns:
        What it found, with `status` (ok, failed, out of time, skipped), `seconds`, and where it did not end well
        `output`, its last lines.
    """
    file, log = folder / f"{name}.json", folder / f"{name}.log"
    file.unlink(missing_ok=True)
    command = [sys.executable, "-m", "benchmarks.gpu_check", *options, "--out", str(folder), "--stage", name]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), *_own_path()])}
    start = time.monotonic()
    with log.open("w") as output:
        process = subprocess.Popen(
            [*command, "--seconds", f"{seconds:.0f}"],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            code: int | None = process.wait(seconds)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            _end(process)
    found: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {"faults": []}
    lines = log.read_text(errors="replace").splitlines()
    if code is None:
        found["faults"].append(f"not done after {seconds:.0f} s")
    elif code:
        found["faults"].append(f"ended with {code}: {lines[-1] if lines else 'it said nothing'}")
    status = "out of time" if code is None else "failed" if found["faults"] else found.pop("status", "ok")
    if found["faults"]:
        found["output"] = lines[-SHOWN:]
    return {"status": status, "seconds": round(time.monotonic() - start, 1), **found}


def _own_path() -> list[str]:
    return [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the process and its children: a training has ranks, and a test its runs."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    finally:
        process.wait()
