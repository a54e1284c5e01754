"""A configuration that names another algorithm lies over a task: it begins `model` anew, and keeps the rest."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from epo_lightning.cli.algorithm import replaced_files
from tests.support.command_line import Cli

SAC = """
algorithm: sac
model:
  network: {actor: [8], critic: [8], atoms: null}
  replay: {capacity_per_env: 20, batch_size: 8, warmup: 1, horizon: 4}
trainer:
  callbacks: [NaNGuard]
"""


@pytest.fixture
def over(cli: Cli) -> Cli:
    """The command line beside `tiny.yaml` of several agents, which names no algorithm, and `over.yaml`, which does."""
    Path("over.yaml").write_text(SAC)
    return cli


def resolved(cli: Cli, capsys: pytest.CaptureFixture[str], *args: str) -> dict[str, Any]:
    with pytest.raises(SystemExit, match="0"):
        cli("fit", *args, "--print_config")
    config: dict[str, Any] = yaml.safe_load(capsys.readouterr().out)
    return config


def test_only_what_is_said_of_model_gives_way(over: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    plain, both = [resolved(over, capsys, "--config", "tiny.yaml", *more) for more in ((), ("--config", "over.yaml"))]
    assert plain["algorithm"] == "epo"
    assert both["algorithm"] == "sac"
    assert both["data"] == plain["data"]
    assert both["model"]["network"]["actor"] == [8]
    assert both["model"]["optimizer"]["learning_rate"] == 3e-4  # the default, not that of tiny.yaml's algorithm
    assert resolved(over, capsys, "--config=tiny.yaml", "--config=over.yaml") == both


def test_it_trains_resumes_and_is_evaluated(over: Cli) -> None:
    command = ("fit", "--config", "tiny.yaml", "--config", "over.yaml", "--run_dir", "run", "--resume")
    assert over(*command, "--trainer.max_epochs=1").code == 0
    again = over(*command, "--trainer.max_epochs=2")
    assert again.code == 0, again.err
    assert "Changed on resume: trainer.max_epochs 1 -> 2" in again.out + again.err
    assert over("validate", "--ckpt_path", "run").code == 0


def test_a_file_of_the_same_algorithm_is_an_overlay(over: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    Path("more.yaml").write_text("algorithm: sac\nmodel: {loss: {gamma: 0.5}}\n")
    Path("less.yaml").write_text("model: {loss: {tau: 0.5}}\n")
    files = [f"--config={name}.yaml" for name in ("tiny", "over", "more", "less")]
    config = resolved(over, capsys, *files)
    assert config["model"]["network"]["actor"] == [8]
    assert (config["model"]["loss"]["gamma"], config["model"]["loss"]["tau"]) == (0.5, 0.5)
    assert [replaced_files(["fit", *files[:count]]) for count in range(5)] == [0, 0, 1, 1, 1]


def test_a_base_gives_way_as_a_file_before_does(over: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    Path("whole.yaml").write_text(f"base: tiny.yaml\n{SAC}")
    assert resolved(over, capsys, "--config", "whole.yaml")["algorithm"] == "sac"


def test_a_flag_that_chooses_takes_nothing_away(over: Cli) -> None:
    outcome = over("fit", "--config", "tiny.yaml", "--algorithm", "sac")
    assert outcome.code == 2
    assert "is a setting of the algorithm epo, and this one is sac" in outcome.err


def test_a_setting_that_is_wrong_is_still_told(over: Cli) -> None:
    files = ("--config", "tiny.yaml", "--config", "over.yaml")
    outcome = over("fit", *files, "--model.loss.clip_eps=0.1")
    assert (outcome.code, outcome.err) == (
        2,
        "error: model.loss.clip_eps is a setting of the algorithm epo, and this one is sac: leave it out, or choose by"
        " --algorithm epo\n",
    )
    assert over("fit", *files, "--model.loss.gama=0.1").err == (
        "error: fit: --model.loss.gama is not a flag (did you mean --model.loss.gamma?)\n"
    )


def test_nothing_gives_way_that_was_meant_for_it(over: Cli) -> None:
    Path("mine.yaml").write_text("model: {loss: {target_entropy: -1}}\n")
    outcome = over("fit", "--config", "tiny.yaml", "--config", "mine.yaml", "--config", "over.yaml")
    assert (outcome.code, outcome.err) == (
        2,
        "error: config: mine.yaml: model.loss.target_entropy is a setting of the algorithm sac, but by its silence this"
        " file is of epo, and a file after it begins model anew: say algorithm: sac in it\n",
    )
