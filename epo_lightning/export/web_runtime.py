"""What a page runs on: packages of npm, each one pinned version, checked and copied next to the page."""

import base64
import hashlib
import os
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import NamedTuple

from epo_lightning.limits import Mistake


class Package(NamedTuple):
    """One version of a package of npm.

    Attributes:
        name: As npm calls it.
        version: Of it.
        sha512: Of the archive, in base64, as npm tells it.
        files: What a page needs of it.
        notice: Name of the note that says whose they are.
        license: What the note says.
    """

    name: str
    version: str
    sha512: str
    files: tuple[str, ...]
    notice: str
    license: str

    @property
    def spec(self) -> str:
        """Name and version."""
        return f"{self.name}@{self.version}"

    @property
    def archive(self) -> str:
        """Name of the file that `npm pack` makes."""
        return f"{self.name.removeprefix('@').replace('/', '-')}-{self.version}.tgz"

    @property
    def names(self) -> tuple[str, ...]:
        """Of the files, where they lie beside the page."""
        return tuple(Path(file).name for file in self.files)


ONNX = Package(
    "onnxruntime-web",
    "1.22.0",
    "Ud/+EBo6mhuaQWt/OjaOk0iNWjXqJoeeMFr6xQEERZdIZH2OWpGzuujz7lfuOBjUa6TEE/sc4nb7Da5dNL34fg==",
    ("dist/ort.wasm.min.mjs", "dist/ort-wasm-simd-threaded.mjs", "dist/ort-wasm-simd-threaded.wasm"),
    "ONNX_RUNTIME.txt",
    "Copyright (c) Microsoft Corporation, MIT License:\nhttps://github.com/microsoft/onnxruntime/blob/v1.22.0/LICENSE",
)
"""What runs ONNX; the files are those for a browser without a graphics processor."""
MUJOCO = Package(
    "@mujoco/mujoco",
    "3.14.0",
    "WPUYidu4Fx8+uM4hQv80SOA0ifpWGrsNJguKs8JBV8SCTxjKQ2/rqsh880nUH0/Vwa8vuefghvCQkkoed3bkUg==",
    ("mujoco.js", "mujoco.wasm"),
    "MUJOCO.txt",
    "Copyright DeepMind Technologies Limited, Apache License 2.0:\n"
    "https://github.com/google-deepmind/mujoco/blob/3.14.0/LICENSE",
)
"""MuJoCo's own build for browsers, with one thread."""
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


def fetched(package: Package) -> Path:
    """The archive of `package`, from the cache or by npm.

    Raises:
        Mistake: When it cannot be had, or is not what it should be.
    """
    archive = cache() / package.archive
    if not archive.is_file():
        _download(package, archive.parent)
    told = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
    if told != package.sha512:
        raise Mistake(f"--web: {archive} is not {package.spec} as it was published (its checksum differs): delete it")
    return archive


def _download(package: Package, folder: Path) -> None:
    archive, spec = package.archive, package.spec
    by_hand = f"where there is a network run `npm pack {spec}`, and put {archive} into {folder}"
    npm = shutil.which("npm")
    if npm is None:
        raise Mistake(f"--web needs {spec}, and there is no npm to fetch it: {by_hand}")
    part = folder / f".{archive}.{os.getpid()}"
    try:
        part.mkdir(parents=True, exist_ok=True)
        words = [npm, "pack", spec, "--silent", f"--pack-destination={part}"]
        done = subprocess.run(words, cwd=part, capture_output=True, text=True, timeout=_SECONDS)
        if done.returncode != 0:
            why = next(iter(done.stderr.strip().splitlines()), f"npm ended with {done.returncode}")
            raise Mistake(f"--web: {spec} cannot be fetched ({why}): {by_hand}")
        os.replace(part / archive, folder / archive)
    except subprocess.TimeoutExpired:
        raise Mistake(f"--web: {spec} cannot be fetched (npm is silent): {by_hand}") from None
    except OSError as error:
        raise Mistake(f"--web: {folder} cannot be written ({error.strerror})") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def copy_package(package: Package, folder: Path) -> None:
    """Put the files of `package` and a note of whose they are into `folder`.

    Raises:
        Mistake: See `fetched`.
    """
    with tarfile.open(fetched(package)) as archive:
        for file, name in zip(package.files, package.names, strict=True):
            member = archive.extractfile(f"package/{file}")
            assert member is not None
            with member, (folder / name).open("wb") as target:
                shutil.copyfileobj(member, target)
    whose = f"https://www.npmjs.com/package/{package.name}, {package.license}"
    notice = f"{', '.join(package.names)} are files of {package.name} {package.version},\n{whose}\n"
    (folder / package.notice).write_text(notice, encoding="utf-8")
