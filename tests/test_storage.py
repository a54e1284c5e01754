"""What a file system refuses costs one line and not the last checkpoint."""

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from epo_lightning.checkpoint import read_checkpoint
from epo_lightning.envs.base import StepResult
from epo_lightning.envs.classic import Probe

FIT = ("fit", "--config", "tiny.yaml", "--run_dir", "run", "--checkpoint.every_n_iterations", "1")


def process(*args: str, **kwargs: object) -> subprocess.CompletedProcess[str]:
    """The command line in a process of its own."""
    command = [sys.executable, "-m", "epo_lightning", *map(str, args)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        command, text=True, timeout=200, env=environment, check=False, stdin=subprocess.DEVNULL,
        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **kwargs},
    )  # fmt: skip


def assert_one_line(err: str, *words: str) -> None:
    line = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(line) == 1, err
    assert "Traceback" not in err
    for word in words:
        assert word in line[0]


class Spoiler(Probe):
    """Does something to the run folder at the 9th env step, in the third iteration."""

    clock = 0

    def step(self, actions) -> StepResult:
        self.clock += 1
        if self.clock == 9:
            self.spoil()
        return super().step(actions)

    def spoil(self) -> None:
        raise NotImplementedError


class DeletesFolder(Spoiler):
    """`rm -r run`."""

    def spoil(self) -> None:
        Path("run").rename("gone")


class FillsDisk(Spoiler):
    """No file can be longer than 4 KiB from now on: rows fit, checkpoints do not."""

    def spoil(self) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))


@pytest.mark.parametrize(
    ("env", "words", "left"),
    [
        ("FillsDisk", ["run/checkpoints/last.ckpt cannot be written", "File too large"], "run"),
        ("DeletesFolder", ["run/metrics.csv cannot be written", "No such file or directory"], "gone"),
    ],
)
def test_what_happens_while_training_leaves_the_last_checkpoint(cli, rows, env, words, left):
    done = process(*FIT, f"--data.env={__name__}.{env}", "--data.env.init_args.max_steps=3", "--trainer.max_epochs=9",
                   cwd=Path.cwd(), env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})  # fmt: skip
    assert done.returncode == 2
    assert_one_line(done.stderr, *words)
    assert read_checkpoint(Path(left, "checkpoints/last.ckpt"))["epoch"] == 1
    assert not list(Path(left).rglob("*.part"))
    assert Path("run").exists() == (left == "run")


def no_space(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Writing to a file called `name` fails as on a full disk."""
    real = Path.open

    def failing(self, mode="r", *args, **kwargs):
        if self.name == name and mode != "r":
            self.write_bytes(b"")
            raise OSError(28, "No space left on device")
        return real(self, mode, *args, **kwargs)

    monkeypatch.setattr(Path, "open", failing)


@pytest.mark.parametrize(
    "name", ["metrics.csv", ".metrics.csv.part", ".config.yaml.part", ".last.ckpt.part", "lineage.jsonl"]
)
def test_a_full_disk_is_one_line_that_names_the_file(cli, monkeypatch, name):
    evolution = "--trainer.callbacks=epo_lightning.callbacks.GeneticEvolution"
    genetics = (evolution, "--trainer.callbacks.every_n_env_steps=64", "--trainer.callbacks.warmup_env_steps=0",
                "--trainer.callbacks.num_elites=1", "--trainer.callbacks.spread_threshold=0")  # fmt: skip
    real = Path.write_text
    no_space(monkeypatch, name)
    monkeypatch.setattr(Path, "write_bytes", lambda self, data: real(self, data.decode()) if False else None)
    outcome = cli(*FIT, *genetics, "--trainer.max_epochs=3")
    assert outcome.code == 2
    assert_one_line(outcome.err, "No space left on device", name.removesuffix(".part").lstrip("."))
