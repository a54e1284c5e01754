"""Checkpoints: how they get to disk, and how they are read."""

import contextlib
import hashlib
import os
import warnings
import zipfile
from pathlib import Path
from typing import IO, Any

import lightning as L
import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO

from epo_lightning.experience.saved_state import not_finite, oversized, require_readable
from epo_lightning.limits import Mistake
from epo_lightning.modules import contents
from epo_lightning.run.folder import part_of, writing

_DOS_DIRECTORY = 0x10
_FINGERPRINT = 16
_LEARNT = ("state_dict", "optimizer_states")
"""Entries that must be finite; a simulator's own state may hold NaN."""


class AtomicCheckpointIO(TorchCheckpointIO):
    """A checkpoint is either the old file or the whole new one, whatever happens in between.

    It is sound: weights, normalisers and Adam are finite, and everything reads back without running code.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: list[str] | None = None
    ) -> None:
        """Write next to `path`, force to disk, then rename.

        Args:
            checkpoint: Its contents.
            path: The file.
            storage_options: Where a mistake is noted instead of raised: the other ranks wait for this one (see `save`).

        Raises:
            Mistake: When the checkpoint is not sound, or the file cannot be written; the old file stays.
        """
        try:
            self._write(checkpoint, Path(path))
        except Mistake as fault:
            if storage_options is None:
                raise
            storage_options.append(str(fault))

    @staticmethod
    def _write(checkpoint: dict[str, Any], target: Path) -> None:
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


def save(trainer: L.Trainer, path: Path) -> None:
    """Write a checkpoint; what keeps the first rank from writing stops all of them, by the same line.

    Raises:
        Mistake: When the checkpoint cannot or must not be written.
    """
    faults: list[str] = []
    notes = isinstance(trainer.strategy.checkpoint_io, AtomicCheckpointIO)
    trainer.save_checkpoint(path, weights_only=False, storage_options=faults if notes else None)
    faults = trainer.strategy.broadcast(faults)
    if faults:
        raise Mistake(faults[0])


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
    wrong = not_finite({name: checkpoint.get(name) for name in _LEARNT}, "")
    if wrong:
        raise Mistake(
            f"{target} was not written at iteration {checkpoint.get('epoch', -1) + 1}: {_some(wrong)} not finite. Where"
            " it is a normaliser (moments), scale the observations and rewards of data.env; otherwise lower the"
            " learning rate or the max_grad_norm of model.optimizer; then resume from the last checkpoint"
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
    if not (isinstance(checkpoint, dict) and contents.CONFIG in checkpoint):
        raise Mistake(f"ckpt_path: {path} is not a checkpoint of epo_lightning's command line")
    if wrong := not_finite({name: checkpoint.get(name) for name in _LEARNT}, ""):
        raise Mistake(f"ckpt_path: {path} cannot be used: {_some(wrong)} not finite; take an older checkpoint")
    return checkpoint


def fingerprint(path: Path) -> str:
    """Of what a checkpoint holds, by the checksums of its parts: the same for every copy of the file."""
    with zipfile.ZipFile(path) as archive:
        parts = [(entry.filename.partition("/")[2], entry.CRC, entry.file_size) for entry in archive.infolist()]
    return hashlib.sha256(repr(sorted(parts)).encode()).hexdigest()[:_FINGERPRINT]


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
