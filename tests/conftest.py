"""What tests of the command line share: a tiny run, and the real `main` in a folder of its own."""

import csv
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import lightning  # noqa: F401  (its log handler keeps the stderr of its first import: not one of a single test)
import pytest

from epo_lightning.cli.entry import main

TINY = """
model:
  num_agents: 4
  network: {gene_dim: 3, hidden: [8]}
data:
  env: {class_path: epo_lightning.envs.classic.Probe, init_args: {max_steps: 3}}
  num_envs: 16
  eval_episodes: 8
  eval_envs: 4
  rollout: {horizon: 4, num_epochs: 1, num_minibatches: 2}
trainer: {accelerator: cpu, devices: 1, max_epochs: 2}
"""


@pytest.fixture(autouse=True, scope="session")
def state_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The key of this user's checkpoints: not the one in the home folder."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("state")
        patch.setenv("XDG_STATE_HOME", str(folder))
        yield folder


def pytest_configure() -> None:
    """What the caller's shell has set changes neither a test nor the processes that it starts."""
    for name in list(os.environ):
        if name == "EPO_DEBUG" or name.startswith("WANDB_"):
            del os.environ[name]
    # `nohup` and a script's `&` start processes that ignore these, and so would every process of a test
    for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, handler)


class Outcome(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """`epo-lightning` in an empty folder with a `tiny.yaml`."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.yaml").write_text(TINY)

    def run(*args: str) -> Outcome:
        capsys.readouterr()
        code = main([str(arg) for arg in args])
        return Outcome(code, *capsys.readouterr())

    return run


@pytest.fixture
def rows() -> Callable[[Path], list[dict[str, str]]]:
    """The rows of a run folder's `metrics.csv` without what a clock measured."""

    def read(folder: Path) -> list[dict[str, str]]:
        with (folder / "metrics.csv").open(newline="") as file:
            return [
                {name: value for name, value in row.items() if not name.startswith("time/") and name != "charts/sps"}
                for row in csv.DictReader(file)
            ]

    return read
