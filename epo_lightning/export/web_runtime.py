"""What runs ONNX in a browser: onnxruntime-web of npm, one pinned version, checked and copied next to the page."""

import base64
import hashlib
import os
import shutil
import subprocess
import tarfile
from pathlib import Path

from epo_lightning.limits import Mistake

VERSION = "1.22.0"
PACKAGE = f"onnxruntime-web@{VERSION}"
ARCHIVE = f"onnxruntime-web-{VERSION}.tgz"
SHA512 = "Ud/+EBo6mhuaQWt/OjaOk0iNWjXqJoeeMFr6xQEERZdIZH2OWpGzuujz7lfuOBjUa6TEE/sc4nb7Da5dNL34fg=="
"""Of the archive, in base64, as npm tells it."""
FILES = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
"""Those of its `dist` that a page needs without a graphics processor."""
NOTICE = "ONNX_RUNTIME.txt"
_NOTICE = f"""\
{", ".join(FILES)} are files of onnxruntime-web {VERSION},
https://www.npmjs.com/package/onnxruntime-web, Copyright (c) Microsoft Corporation, MIT License:
https://github.com/microsoft/onnxruntime/blob/v{VERSION}/LICENSE
"""
_NODE = 18
_SECONDS = 300


def require_node() -> str:
    """Where Node.js is, which compares a page with the run before it is handed out.

    Raises:
        Mistake: When it is missing, or too old.
    """
    found = shutil.which("node")
    said = subprocess.run([found, "--version"], capture_output=True, text=True).stdout.strip() if found else ""
    major = said.removeprefix("v").split(".")[0]
    if not found or not major.isdigit() or int(major) < _NODE:
        raise Mistake(f"--web needs Node.js {_NODE} or newer to check the page, found {said or 'none'}: nodejs.org")
    return found


def cache() -> Path:
    """Where the archive is kept for the next page."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "epo_lightning"


def fetched() -> Path:
    """The archive, from the cache or by npm.

    Raises:
        Mistake: When it cannot be had, or is not what it should be.
    """
    archive = cache() / ARCHIVE
    if not archive.is_file():
        _download(archive.parent)
    told = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
    if told != SHA512:
        raise Mistake(f"--web: {archive} is not {PACKAGE} as it was published (its checksum differs): delete it")
    return archive


def _download(folder: Path) -> None:
    by_hand = f"where there is a network run `npm pack {PACKAGE}`, and put {ARCHIVE} into {folder}"
    npm = shutil.which("npm")
    if npm is None:
        raise Mistake(f"--web needs {PACKAGE}, and there is no npm to fetch it: {by_hand}")
    part = folder / f".{ARCHIVE}.{os.getpid()}"
    try:
        part.mkdir(parents=True, exist_ok=True)
        words = [npm, "pack", PACKAGE, "--silent", f"--pack-destination={part}"]
        done = subprocess.run(words, cwd=part, capture_output=True, text=True, timeout=_SECONDS)
        if done.returncode != 0:
            why = next(iter(done.stderr.strip().splitlines()), f"npm ended with {done.returncode}")
            raise Mistake(f"--web: {PACKAGE} cannot be fetched ({why}): {by_hand}")
        os.replace(part / ARCHIVE, folder / ARCHIVE)
    except subprocess.TimeoutExpired:
        raise Mistake(f"--web: {PACKAGE} cannot be fetched (npm is silent): {by_hand}") from None
    except OSError as error:
        raise Mistake(f"--web: {folder} cannot be written ({error.strerror})") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def copy_runtime(folder: Path) -> None:
    """Put `FILES` and a note of whose they are into `folder`.

    Raises:
        Mistake: See `fetched`.
    """
    with tarfile.open(fetched()) as archive:
        for name in FILES:
            member = archive.extractfile(f"package/dist/{name}")
            assert member is not None
            with member, (folder / name).open("wb") as file:
                shutil.copyfileobj(member, file)
    (folder / NOTICE).write_text(_NOTICE, encoding="utf-8")
