"""CEM-RL on the command line: every command, and every mistake in one line."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from epo_lightning.run.checkpoint import read_checkpoint
from epo_lightning.show.playback import Playback
from tests.support.command_line import TINY_CEM_RL, Cli, Rows, refused
from tests.support.sameness import assert_same, final_state

FIRST = ("fit", "--config", "cem_rl.yaml", "--run_dir", "run")


@pytest.fixture
def cem_rl(cli: Cli) -> Cli:
    """The command line in a folder with a `cem_rl.yaml`."""
    Path("cem_rl.yaml").write_text(TINY_CEM_RL)
    return cli


def test_fit_validate_play_and_report(
    cem_rl: Cli, rows: Rows, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    outcome = cem_rl(*FIRST, "--trainer.callbacks+=NaNGuard", "--trainer.callbacks+=NetworkScaleProfiler")
    assert outcome.code == 0, outcome.err
    assert "Replay memory: 0 MiB on cpu" in caplog.text
    assert "CEM-RL: 5 agents" in outcome.out
    # an episode takes 3 steps; after each 4 of 20 environments is looked whether everybody has ended one that began in
    # the generation. After 4 one runs, the next ends after 9 and is seen after 12, where one ends, too: 12, 15, 16
    table = rows(Path("run"))
    assert [row["charts/env_steps"] for row in table] == ["80", "240", "320"]
    assert {"losses/critic_loss", "losses/actor_loss", "population/sigma", "population/fitness_sampled"} <= set(
        table[0]
    )
    assert [row["population/fitness_gradient"] != "" for row in table] == [False, True, True]
    lineage = [json.loads(line) for line in Path("run/lineage.jsonl").read_text().splitlines()]
    assert [record["generation"] for record in lineage] == [1, 2, 3]
    assert [record["env_steps"] for record in lineage] == [80, 240, 320]
    assert [record["gradient_members"] for record in lineage] == [0, 2, 2]
    assert all(len(record["fitness"]) == 5 for record in lineage)
    for record in lineage:  # the best two, of members only
        ranked = sorted(range(1, 5), key=lambda agent: -record["fitness"][agent])
        assert record["elites"] == ranked[:2]
    assert lineage[0]["sigma"] == pytest.approx(1e-3**0.5)
    assert float(table[0]["population/fitness_mean"]) == pytest.approx(lineage[0]["fitness"][0], rel=1e-5)
    assert json.loads(Path("run/profile.json").read_text())["parameters"] == 5 * (2 * 8 + 8 + 8 * 2 + 2)

    outcome = cem_rl("validate", "--ckpt_path", "run")
    assert outcome.code == 0, outcome.err
    monkeypatch.setattr("epo_lightning.cli.shows.require_encoder", lambda: None)
    films: list[Any] = []

    def record_film(playback: Playback, *_: object) -> None:
        playback.step()
        films.append(playback.labels)

    monkeypatch.setattr("epo_lightning.cli.shows.record", record_film)
    outcome = cem_rl("play", "--ckpt_path", "run", "--agents", "0,4", "--out", "a.mp4")
    assert outcome.code == 0, outcome.err
    assert films == [["master", "follower 4"]]
    outcome = cem_rl("report", "run", "--out", "page")
    assert outcome.code == 0, outcome.err
    page = Path("page/report.html").read_text()
    for title in ("Fitness by kind of member", "Spread of the distribution", "Fitness by agent"):
        assert title in page
    assert "Parents and children" not in page


def test_five_generations_are_two_and_three(cem_rl: Cli, rows: Rows) -> None:
    size = ("--config", "cem_rl.yaml", "--model.replay.capacity_per_env=6", "--model.loss.n_step=2")
    assert cem_rl("fit", *size, "--run_dir", "whole", "--trainer.max_epochs=5").code == 0
    assert cem_rl("fit", *size, "--run_dir", "parts", "--trainer.max_epochs=2").code == 0
    with Path("parts/lineage.jsonl").open("a") as file:  # as if it had been killed before it saved its third
        file.write(json.dumps({"generation": 3}) + "\n")
    torch.manual_seed(99)  # whatever the new process starts with
    outcome = cem_rl("fit", "--ckpt_path", "parts", "--run_dir", "parts", "--trainer.max_epochs=5")
    assert outcome.code == 0, outcome.err
    assert_same(final_state("whole"), final_state("parts"))
    assert rows(Path("whole")) == rows(Path("parts"))
    assert Path("whole/lineage.jsonl").read_text() == Path("parts/lineage.jsonl").read_text()
    state = read_checkpoint(Path("whole/checkpoints/last.ckpt"))["state_dict"]
    assert state["drawn"] == 6
    assert state["variance"].shape == (2 * 8 + 8 + 8 * 2 + 2,)


MISTAKES = {
    "discrete actions": (
        ["--data.env=epo_lightning.envs.gymnasium.GymnasiumEnv", "--data.env.init_args.id=CartPole-v1"],
        ["data.env: CartPole-v1 has discrete actions", "choose by --algorithm another one, such as epo"],
    ),
    "environments that cannot be divided": (
        ["--data.num_envs=16"],
        ["data.num_envs must be a positive multiple of model.num_agents", "16 environments", "use e.g. 15 or 20"],
    ),
    "no pairs": (
        ["--model.num_agents=4", "--data.num_envs=16"],
        ["model.num_agents 4", "cannot be drawn in pairs", "use 3 or 5, or antithetic false"],
    ),
    "more parents than members": (
        ["--model.evolution.parents=5"],
        ["model.evolution.parents (of 4 members: model.num_agents less the mean) must be at most 4, got 5"],
    ),
    "more learners than members": (
        ["--model.evolution.gradient_members=5"],
        ["model.evolution.gradient_members", "must be at most 4, got 5"],
    ),
    "no members": (["--model.num_agents=1"], ["model.num_agents (the mean and at least two members)", "got 1"]),
    "more than the memory": (
        ["--model.replay.capacity_per_env=1_000_000_000_000"],
        ["model.replay.capacity_per_env 1000000000000 needs", "MiB are free", "lower it to at most"],
    ),
    "no variance": (["--model.evolution.variance_init=0"], ["model.evolution.variance_init must be greater than 0"]),
    "another's settings": (["--model.optimizer.actor_every=2"], ["model.optimizer.actor_every"]),
    "who selects among followers": (
        ["--trainer.callbacks=GeneticEvolution"],
        ["trainer.callbacks GeneticEvolution", "the algorithm cem_rl selects among its own", "leave the callback out"],
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line_and_leaves_nothing(cem_rl: Cli, mistake: str) -> None:
    args, words = MISTAKES[mistake]
    refused(cem_rl(*FIRST, *args), *words)
    assert not Path("run").exists()


def test_other_settings_are_applied_on_resume_but_not_another_population(cem_rl: Cli) -> None:
    assert cem_rl(*FIRST).code == 0
    changes = ("--model.evolution.parents=3", "--model.evolution.gradient_members=1", "--model.loss.gamma=0.9")
    outcome = cem_rl("fit", "--ckpt_path", "run", "--trainer.max_epochs=4", *changes)
    assert outcome.code == 0, outcome.err
    for told in ("evolution.parents 2 -> 3", "evolution.gradient_members 2 -> 1", "loss.gamma 0.99 -> 0.9"):
        assert f"Changed on resume: model.{told}" in outcome.out
    last = json.loads(Path("run/lineage.jsonl").read_text().splitlines()[-1])
    assert (last["generation"], last["gradient_members"], len(last["elites"])) == (4, 2, 3)
    for change in ("--model.num_agents=7", "--model.network.actor_activation=relu"):
        refused(
            cem_rl("fit", "--ckpt_path", "run", "--trainer.max_epochs=5", "--data.num_envs=20", change),
            change.partition("=")[0].removeprefix("--"),
            "the checkpoint's weights are made for it",
        )
