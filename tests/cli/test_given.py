"""What a command line gives: no flag is taken back by a file behind it without a word."""

from pathlib import Path

import pytest

from epo_lightning.cli.given import require_flags_behind_files
from epo_lightning.limits import Mistake

OVERLAY = """\
base: wall_maze
run_dir: runs/mine
model:
  loss: {clip_eps: 0.1}
  optimizer: optimizer.yaml
data.num_envs: 64
trainer:
  callbacks: [{class_path: NaNGuard}]
"""


@pytest.fixture
def overlay(tmp_path: Path) -> str:
    """A file with a base."""
    path = tmp_path / "overlay.yaml"
    path.write_text(OVERLAY)
    return str(path)


@pytest.mark.parametrize(
    "flag",
    [
        "--model.loss.clip_eps=0.2",
        "--model.loss={clip_eps: 0.2}",
        "--model.optimizer.learning_rate=0.1",
        "--data.num_envs=32",
        "--data.env=TwoGoals",
        "--data.env.init_args.difficulty=hard",
        "--trainer.callbacks+=NaNGuard",
        "--trainer.callbacks.GeneticEvolution.num_elites=1",
        "--trainer.max_epochs=1",
        "--run_dir=runs/another",
        "--seed_everything=4",
    ],
    ids=lambda flag: flag.partition("=")[0].lstrip("-"),
)
def test_a_flag_that_a_file_behind_it_takes_back_is_refused(overlay: str, flag: str) -> None:
    name, _, value = flag.partition("=")
    for words in (
        [flag, "--config", overlay],
        [name, value, f"--config={overlay}"],
        ["-c", "ppo", flag, "-c", overlay],
    ):
        with pytest.raises(Mistake, match=rf"^{name.replace('+', '.')}.? stands before --config {overlay}, .*behind"):
            require_flags_behind_files(["fit", *words])
    require_flags_behind_files(["fit", "--config", overlay, flag])


@pytest.mark.parametrize(
    "flag",
    ["--model.loss.gamma=0.9", "--data.num_envs=64", "--trainer.devices=1", "--resume", "--trust", "--seconds=3"],
)
def test_a_flag_that_no_file_touches_may_stand_anywhere(overlay: str, flag: str) -> None:
    require_flags_behind_files(["fit", flag, "--config", overlay])
