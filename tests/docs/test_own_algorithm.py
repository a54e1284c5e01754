"""The page on own algorithms: its code trains, learns, resumes and is evaluated, and nobody else's file runs it."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "own_algorithm.md"
NAME = "my_algorithms.A2C"


def block(language: str) -> str:
    (code,) = re.findall(rf"^```{language}\n(.*?)^```$", PAGE.read_text(), flags=re.DOTALL | re.MULTILINE)
    return str(code)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With the files of the page, and the run of its commands."""
    folder = tmp_path_factory.mktemp("reader")
    (folder / "my_algorithms.py").write_text(block("python"))
    (folder / "my_a2c.yaml").write_text(block("yaml"))
    for command in block("bash").splitlines():
        done = run(folder, *command.split()[3:])
        assert done.returncode == 0, done.stderr
    return folder


def run(folder: Path, *args: str, **environ: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "epo_lightning", *args]
    return subprocess.run(command, cwd=folder, env={**os.environ, **environ}, capture_output=True, text=True)


def test_it_learns(folder: Path) -> None:
    evaluation = json.loads((folder / "my_run/checkpoints/last.evaluation.json").read_text())
    # eight steps of -|a + 0.5 o|^2 with two entries: doing nothing pays -8 x 2 x 0.25 / 3 = -1.33
    assert evaluation["return"]["mean"] > -0.3


def test_it_resumes_with_its_own_settings_and_not_with_other_weights(folder: Path) -> None:
    more = ["--trainer.max_epochs=151", "--run_dir=more"]
    done = run(folder, "fit", "--ckpt_path=my_run", *more, "--model.learning_rate=0.001")
    assert done.returncode == 0, done.stderr
    assert "Changed on resume: model.learning_rate 0.01 -> 0.001" in done.stdout
    done = run(folder, "fit", "--ckpt_path=my_run", *more[:1], "--model.hidden=[8]")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "model.hidden" in done.stderr


def test_help_shows_its_settings(folder: Path) -> None:
    done = run(folder, "fit", "--algorithm", NAME, "--help")
    assert done.returncode == 0
    assert "--model.learning_rate" in done.stdout
    assert "--model.rollout.horizon" in done.stdout
    assert "--model.loss.clip_eps" not in done.stdout


@pytest.mark.parametrize("name", ["my_algorithms.Nothing", "nowhere.A2C", "math.sqrt", "my_algorithms.Stepper", "a2c"])
def test_what_is_no_algorithm_is_one_line(folder: Path, name: str) -> None:
    done = run(folder, "fit", "--config", "my_a2c.yaml", "--algorithm", name)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert done.stderr.startswith("error: algorithm")
    assert name in done.stderr


def test_a_strangers_checkpoint_runs_no_code(folder: Path, tmp_path: Path) -> None:
    """Another user's key: the checkpoint is nobody's own."""
    (folder / "my_algorithms.py").write_text("open('it_ran', 'w')\n" + block("python"))
    for command in ("validate", "fit", "play"):
        done = run(folder, command, "--ckpt_path=my_run", XDG_STATE_HOME=str(tmp_path))
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        assert NAME in done.stderr
        assert "--trust" in done.stderr
        assert not (folder / "it_ran").exists()
    for consent in (["--trust"], ["--algorithm", NAME]):
        done = run(folder, "validate", "--ckpt_path=my_run", *consent, XDG_STATE_HOME=str(tmp_path))
        assert done.returncode == 0, done.stderr
        assert (folder / "it_ran").exists()
        (folder / "it_ran").unlink()
