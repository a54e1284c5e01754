"""The tests as other machines run them, one variant after the other: `make portable`.

    python -m tests.support.portable                    every variant
    python -m tests.support.portable avx2 thread        those whose name contains one of these words
    PYTEST_ADDOPTS=tests/algorithm/test_losses.py ...   of a part of the tests

Numbers may differ in their last bits between these runs, but no test may.
"""

import argparse
import os
import random
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
TESTS = [sys.executable, "-m", "pytest"]


class Variant(NamedTuple):
    """A way to run the tests.

    Attributes:
        name: What differs.
        variables: Environment variables, in addition to the caller's.
        options: Of pytest.
        alone: With these variables only.
        start: Run in the new process before the tests.
    """

    name: str
    variables: dict[str, str] = {}  # noqa: RUF012  (a default of a NamedTuple, never changed)
    options: tuple[str, ...] = ()
    alone: bool = False
    start: Callable[[], None] | None = None


def one_core() -> None:
    """Stay on the first core that this process may use."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


def variants(home: Path) -> Iterator[Variant]:
    """All that this machine can run; `home` is an empty folder."""
    yield Variant("torch without vector instructions", {"ATEN_CPU_CAPABILITY": "default"})
    yield Variant("torch with avx2", {"ATEN_CPU_CAPABILITY": "avx2"})
    yield Variant("mkl compatible with any processor", {"MKL_CBWR": "COMPATIBLE"})
    yield Variant("onednn with sse41", {"ONEDNN_MAX_CPU_ISA": "SSE41"})
    yield Variant("one thread", {"OMP_NUM_THREADS": "1"})
    yield Variant("two threads", {"OMP_NUM_THREADS": "2"})
    if hasattr(os, "sched_setaffinity"):
        yield Variant("one core", start=one_core)
    seed = random.randrange(10_000)
    yield Variant("random order", options=("--random-order", f"--random-order-seed={seed}"))
    needed = {name: os.environ[name] for name in ("PATH", "PYTHONPATH", "PYTEST_ADDOPTS") if name in os.environ}
    yield Variant("a bare environment", needed | {"HOME": str(home), "LC_ALL": "C"}, alone=True)
    left = {"EPO_DEBUG": "1", "WANDB_MODE": "disabled", "WANDB_PROJECT": "other", "TZ": "Pacific/Kiritimati"}
    yield Variant("leftovers in the environment", left | {"COLUMNS": "40", "FORCE_COLOR": "1", "PYTHONUTF8": "0"})
    # Slow: every operation passes through Python
    yield Variant("last bits that depend on place and size", options=("-p", "tests.support.last_bits"))


def run(command: list[str], folder: Path, variant: Variant) -> bool:
    """Whether `command` succeeds in `folder`."""
    said = " ".join([f"{name}={shlex.quote(value)}" for name, value in variant.variables.items()])
    print(f"\n=== {variant.name}: {said} {shlex.join(command)}", flush=True)
    environment = ({} if variant.alone else dict(os.environ)) | variant.variables
    return subprocess.run(command, cwd=folder, env=environment, preexec_fn=variant.start, check=False).returncode == 0


@contextmanager
def copy_with_a_space() -> Iterator[Path]:
    """A copy of what git knows, or would add, in a folder whose path has spaces."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    files = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    with tempfile.TemporaryDirectory(prefix="a path with spaces ") as folder:
        target = Path(folder, "epo lightning")
        for file in filter(None, files):
            if (ROOT / file).exists():
                (target / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / file, target / file, follow_symlinks=False)
        yield target


def main() -> int:
    """Run the variants; returns 1 when one of them failed."""
    parser = argparse.ArgumentParser(description="The tests as other machines run them.")
    parser.add_argument("words", nargs="*", help="only variants whose name contains one of these")
    words = parser.parse_args().words
    results: dict[str, bool] = {}
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as home:
        for variant in variants(Path(home)):
            if not words or any(word in variant.name for word in words):
                results[variant.name] = run([*TESTS, *variant.options], ROOT, variant)
    space = Variant("a path with spaces")
    if not words or any(word in space.name for word in words):
        with copy_with_a_space() as folder:
            results[space.name] = run(["make", "test", f"PYTHON={sys.executable}"], folder, space)
    print(f"\n{len(results)} variants in {(time.monotonic() - start) / 60:.0f} min on Python {sys.version.split()[0]}")
    for name, passed in results.items():
        print(f"{'passed' if passed else 'FAILED'}  {name}")
    return 0 if results and all(results.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
