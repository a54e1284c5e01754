"""One run of a study: where it lies, how far it has come, and whether it is done."""

import contextlib
import csv
import json
import os
import shlex
import sys
from pathlib import Path

from epo_lightning.run.folder import RunFolder, part_of, writing
from epo_lightning.run.lock import FolderLock

ITERATION = "charts/iteration"
_LEAST_TAIL = 2**16


class StudyRun:
    """A method with a seed.

    Args:
        method: Runs of one method take as long as each other.
        folder: The method's folder, by which it is called.
        seed: The seed.
        iterations: How many it will make; None where only time ends it.
        config: The file that `--config` names.
        evaluate: The command that follows, with its flags, or None.
        task: The task's folder, above the method's; empty where there is none.

    Attributes:
        method: Of which task and method it is.
        name: As it is told: `epo/seed0`, or `wall_maze/epo/seed0`.
        run: Its run folder.
        log: What it and its evaluation print.
    """

    def __init__(
        self,
        method: str,
        folder: Path,
        seed: int,
        iterations: int | None,
        config: Path,
        evaluate: str | None,
        task: str = "",
    ) -> None:
        self.seed, self.iterations, self.config, self.evaluate = seed, iterations, config, evaluate
        self.method = f"{task}/{method}" if task else method
        self.name = "/".join(filter(None, (task, folder.name, f"seed{seed}")))
        self.run = RunFolder(folder / f"seed{seed}")
        self.log = folder / f"seed{seed}.log"
        self._record = self.run.path / "finished.json"

    @property
    def training(self) -> list[str]:
        """The command that begins the run, or continues it."""
        flags = ["--config", str(self.config), "--run_dir", str(self.run.path), f"--seed_everything={self.seed}"]
        return [sys.executable, "-m", "epo_lightning", "fit", *flags, "--resume"]

    @property
    def evaluation(self) -> list[str] | None:
        """The command that follows."""
        if self.evaluate is None:
            return None
        command, *flags = self.evaluate.split()
        return [sys.executable, "-m", "epo_lightning", command, "--ckpt_path", str(self.run.path), *flags]

    def is_done(self) -> bool:
        """Whether it ended by itself, as long as it is asked to be and evaluated as asked."""
        try:
            record = json.loads(self._record.read_text())
        except (OSError, ValueError):
            return False
        return bool(self.run.last.exists() and record == self._wanted())

    def finish(self) -> None:
        """Keep that it is done."""
        temporary = part_of(self._record)
        with writing(self._record):
            temporary.write_text(json.dumps(self._wanted()) + "\n")
            os.replace(temporary, self._record)

    def _wanted(self) -> dict[str, object]:
        return {"iterations": self.iterations, "evaluate": self.evaluate}

    def done_iterations(self) -> int:
        """How many are in `metrics.csv`."""
        with contextlib.suppress(OSError, ValueError, IndexError), self.run.metrics.open("rb") as file:
            header = next(csv.reader([file.readline().decode()]))
            start = file.tell()
            file.seek(max(start, file.seek(0, os.SEEK_END) - max(_LEAST_TAIL, 4 * start)))
            lines = file.read().split(b"\n")[:-1]  # the last one may be half a line
            row = next(csv.reader([lines[-1].decode()]))
            return int(float(row[header.index(ITERATION)])) if len(row) == len(header) else 0
        return 0

    def share(self) -> float | None:
        """Of its iterations, those that are made; None where nobody knows how many there will be."""
        return min(1.0, self.done_iterations() / self.iterations) if self.iterations else None

    def is_free(self) -> bool:
        """Whether no other process writes to its folder, such as one that is still saving."""
        try:
            FolderLock(self.run.path).release()
        except BlockingIOError:
            return False
        except OSError:
            return True  # it is not there
        return True

    def complaint(self) -> str:
        """What the log says last: the error's own line, where there is one."""
        try:
            with self.log.open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - _LEAST_TAIL))
                text = file.read().decode(errors="replace")
        except OSError:
            return ""
        lines = [line.strip() for line in text.rpartition("\n$ ")[2].splitlines()[1:] if line.strip()]
        errors = [line for line in lines if line.startswith(("error: ", "[rank ")) and "error: " in line]
        return " ".join((errors or lines or [""])[-1].split()).removeprefix("error: ")


def printed(command: list[str], threads: int) -> str:
    """A command for a shell."""
    return f"OMP_NUM_THREADS={threads} {shlex.join(['python', *command[1:]])}"
