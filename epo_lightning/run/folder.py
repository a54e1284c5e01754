"""The run folder: everything that one training run leaves behind.

runs/<config or task>/<time>-seed<seed>/
    config.yaml              the resolved configuration
    run.json                 the same, versions, commit, machine, command line, lineage
    metrics.csv              one row per iteration
    lineage.jsonl            one line per generation, when the run evolves
    genes.npy                the genes of every generation
    summary.txt, .json       what came of it, when it has ended
    checkpoints/best.ckpt    highest return of the master
    checkpoints/last.ckpt    the latest iteration

A file that is replaced as a whole is written as `.<name>.part` first.
"""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

from epo_lightning import pretrained
from epo_lightning.limits import Mistake
from epo_lightning.run.lock import FolderLock

RUNS = Path("runs")
"""Where run folders are made and searched for, relative to the working directory."""


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what the file system says while `path` is written into one line that names it.

    Raises:
        Mistake: Instead of an OSError.
    """
    try:
        yield
    except OSError as error:
        raise Mistake(f"{path} cannot be written: {error.strerror or error}") from error


def part_of(path: Path) -> Path:
    """Where the next `path` is written before it is renamed."""
    return path.with_name(f".{path.name}.part")


class RunFolder:
    """Names of the files of one run.

    Args:
        path: The folder; it need not exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.yaml"
        self.record = path / "run.json"
        self.metrics = path / "metrics.csv"
        self.lineage = path / "lineage.jsonl"
        self.genes = path / "genes.npy"
        self.summary = path / "summary.json"
        self.summary_text = path / "summary.txt"
        self.last = path / "checkpoints" / "last.ckpt"
        self.best = path / "checkpoints" / "best.ckpt"
        self.best_master = path / "checkpoints" / "best_master.ckpt"
        self._created: list[Path] = []
        self._lock: FolderLock | None = None

    @classmethod
    def of_checkpoint(cls, checkpoint: Path) -> "RunFolder | None":
        """The run folder in which `checkpoint` lies, or None when it lies elsewhere."""
        folder = cls(checkpoint.parent.parent if checkpoint.parent.parent.name else checkpoint.resolve().parent.parent)
        return folder if checkpoint.parent.name == folder.last.parent.name and folder.config.exists() else None

    @classmethod
    def new(cls, name: str, seed: int) -> "RunFolder":
        """Make a folder that did not exist, so that the same command can run twice, even at the same time."""
        stem = f"{time.strftime('%Y%m%d-%H%M%S')}-seed{seed}"
        for suffix in ("", *(f"-{number}" for number in range(2, 1000))):
            folder = cls(RUNS / name / f"{stem}{suffix}")
            with contextlib.suppress(FileExistsError):
                folder.create(exist_ok=False)
                return folder
        raise AssertionError("a thousand runs in one second")

    def create(self, *, exist_ok: bool = True) -> None:
        """Make the folder and its parents."""
        try:
            missing = [folder for folder in (self.path, *self.path.parents) if not folder.exists()]
            self.path.mkdir(parents=True, exist_ok=exist_ok)
        except OSError as error:
            if isinstance(error, FileExistsError) and not exist_ok:
                raise
            raise Mistake(f"run_dir: {self.path} cannot be made: {error.strerror}") from error
        self._created += missing

    def claim(self) -> None:
        """Make the folder, and keep other processes from writing to it until `release`.

        Raises:
            Mistake: When another process is writing to it.
        """
        self.create()
        try:
            self._lock = FolderLock(self.path)
        except BlockingIOError:
            raise Mistake(f"run_dir: another process is training in {self.path}") from None
        for folder in (self.path, self.last.parent):
            for part in folder.glob(".*.part"):  # of a process that was killed
                with writing(part):
                    part.unlink()

    def forget_unsaved(self) -> None:
        """Remove what a run that never saved has left, so that it begins anew."""
        for file in (self.metrics, self.lineage, self.genes, self.best_master):
            with writing(file):
                file.unlink(missing_ok=True)

    def forget_summary(self) -> None:
        """Remove the summary of a run that goes on."""
        for file in (self.summary, self.summary_text):
            with writing(file):
                file.unlink(missing_ok=True)

    def release(self) -> None:
        """Undo `claim`; a folder that `create` made and that is still empty disappears."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None
        for folder in self._created:
            with contextlib.suppress(OSError):
                folder.rmdir()

    def contents(self) -> list[str]:
        """The files that are there, relative to the folder, in a fixed order."""
        files = (
            self.config, self.record, self.metrics, self.lineage, self.genes, self.best_master, self.best, self.last,
            self.summary, self.summary_text,
        )  # fmt: skip
        return [str(file.relative_to(self.path)) for file in files if file.exists()]

    def holds_run(self) -> bool:
        """Whether a run has written here."""
        return bool(self.contents())

    def same_as(self, other: "RunFolder | None") -> bool:
        """Whether both name the same place."""
        return other is not None and self.path.resolve() == other.path.resolve()


def find_checkpoint(name: str, run_dir: str | None) -> Path:
    """The file that `--ckpt_path` names.

    Args:
        name: A file; a run folder, for its last checkpoint; `last` or `best`, of `run_dir` or of the newest run; or
            `pretrained:NAME`, a policy that comes with the package.
        run_dir: A run folder, or None.

    Raises:
        Mistake: When there is no such file.
    """
    if not name:
        raise Mistake("ckpt_path is empty; give a checkpoint, a run folder, `last` or `best`, or leave it out")
    if name.startswith(pretrained.PREFIX):
        return pretrained.find(name.removeprefix(pretrained.PREFIX), "ckpt_path")
    given = Path(name)
    if given.is_file():
        return given
    if given.is_dir():
        candidates = [RunFolder(given).last, given / "last.ckpt"]
    elif name in ("last", "best"):
        folders = [RunFolder(Path(run_dir))] if run_dir else [_newest_run()]
        candidates = [getattr(folder, name) for folder in folders]
    else:
        raise Mistake(f"ckpt_path: {name} does not exist; give a checkpoint, a run folder, `last` or `best`")
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    unsaved = RunFolder(given).holds_run() if given.is_dir() else False
    remedy = f": that run never saved; begin it anew with fit ... --run_dir {name} --resume" if unsaved else ""
    raise Mistake(f"ckpt_path: there is no {candidates[0]}{remedy}")


def checkpoint_to_continue(run_dir: str) -> Path | None:
    """The checkpoint from which `--run_dir run_dir --resume` goes on; None where the run begins.

    Raises:
        Mistake: When the last checkpoint is gone, but another one of the run is there.
    """
    folder = RunFolder(Path(run_dir))
    if folder.last.is_file():
        return folder.last
    if folder.best.is_file():
        raise Mistake(
            f"--resume: {folder.last} is gone, {folder.best.name} is there: continue with --ckpt_path {folder.best}"
        )
    return None


def _newest_run() -> RunFolder:
    """The run that saved last."""
    checkpoints = list(RUNS.glob("**/checkpoints/last.ckpt"))
    if not checkpoints:
        raise Mistake(f"ckpt_path: there is no run with a checkpoint under {RUNS}/ here; give the file itself")
    return RunFolder(max(checkpoints, key=lambda file: file.stat().st_mtime).parent.parent)
