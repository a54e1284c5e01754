"""What every test finds: a clean environment, and the real `main` in a folder of its own."""

import csv
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import lightning  # noqa: F401  (its log handler keeps the stderr of its first import: not one of a single test)
import pytest

from epo_lightning.cli.entry import main
from epo_lightning.modules import ALGORITHMS
from tests.support.command_line import TINY, Cli, Outcome, Rows


@pytest.fixture(autouse=True, scope="session")
def state_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The key of this user's checkpoints: not the one in the home folder."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("state")
        patch.setenv("XDG_STATE_HOME", str(folder))
        yield folder


@contextmanager
def restored_environment() -> Iterator[None]:
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(autouse=True)
def environment() -> Iterator[None]:
    """A run of several ranks leaves LOCAL_RANK and the like: not for the next test and its processes."""
    with restored_environment():
        yield


@pytest.fixture(autouse=True, scope="module")
def environment_of_a_file() -> Iterator[None]:
    """What a fixture of a file leaves, such as a logger's service, is not for the next file of the same process."""
    with restored_environment():
        yield


@pytest.fixture(autouse=True)
def algorithms() -> Iterator[None]:
    """An algorithm of a user's own stays admitted as long as a process lives: not for the next test."""
    before = dict(ALGORITHMS)
    yield
    ALGORITHMS.clear()
    ALGORITHMS.update(before)


def pytest_configure() -> None:
    """What the caller's shell has set changes neither a test nor the processes that it starts."""
    for name in list(os.environ):
        if name == "EPO_DEBUG" or name.startswith("WANDB_"):
            del os.environ[name]
    # `nohup` and a script's `&` start processes that ignore these, and so would every process of a test
    for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, handler)


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    """`epo-lightning` in an empty folder with a `tiny.yaml`."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.yaml").write_text(TINY)

    def run(*args: object) -> Outcome:
        capsys.readouterr()
        code = main([str(arg) for arg in args])
        return Outcome(code, *capsys.readouterr())

    return run


@pytest.fixture
def rows() -> Rows:
    """The rows of a run folder's `metrics.csv` without what a clock measured."""

    def read(folder: Path) -> list[dict[str, str]]:
        with (folder / "metrics.csv").open(newline="") as file:
            return [
                {name: value for name, value in row.items() if not name.startswith("time/") and name != "charts/sps"}
                for row in csv.DictReader(file)
            ]

    return read
