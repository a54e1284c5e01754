"""Checkpoints: when they are written, how they get to disk, and how they are read."""

import contextlib
import math
import os
import shutil
import time
import warnings
import zipfile
from pathlib import Path
from typing import IO, Any

import lightning as L
import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.utilities import rank_zero_info

from epo_lightning.algorithm.ties import alike, exceeds
from epo_lightning.experience.saved_state import not_finite, oversized, require_readable
from epo_lightning.limits import Mistake, require_range
from epo_lightning.modules.base import PopulationModule
from epo_lightning.run.folder import RunFolder, part_of, writing

MONITOR = "charts/episodic_return"
COVERAGE = "charts/episodic_coverage"
"""Share of the master's environments of which `MONITOR` is the mean; only of all of them it is a score."""
CONFIG_KEY = "epo_config"
"""Where a checkpoint keeps the configuration of its run, as YAML."""
SIGNATURE_KEY = "epo_signature"
"""Where it keeps the mark of that configuration (see `signature`)."""


_DOS_DIRECTORY = 0x10
_LEARNT = ("state_dict", "optimizer_states")
"""Entries that must be finite; a simulator's own state may hold NaN."""


class AtomicCheckpointIO(TorchCheckpointIO):
    """A checkpoint is either the old file or the whole new one, whatever happens in between.

    It is sound: weights, normalisers and Adam are finite, and everything reads back without running code.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: object = None) -> None:
        """Write beside `path`, force to disk, then rename.

        Raises:
            Mistake: When the checkpoint is not sound, or the file cannot be written; the old file stays.
        """
        target = Path(path)
        _require_sound(checkpoint, target)
        temporary = part_of(target)
        with writing(target):
            target.parent.mkdir(exist_ok=True)
            try:
                with temporary.open("wb") as file:
                    dump(checkpoint, file)
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(temporary, target)
            except BaseException:
                with contextlib.suppress(OSError):
                    temporary.unlink(missing_ok=True)
                raise

    def load_checkpoint(
        self, path: str | Path, map_location: object = "cpu", weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read `path`; never runs code from it."""
        return read_checkpoint(Path(path))


def dump(content: dict[str, Any], file: IO[bytes]) -> None:
    """`torch.save`; where the file system refuses, its own error instead of what torch makes of it."""
    try:
        torch.save(content, file)
    except RuntimeError as error:
        if isinstance(error.__context__, OSError):
            raise error.__context__ from None
        raise


def _require_sound(checkpoint: dict[str, Any], target: Path) -> None:
    """Refuse to write what would be refused when it is read."""
    ill = not_finite({name: checkpoint.get(name) for name in _LEARNT}, "")
    if ill:
        raise Mistake(
            f"{target} was not written at iteration {checkpoint.get('epoch', -1) + 1}: {_some(ill)} not finite. Where"
            " it is a normaliser (moments), scale the observations and rewards of data.env; otherwise lower"
            " model.optimizer.learning_rate_max or model.optimizer.max_grad_norm; then resume from the last checkpoint"
        )
    require_readable(checkpoint, "", f"{target} was not written")


def _some(names: list[str]) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{', '.join(names[:3])}{more} {'is' if len(names) == 1 else 'are'}"


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The contents of a checkpoint of this project, on the CPU.

    Raises:
        Mistake: When the file is not one, is not whole, has changed since it was written, or holds weights that are
            not finite.
    """
    try:
        _require_intact(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickle protocols; the error says enough
            checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        if isinstance(checkpoint, dict) and (wrong := oversized(checkpoint, "")):
            raise zipfile.BadZipFile(f"{wrong[0]} is larger than its storage")
    except OSError as error:
        raise Mistake(f"ckpt_path: {path} cannot be read: {error.strerror or error}") from error
    except Exception as error:  # torch raises half a dozen types for broken files
        why = str(error) if isinstance(error, zipfile.BadZipFile) else type(error).__name__
        raise Mistake(
            f"ckpt_path: {path} cannot be read: it is damaged, truncated or not a checkpoint ({why})"
        ) from error
    if not (isinstance(checkpoint, dict) and CONFIG_KEY in checkpoint):
        raise Mistake(f"ckpt_path: {path} is not a checkpoint of epo_lightning's command line")
    if ill := not_finite({name: checkpoint.get(name) for name in _LEARNT}, ""):
        raise Mistake(f"ckpt_path: {path} cannot be used: {_some(ill)} not finite; take an older checkpoint")
    return checkpoint


def _require_intact(path: Path) -> None:
    """Compare every entry of the archive with its checksum; torch itself does not.

    Raises:
        BadZipFile: When one differs, or is not as torch writes it: compressed entries could be of any size, and torch
            would read from another size or kind than Python's `zipfile` does.
    """
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        if not all(_is_plain(entry) for entry in entries):
            raise zipfile.BadZipFile("an entry is compressed or no file")
        if sum(entry.file_size for entry in entries) > path.stat().st_size:
            raise zipfile.BadZipFile("it holds more than its size")
        damaged = archive.testzip()
    if damaged is not None:
        raise zipfile.BadZipFile(f"wrong checksum of {damaged}")


def _is_plain(entry: zipfile.ZipInfo) -> bool:
    """Whether an entry is stored as it is, and marked as a file."""
    stored = entry.compress_type == zipfile.ZIP_STORED and entry.compress_size == entry.file_size
    return stored and not entry.external_attr & _DOS_DIRECTORY


class RunCheckpoints(Checkpoint):
    """Keeps `last.ckpt` and `best.ckpt` in the run folder, at ends of iterations only.

    `best` is the checkpoint with the highest `charts/episodic_return`, the master's mean return while it explores. An
    iteration has a score once every environment of the master has finished an episode, so that quick endings do not
    weigh more; a new best is saved in its own iteration, whatever the clock says. Where the task's curriculum has moved
    on since the best, the next score is the new best: returns at two difficulties do not compare.

    `last` is written first. It says which iteration is the best; when that is its own and the process ends before
    `best` is there, the next one makes it.

    Args:
        every_n_iterations: Save after every so many iterations; null saves as often as `max_share` allows.
        max_share: Share of the training time that saving may take when `every_n_iterations` is null.
    """

    def __init__(self, every_n_iterations: int | None = None, max_share: float = 0.02) -> None:
        require_range("checkpoint.max_share", max_share, 0, 1)
        if every_n_iterations is not None:
            require_range("checkpoint.every_n_iterations", every_n_iterations, 1)
        self.every_n_iterations = every_n_iterations
        self.max_share = max_share
        self.best_score = -math.inf
        self.best_iteration: int | None = None
        self.best_difficulty: dict[str, float] = {}
        self.saved_iteration: int | None = None
        self._started = 0.0
        self._seconds = self._longest = 0.0

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Bring `best` to what the restored state says, also when there is nothing left to train."""
        found = trainer.is_global_zero and self._mend_best(trainer)
        if not trainer.strategy.broadcast(found):
            if self.best_iteration is not None:
                rank_zero_info(f"best.ckpt, of iteration {self.best_iteration}, is gone: the best one begins anew")
            self.best_score, self.best_iteration = -math.inf, None

    def _mend_best(self, trainer: L.Trainer) -> bool:
        """Whether the run folder now holds the best checkpoint; in another folder it is that of the resumed run."""
        if self.best_iteration is None or trainer.ckpt_path is None:
            return False
        resumed = Path(trainer.ckpt_path)
        best = RunFolder(Path(trainer.default_root_dir)).best
        found = next((file for file in (best, resumed, resumed.with_name(best.name)) if self._is_best(file)), None)
        if found is not None and found != best:
            with writing(best):
                best.parent.mkdir(exist_ok=True)
                _link(found, best)
        return found is not None

    def _is_best(self, file: Path) -> bool:
        """Whether `file` is the checkpoint of which the state speaks."""
        try:
            checkpoint = read_checkpoint(file)
        except ValueError:
            return False
        state = checkpoint.get("callbacks", {}).get(self.state_key, {})
        iterations = checkpoint["epoch"] + 1, state.get("best_iteration")
        return iterations == (self.best_iteration,) * 2 and state["best_score"] == self.best_score

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """The clock of the saves starts; whatever cannot be saved is told before the first iteration."""
        self._started = time.monotonic()
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            require_readable(
                callback.state_dict(), f"state_dict() of {type(callback).__name__}", "see trainer.callbacks"
            )

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Runs after every other callback and the module: the iteration is complete."""
        iteration = trainer.current_epoch + 1
        metrics = trainer.callback_metrics
        score = float(metrics[MONITOR]) if metrics.get(COVERAGE, 0.0) == 1.0 else -math.inf
        is_final = trainer.should_stop or iteration == trainer.max_epochs
        difficulty = pl_module.difficulty() if isinstance(pl_module, PopulationModule) else {}
        beaten = self.best_score if alike(difficulty, self.best_difficulty) else -math.inf
        decided = exceeds(score, beaten), self._is_due(iteration), difficulty
        is_best, is_due, difficulty = trainer.strategy.broadcast(decided)
        if is_best:
            self.best_score, self.best_iteration, self.best_difficulty = score, iteration, difficulty
        if is_final or is_best or is_due:
            self._save(trainer, iteration, is_best)

    def _is_due(self, iteration: int) -> bool:
        if self.every_n_iterations is not None:
            return iteration % self.every_n_iterations == 0
        return self._seconds + self._longest <= self.max_share * (time.monotonic() - self._started)

    def _save(self, trainer: L.Trainer, iteration: int, is_best: bool) -> None:
        start = time.monotonic()
        folder = RunFolder(Path(trainer.default_root_dir))
        trainer.save_checkpoint(folder.last, weights_only=False)
        if is_best and trainer.is_global_zero:
            with writing(folder.best):
                _link(folder.last, folder.best)
        self.saved_iteration = iteration
        took = time.monotonic() - start
        self._seconds, self._longest = self._seconds + took, max(self._longest, took)

    def state_dict(self) -> dict[str, Any]:
        """The score to beat, whose it is, and at which difficulty."""
        return {
            "best_score": self.best_score,
            "best_iteration": self.best_iteration,
            "best_difficulty": self.best_difficulty,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with the score to beat of the run that is resumed."""
        self.best_score, self.best_iteration = state_dict["best_score"], state_dict.get("best_iteration")
        self.best_difficulty = dict(state_dict.get("best_difficulty", {}))


def _link(source: Path, target: Path) -> None:
    """Give `source` a second name in one step; a copy where the file system has no links."""
    temporary = part_of(target)
    temporary.unlink(missing_ok=True)
    try:
        os.link(source, temporary)
    except OSError:
        shutil.copyfile(source, temporary)
    os.replace(temporary, target)
