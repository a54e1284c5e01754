"""Every Allegro-Kuka configuration trains and is tested: tiny in every run, at a laptop's size in `make nightly`."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.command_line import Cli, Rows

ROOT = Path(__file__).parents[2]
CONFIGS = (
    "single_arm_regrasp",
    "single_arm_throw",
    "single_arm_reorient",
    "two_arm_regrasp",
    "two_arm",
    "two_arm_partition",
    "two_arm_hole",
    "two_arm_barrier",
)
TINY = (
    "--model.network.hidden=[8]",
    "--model.network.gene_dim=3",
    "--data.num_envs=16",
    "--model.rollout.horizon=4",
    "--model.rollout.num_epochs=1",
    "--model.rollout.num_minibatches=2",
    "--data.eval_envs=4",
    "--data.env.init_args.threads=2",
    "--trainer.accelerator=cpu",
    "--trainer.enable_progress_bar=false",
)


def check_run(run: Path, iterations: int, rows: list[dict[str, str]]) -> None:
    """A training of `iterations` that learnt something finite, and whose simulations did not blow up."""
    assert len(rows) == iterations
    assert (run / "checkpoints" / "last.ckpt").is_file()
    values = {name: [float(row[name] or "nan") for row in rows] for name in rows[0]}
    told = [name for name in values if name.startswith(("losses/", "env/"))]
    assert [name for name in told if not all(map(math.isfinite, values[name]))] == []
    assert values["env/physics_resets"] == [0] * iterations
    assert values["env/true_objective"][0] == (1 if "throw" in run.name else 0)  # nobody has had a success


def check_test(run: Path, task: str, episodes: int) -> None:
    """A report of `test` with as many episodes as were wanted."""
    report = json.loads((run / "checkpoints" / "last.test.json").read_text())
    assert report["task"] == f"AllegroKuka/{task}"
    assert report["episodes"] == episodes
    assert math.isfinite(report["return"]["mean"])


@pytest.mark.parametrize("config", CONFIGS)
def test_tiny_training_and_test(cli: Cli, rows: Rows, config: str) -> None:
    run = Path(f"run_{config}")
    fit = cli("fit", "--config", config, "--config", "laptop", *TINY, "--trainer.max_epochs=2", "--run_dir", run)
    assert fit.code == 0, fit.err
    check_run(run, 2, rows(run))
    test = cli("test", "--ckpt_path", run, "--data.eval_episodes=4", "--data.eval_seeds=1")
    assert test.code == 0, test.err
    check_test(run, config, 4)


# ---------------------------------------------------------------------------------------------------------- nightly


def start(*args: object) -> subprocess.CompletedProcess[str]:
    """`python -m epo_lightning` in the repository's root."""
    line = [sys.executable, "-m", "epo_lightning", *map(str, args)]
    return subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=500)


def command(*args: object) -> str:
    """What a command prints that must succeed."""
    result = start(*args)
    assert result.returncode == 0, f"{args}\n{result.stdout}\n{result.stderr}"
    return result.stdout


@pytest.fixture(scope="module", params=CONFIGS)
def laptop_run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of three iterations at the size of the overlay `laptop`."""
    config = str(request.param)
    run = tmp_path_factory.mktemp("nightly") / f"run_{request.param}"
    command(
        *("fit", "--config", config, "--config", "laptop", "--run_dir", run),
        *("--trainer.max_epochs=3", "--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false"),
    )
    return run


@pytest.mark.slow
def test_laptop_training_and_test(laptop_run: Path, rows: Rows) -> None:
    check_run(laptop_run, 3, rows(laptop_run))
    out = command(
        "test", "--ckpt_path", laptop_run, "--data.eval_envs=4", "--data.eval_episodes=4", "--data.eval_seeds=2"
    )
    task = laptop_run.name.removeprefix("run_")
    assert f"AllegroKuka/{task}: 8 episodes of the master" in out
    check_test(laptop_run, task, 8)


@pytest.mark.slow
def test_laptop_film(laptop_run: Path) -> None:
    film = laptop_run / "videos" / "film.mp4"
    play = start("play", "--ckpt_path", laptop_run, "--agents=0,1", "--seconds=1", "--out", film)
    if any(words in play.stderr for words in ("this machine cannot draw", "videos need an extra")):
        pytest.skip(f"no film of {laptop_run.name}: {play.stderr.splitlines()[-1]}")
    assert play.returncode == 0, play.stderr
    assert "master" in play.stdout
    assert film.read_bytes()[4:8] == b"ftyp"
