"""Parallel Q-Learning on the command line: every command, and every mistake in one line."""

from pathlib import Path

import pytest
import torch
import yaml

from epo_lightning.run.checkpoint import read_checkpoint
from tests.support.command_line import TINY_PQL, Cli, Rows, refused
from tests.support.films import labels_of_films
from tests.support.sameness import assert_same, final_state

FIRST = ("fit", "--config", "pql.yaml", "--run_dir", "run")


@pytest.fixture
def pql(cli: Cli) -> Cli:
    """The command line in a folder with a `pql.yaml`."""
    Path("pql.yaml").write_text(TINY_PQL)
    return cli


@pytest.mark.parametrize("atoms", ["null", "11"])
def test_fit_validate_play_and_report(
    pql: Cli, rows: Rows, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, atoms: str
) -> None:
    profiler = "--trainer.callbacks=epo_lightning.callbacks.NetworkScaleProfiler"
    outcome = pql(*FIRST, f"--model.network.atoms={atoms}", profiler)
    assert outcome.code == 0, outcome.err
    profile = yaml.safe_load(Path("run/profile.json").read_text())
    assert profile["parameters"] == (2 * 8 + 8) + (8 * 2 + 2)  # the actor: a layer and its head
    assert profile["experience_mib"] == 4 * 20 * 16 * (2 * 2 + 2 + 2) / 2**20
    assert "Replay memory: 0 MiB on cpu" in caplog.text
    assert [row["charts/env_steps"] for row in rows(Path("run"))] == ["64", "128", "192"]
    assert {"losses/critic_loss", "losses/value", "losses/actor_loss"} <= set(rows(Path("run"))[-1])
    # a ring of 20 env steps of 16 environments; of 12 env steps two wait for the next ones
    (rank,) = read_checkpoint(Path("run/checkpoints/last.ckpt"))["ranks"]
    assert rank["replay"]["rows"].shape == (10, 16, 2 * 2 + 2 + 2)
    assert rank["replay"]["waiting"].shape == (2, 16, 2 * 2 + 2 + 3)
    outcome = pql("validate", "--ckpt_path", "run")
    assert outcome.code == 0, outcome.err
    films = labels_of_films(monkeypatch)
    outcome = pql("play", "--ckpt_path", "run", "--policy", "random", "--out", "a.mp4")
    assert outcome.code == 0, outcome.err
    assert films == [["master", "random"]]
    outcome = pql("report", "run", "--metric", "losses/critic_loss", "--out", "page")
    assert outcome.code == 0, outcome.err
    assert "losses/critic_loss" in Path("page/report.html").read_text()


def test_five_iterations_are_two_and_three(pql: Cli, rows: Rows) -> None:
    # a ring of 6 steps is full after the second iteration, and an episode ends in the steps that wait
    size = ("--config", "pql.yaml", "--model.replay.capacity_per_env=6")
    assert pql("fit", *size, "--run_dir", "whole", "--trainer.max_epochs=5").code == 0
    assert pql("fit", *size, "--run_dir", "parts", "--trainer.max_epochs=2").code == 0
    torch.manual_seed(99)  # whatever the new process starts with
    outcome = pql("fit", "--ckpt_path", "parts", "--run_dir", "parts", "--trainer.max_epochs=5")
    assert outcome.code == 0, outcome.err
    assert_same(final_state("whole"), final_state("parts"))
    assert rows(Path("whole")) == rows(Path("parts"))


MISTAKES = {
    "discrete actions": (
        ["--data.env=epo_lightning.envs.gymnasium.GymnasiumEnv", "--data.env.init_args.id=CartPole-v1"],
        ["data.env: CartPole-v1 has discrete actions", "choose by --algorithm another one, such as epo"],
    ),
    "more than the memory": (
        ["--model.replay.capacity_per_env=1_000_000_000_000"],
        ["model.replay.capacity_per_env 1000000000000 needs", "MiB are free", "lower it to at most"],
    ),
    "steps that wait and are more than the memory": (
        ["--model.loss.n_step=1_000_000_000_000"],
        ["model.loss.n_step 1000000000000 needs", "MiB are free", "lower it to at most"],
    ),
    "no step": (["--model.loss.n_step=0"], ["model.loss.n_step must be at least 1"]),
    "noise upside down": (
        ["--model.exploration.sigma_max=0.01"],
        ["model.exploration.sigma_max must be at least 0.05"],
    ),
    "somebody else's settings": (["--model.loss.temperature=0.1"], ["model.loss.temperature", "sac"]),
    "who selects among followers": (
        ["--trainer.callbacks=epo_lightning.callbacks.GeneticEvolution"],
        ["trainer.callbacks GeneticEvolution", "the algorithm pql has none"],
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line_and_leaves_nothing(pql: Cli, mistake: str) -> None:
    args, words = MISTAKES[mistake]
    refused(pql(*FIRST, *args), *words)
    assert not Path("run").exists()


def test_other_settings_are_applied_on_resume(pql: Cli) -> None:
    assert pql(*FIRST).code == 0
    changes = ("--model.loss.n_step=2", "--model.loss.gamma=0.9", "--model.exploration.sigma_max=0.3")
    outcome = pql("fit", "--ckpt_path", "run", "--trainer.max_epochs=4", *changes)
    assert outcome.code == 0, outcome.err
    for told in ("loss.n_step 3 -> 2", "loss.gamma 0.99 -> 0.9", "exploration.sigma_max 0.8 -> 0.3"):
        assert f"Changed on resume: model.{told}" in outcome.out
    refused(
        pql("fit", "--ckpt_path", "run", "--trainer.max_epochs=5", "--model.network.atoms=51"),
        "model.network.atoms",
        "the checkpoint's weights are made for it",
    )
