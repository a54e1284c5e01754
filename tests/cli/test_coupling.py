"""CPO on the command line: the packaged configuration, what a run says of itself, and what is refused."""

from pathlib import Path

import pytest
import yaml

from tests.support.command_line import Cli, Rows

SMALL = ("--trainer.max_epochs=2", "--data.num_envs=32", "--model.num_agents=4", "--trainer.accelerator=cpu")
EVOLUTION = "--trainer.callbacks+=epo_lightning.callbacks.GeneticEvolution"


def test_the_configuration_couples_and_one_override_adds_evolution(cli: Cli, rows: Rows) -> None:
    alone = cli("fit", "--config", "cpo", *SMALL, "--run_dir", "alone")
    assert alone.code == 0, alone.err
    assert "CPO: 4 agents, followers coupled to the master (model.loss.coupling_coefficient), no evolution" in alone.out
    assert "Without effect" not in alone.out
    assert all(float(row["losses/coupling_loss"]) > 0 for row in rows(Path("alone")))
    settings = ("--trainer.callbacks.num_elites=1", "--trainer.callbacks.every_n_env_steps=512")
    both = cli("fit", "--config", "cpo", *SMALL, EVOLUTION, *settings, "--run_dir", "both")
    assert both.code == 0, both.err
    assert "EPO + CPO: 4 agents, followers coupled to the master" in both.out
    assert "losses/coupling_loss" in rows(Path("both"))[0]


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("--model.num_agents=1", ["model.loss.coupling_coefficient 0.001", "model.num_agents 1", "2 agents or more"]),
        ("--model.loss.coupling_coefficient=-1", ["model.loss.coupling_coefficient must be", "got -1"]),
        ("--model.loss.coupling_temperature=0", ["model.loss.coupling_temperature must be", "got 0"]),
        ("--model.rollout.coupling_followers=0", ["model.rollout.coupling_followers must be", "got 0"]),
        ("--model.diversity.coefficient=-1", ["model.diversity.coefficient must be at least 0, got -1"]),
        ("--model.diversity.hidden=[0]", ["model.diversity.hidden must be at least 1, got 0"]),
        ("--model.diversity.learning_rate=0", ["model.diversity.learning_rate must be greater than 0, got 0"]),
        ("--model.diversity.coeficient=0.1", ["model.diversity.coeficient", "coefficient"]),
    ],
)
def test_what_means_nothing_is_refused_in_one_line(cli: Cli, setting: str, words: list[str]) -> None:
    outcome = cli("fit", "--config", "cpo", setting)
    assert outcome.code == 2
    (line,) = outcome.err.strip().splitlines()
    for word in words:
        assert word in line


def test_followers_are_rewarded_for_being_told_apart(cli: Cli, rows: Rows, caplog: pytest.LogCaptureFixture) -> None:
    outcome = cli("fit", "--config", "cpo", *SMALL, "--model.diversity.coefficient=0.01", "--run_dir", "run")
    assert outcome.code == 0, outcome.err
    assert "Diversity: followers learn from 0.01 log q(k | s, a) on top of their reward" in caplog.text
    last = rows(Path("run"))[-1]
    assert 0 <= float(last["losses/diversity_accuracy"]) <= 1
    assert float(last["losses/diversity_bonus"]) < 0 < float(last["losses/diversity_loss"])
    outcome = cli("fit", "--ckpt_path", "run", "--trainer.max_epochs=3", "--model.diversity.hidden=[8]")
    assert outcome.code == 0, outcome.err
    assert "Changed on resume: model.diversity.hidden [128, 128] -> [8] (the classifier begins anew)" in outcome.out
    outcome = cli("fit", "--ckpt_path", "run", "--trainer.max_epochs=4", "--model.diversity.coefficient=0")
    assert outcome.code == 0, outcome.err
    assert rows(Path("run"))[-1].get("losses/diversity_bonus", "") == ""
    outcome = cli("fit", "--ckpt_path", "run", "--trainer.max_epochs=5", "--model.diversity.coefficient=0.02")
    assert outcome.code == 0, outcome.err
    assert float(rows(Path("run"))[-1]["losses/diversity_bonus"]) < 0
    assert cli("validate", "--ckpt_path", "run").code == 0
    alone = cli("fit", "--config", "ppo", "--model.diversity.coefficient=0.01")
    assert alone.code == 2
    (line,) = alone.err.strip().splitlines()
    for word in ("model.diversity.coefficient 0.01", "model.num_agents 1", "2 agents or more"):
        assert word in line


def test_the_authors_size_is_a_configuration(cli: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        cli("fit", "--config", "cpo_reorient", "--print_config")
    config = yaml.safe_load(capsys.readouterr().out)
    model, data, rollout = config["model"], config["data"], config["model"]["rollout"]
    assert (model["num_agents"], data["num_envs"], data["env"]["init_args"]["task"]) == (
        6,
        24576,
        "single_arm_reorient",
    )
    assert (model["loss"]["coupling_coefficient"], model["loss"]["coupling_temperature"]) == (1e-3, 0.2)
    assert [callback["class_path"].rpartition(".")[2] for callback in config["trainer"]["callbacks"]] == ["NaNGuard"]
    # own samples, one block of a follower's, and the master's block for each of five followers: 12 blocks of 4,096
    assert 16 * 12 * 4096 / rollout["num_minibatches"] == 32768


def test_choices_can_be_imitated(cli: Cli, rows: Rows) -> None:
    coupled = ("--model.loss.coupling_coefficient=0.01", "--trainer.callbacks=null", "--run_dir=run")
    outcome = cli("fit", "--config", "cartpole", *SMALL, *coupled)
    assert outcome.code == 0, outcome.err
    assert all(float(row["losses/coupling_loss"]) > 0 for row in rows(Path("run")))
