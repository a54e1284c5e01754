"""Where an export goes: it appears when it is whole, and takes the place of an older export only."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from epo_lightning.export.formats import FILES
from epo_lightning.limits import Mistake
from epo_lightning.run.folder import part_of, writing
from epo_runtime.folder import FORMAT, MANIFEST

PARITY = "parity.json"
INDEX, PAGE = "index.html", "page"
"""What a page is opened by, and the folder of everything else that it needs."""
_OURS = {MANIFEST, PARITY, INDEX, PAGE, *FILES.values()}


def require_free(out: Path) -> None:
    """Refuse a place that holds anything but an export.

    Raises:
        Mistake: Naming what is there.
    """
    if out.is_symlink():
        raise Mistake(f"--out: {out} is a link: name the folder that it leads to")
    if out.is_dir():
        names = sorted(path.name for path in out.iterdir())
        if foreign := next((name for name in names if name not in _OURS), None):
            raise Mistake(f"--out: {out} holds {foreign}, which is no part of an export: name another folder")
        if names and not _is_export(out / MANIFEST):
            raise Mistake(f"--out: {out} is not empty, and no export: name another folder")
    elif out.exists():
        raise Mistake(f"--out: {out} is no folder: name another one")


def _is_export(manifest: Path) -> bool:
    try:
        return f"format: {FORMAT}\n" in manifest.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return False


@contextlib.contextmanager
def filled(out: Path) -> Iterator[Path]:
    """A folder to write into, which becomes `out` at the end; where anything goes wrong, `out` is what it was.

    Raises:
        Mistake: When it cannot be written.
    """
    require_free(out)
    part, old = part_of(out), out.with_name(f".{out.name}.old")
    with writing(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        for rest in (part, old):  # of a process that was killed
            shutil.rmtree(rest, ignore_errors=True)
        part.mkdir()
    try:
        yield part
        with writing(out):
            if out.exists():
                os.replace(out, old)
            os.replace(part, out)
    finally:
        shutil.rmtree(part, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
