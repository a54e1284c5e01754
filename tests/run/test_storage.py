"""What a file system refuses costs one line and not the last checkpoint."""

import errno
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import pytest
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor

from epo_lightning.envs.base import StepResult
from epo_lightning.envs.classic import Probe
from epo_lightning.run.checkpoint import read_checkpoint
from tests.support.command_line import Cli

FIT = ("fit", "--config", "tiny.yaml", "--run_dir", "run", "--checkpoint.every_n_iterations", "1")


def process(*args: object, **kwargs: Any) -> subprocess.CompletedProcess[str]:
    """The command line in a process of its own, in the present folder."""
    command = [sys.executable, "-m", "epo_lightning", *map(str, args)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **kwargs}
    return subprocess.run(command, text=True, timeout=200, env=environment, check=False, **pipes)


def assert_one_line(err: str, *words: str) -> None:
    line = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(line) == 1, err
    assert "Traceback" not in err
    for word in words:
        assert word in line[0]


class Spoiler(Probe):
    """Does something to the run folder at the 9th env step, in the third iteration."""

    clock = 0

    def step(self, actions: Tensor) -> StepResult:
        self.clock += 1
        if self.clock == 9 and rank_zero_only.rank == 0:  # type: ignore[attr-defined]  # Lightning adds it
            self.spoil()
        return super().step(actions)

    def spoil(self) -> None:
        raise NotImplementedError


class DeletesFolder(Spoiler):
    """`rm -r run`."""

    def spoil(self) -> None:
        Path("run").rename("gone")


class EmptiesFolder(Spoiler):
    """`rm -r run/*`."""

    def spoil(self) -> None:
        Path("gone").mkdir()
        for path in Path("run").iterdir():
            path.rename(Path("gone", path.name))


class FillsDisk(Spoiler):
    """No file can be longer than 4 KiB from now on: rows fit, checkpoints do not."""

    def spoil(self) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))


@pytest.mark.usefixtures("cli")
@pytest.mark.parametrize(
    ("env", "words", "left"),
    [
        ("FillsDisk", ["run/checkpoints/last.ckpt cannot be written", "File too large"], "run"),
        ("EmptiesFolder", ["run/metrics.csv cannot be written", "No such file or directory"], "gone"),
        ("DeletesFolder", ["run/metrics.csv cannot be written", "No such file or directory"], "gone"),
    ],
)
def test_what_happens_while_training_leaves_the_last_checkpoint(env: str, words: list[str], left: str) -> None:
    done = process(*FIT, f"--data.env={__name__}.{env}", "--data.env.init_args.max_steps=3", "--trainer.max_epochs=9")
    assert done.returncode == 2
    assert_one_line(done.stderr, *words)
    assert read_checkpoint(Path(left, "checkpoints/last.ckpt"))["epoch"] == 1
    assert not list(Path(left).rglob("*.part"))
    assert Path("run").exists() == (left == "run")


Refuse = Callable[[str, int], None]


@pytest.fixture
def refuse(monkeypatch: pytest.MonkeyPatch) -> Refuse:
    """Let the file system refuse to open files of a name for writing, by an error without a file name, as `write`'s."""

    def refuse(name: str, number: int) -> None:
        real: Callable[..., IO[Any]] = Path.open

        def failing(self: Path, mode: str = "r", *args: Any, **kwargs: Any) -> IO[Any]:
            if self.name == name and mode != "r":
                raise OSError(number, os.strerror(number))
            return real(self, mode, *args, **kwargs)

        monkeypatch.setattr(Path, "open", failing)

    return refuse


WRITTEN = ("config.yaml", "metrics.csv", "last.ckpt", "lineage.jsonl", "profile.json")
GENETICS = """
trainer:
  max_epochs: 3
  callbacks:
    - class_path: epo_lightning.callbacks.GeneticEvolution
      init_args: {every_n_env_steps: 64, warmup_env_steps: 0, num_elites: 1, spread_threshold: 0.0}
    - class_path: epo_lightning.callbacks.NetworkScaleProfiler
"""


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES])
@pytest.mark.parametrize("name", WRITTEN)
def test_a_file_that_cannot_be_written_is_named(cli: Cli, refuse: Refuse, name: str, number: int) -> None:
    Path("genetics.yaml").write_text(GENETICS)
    for refused in (name, f".{name}.part"):
        refuse(refused, number)
    outcome = cli(*FIT, "--config", "genetics.yaml")
    assert outcome.code == 2
    assert_one_line(outcome.err, f"run/{'checkpoints/' if 'ckpt' in name else ''}{name} ", os.strerror(number))


@pytest.mark.parametrize(("command", "kind"), [("validate", "evaluation"), ("test", "test")])
def test_an_evaluation_beside_which_nothing_can_be_written_tells_its_result(
    cli: Cli, refuse: Refuse, command: str, kind: str
) -> None:
    assert cli(*FIT).code == 0
    refuse(f"last.{kind}.json", errno.EROFS)
    outcome = cli(command, "--ckpt_path", "run")
    assert outcome.code == 0
    assert "successes" in outcome.out
    assert "Written to" not in outcome.out
    assert f"notice: run/checkpoints/last.{kind}.json was not written: Read-only file system\n" in outcome.err
    assert not Path(f"run/checkpoints/last.{kind}.json").exists()


@pytest.mark.parametrize(
    "args",
    [
        ["--run_dir", "x" * 300],
        ["--run_dir", "x" * 5000],
        ["--run_dir", "tiny.yaml/run"],
        ["--run_dir", "taken"],
        ["--config", "x" * 300],
        ["--ckpt_path", "x" * 300],
        ["--run_dir", "x" * 300, "--resume"],
        ["--run_dir", "/proc/run"],
    ],
)
def test_a_name_that_cannot_be_one_is_one_line(cli: Cli, args: list[str]) -> None:
    Path("taken").mkdir()
    Path("taken/checkpoints").write_text("a file where a folder should be")
    outcome = cli("fit", "--config", "tiny.yaml", *args)
    assert outcome.code == 2
    assert_one_line(outcome.err, args[1][:100])


@pytest.mark.usefixtures("cli")
def test_a_reader_that_leaves_costs_one_line() -> None:
    """As in `fit ... | head -1`."""
    read, write = os.pipe()
    os.close(read)
    done = process(*FIT, stdout=write)
    os.close(write)
    assert done.returncode == 128 + signal.SIGPIPE
    assert_one_line(done.stderr, "standard output")
    assert "Exception ignored" not in done.stderr


@pytest.mark.usefixtures("cli")
def test_on_two_ranks_it_is_one_line_too() -> None:
    """The second rank, which would wait for the first, says nothing."""
    args = (f"--data.env={__name__}.DeletesFolder", "--data.env.init_args.max_steps=3", "--trainer.devices=2")
    done = process(*FIT, *args, "--trainer.max_epochs=9")
    assert done.returncode == 2
    assert_one_line(done.stderr, "run/", "cannot be written", "No such file or directory")
