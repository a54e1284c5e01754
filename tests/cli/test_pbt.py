"""Population based training on the command line: every command, and every mistake in one line."""

from pathlib import Path

import pytest
import torch

from epo_lightning.library.run import Run
from epo_lightning.run.checkpoint import read_checkpoint
from tests.support.command_line import Cli, Rows, refused
from tests.support.sameness import assert_same, final_state

TINY = """
algorithm: pbt
model:
  num_agents: 4
  network: {hidden: [8]}
  rollout: {horizon: 4, num_epochs: 2, num_minibatches: 2}
data:
  env: {class_path: epo_lightning.envs.classic.Probe, init_args: {max_steps: 3}}
  num_envs: 16
  eval_episodes: 8
  eval_envs: 4
trainer:
  accelerator: cpu
  devices: 1
  max_epochs: 5
  callbacks:
    - class_path: epo_lightning.callbacks.PopulationBasedTraining
      init_args:
        interval_steps: 16
        start_after: 0
        initial_delay: 0
        rule: margins
        genome: {clip: [0.19, 0.21], num_epochs: null}
"""
FIRST = ("fit", "--config", "pbt.yaml", "--run_dir", "run")
PBT = "--trainer.callbacks=epo_lightning.callbacks.PopulationBasedTraining"


@pytest.fixture
def pbt(cli: Cli) -> Cli:
    """The command line in a folder with a `pbt.yaml`."""
    Path("pbt.yaml").write_text(TINY)
    return cli


def test_fit_validate_and_report(pbt: Cli, rows: Rows) -> None:
    outcome = pbt(*FIRST)
    assert outcome.code == 0, outcome.err
    last = rows(Path("run"))[-1]
    assert {f"hyper_parameters/{name}/{k}" for name in ("clip", "num_epochs") for k in range(4)} <= set(last)
    checkpoint = read_checkpoint(Path("run/checkpoints/last.ckpt"))
    champion = int(checkpoint["state_dict"]["policy.best"])
    assert float(last["population/champion"]) == champion
    # its results are the run's
    assert float(last["charts/episodic_return"]) == float(last[f"agents/return/{champion}"])
    assert Path("run/lineage.jsonl").read_text().count("\n") == float(last["charts/generation"]) > 0
    outcome = pbt("validate", "--ckpt_path", "run")
    assert outcome.code == 0, outcome.err
    outcome = pbt("report", "run", "--out", "page")
    assert outcome.code == 0, outcome.err
    page = Path("page/report.html").read_text()
    for words in ("pbt, 4 agents", "Hyper-parameter clip of every agent", "Parents and children"):
        assert words in page


def test_who_acts_where_nobody_is_named_is_the_champion(pbt: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = pbt(*FIRST, "--trainer.max_epochs=2", "--trainer.callbacks=epo_lightning.callbacks.NaNGuard")
    assert outcome.code == 0, outcome.err
    path = Path("run/checkpoints/last.ckpt")
    checkpoint = torch.load(path, weights_only=True)
    checkpoint["state_dict"]["policy.best"] = torch.tensor(2)
    torch.save(checkpoint, path)
    monkeypatch.setattr("epo_lightning.cli.shows.require_encoder", lambda: None)
    films: list[list[str]] = []
    monkeypatch.setattr("epo_lightning.cli.shows.record", lambda playback, *_: films.append(playback.labels))
    for args in (["--policy=random"], ["--agents=0,2"]):
        outcome = pbt("play", "--ckpt_path", "run", *args, "--out", "a.mp4")
        assert outcome.code == 0, outcome.err
    assert films == [["champion", "random"], ["agent 0", "champion"]]
    obs = torch.tensor([[0.3, -0.4]])
    acts = [Run("run").policy(agent)(obs) for agent in (None, 2, 0)]
    assert torch.equal(acts[0], acts[1])
    assert not torch.equal(acts[0], acts[2])
    outcome = pbt("validate", "--ckpt_path", "run")
    assert outcome.code == 0, outcome.err
    assert "episodes of the champion of" in outcome.out


def test_five_iterations_are_two_and_three(pbt: Cli, rows: Rows) -> None:
    size = ("--config", "pbt.yaml")
    assert pbt("fit", *size, "--run_dir", "whole").code == 0
    assert pbt("fit", *size, "--run_dir", "parts", "--trainer.max_epochs=2").code == 0
    torch.manual_seed(99)  # whatever the new process starts with
    outcome = pbt("fit", "--ckpt_path", "parts", "--run_dir", "parts", "--trainer.max_epochs=5")
    assert outcome.code == 0, outcome.err
    assert_same(final_state("whole"), final_state("parts"))
    assert rows(Path("whole")) == rows(Path("parts"))
    assert Path("whole/lineage.jsonl").read_text() == Path("parts/lineage.jsonl").read_text() != ""


MISTAKES = {
    "a population that does not divide the environments": (
        ["--data.num_envs=18"],
        ["data.num_envs must be a positive multiple of model.num_agents: 18", "use e.g. 16 or 20"],
    ),
    "a population of two": ([PBT, "--model.num_agents=2"], ["model.num_agents must be at least 3, got 2"]),
    "a gene that the algorithm lacks": (
        [PBT, '--trainer.callbacks.genome={"learning_rat": null}'],
        ["PopulationBasedTraining.genome", "'learning_rat' (did you mean learning_rate?)"],
    ),
    "a gene that the task lacks": (
        [PBT, "--trainer.callbacks.objective=successes", '--trainer.callbacks.reward_genome={"lift_bonus": null}'],
        ["reward_genome", "no parameter 'lift_bonus'", "it has none; remove reward_genome"],
    ),
    "a return that its own scale would decide": (
        [PBT, '--trainer.callbacks.reward_genome={"lift_bonus": null}'],
        ["PopulationBasedTraining", "select by true_objective or successes"],
    ),
    "an objective that the task lacks": (
        [PBT, "--trainer.callbacks.objective=true_objective"],
        ["has no true objective", "select by successes or return"],
    ),
    "bounds upside down": (
        [PBT, '--trainer.callbacks.genome={"clip": [0.3, 0.1]}'],
        ["genome.clip must be two bounds, the smaller one first"],
    ),
    "a rule that there is not": ([PBT, "--trainer.callbacks.rule=dexptb"], ["dexptb (did you mean dexpbt?)"]),
    "a constant that is none": (
        [PBT, '--trainer.callbacks.rule={"class_path": "DexPBT", "init_args": {"fraction_worst": 0}}'],
        ["PopulationBasedTraining.rule.fraction_worst must be greater than 0 and at most 1, got 0"],
    ),
    "an interval of nothing": ([PBT, "--trainer.callbacks.interval_steps=0"], ["interval_steps must be at least 1"]),
    "another algorithm": ([PBT, "--algorithm=epo"], ["agents of epo have none of their own"]),
    "a genetic algorithm without genes": (
        ["--trainer.callbacks=epo_lightning.callbacks.GeneticEvolution"],
        ["trainer.callbacks GeneticEvolution", "the algorithm pbt has none"],
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line_and_leaves_nothing(pbt: Cli, mistake: str) -> None:
    args, words = MISTAKES[mistake]
    refused(pbt(*FIRST, *args), *words)
    assert not Path("run").exists()


def test_each_agent_is_paid_by_its_own_rewards(pbt: Cli, rows: Rows) -> None:
    small = ("--data.num_envs=8", "--model.num_agents=4", "--model.network.hidden=[8]", "--trainer.accelerator=cpu")
    task = (
        "--config",
        "pbt_reorient",
        "--config",
        "pbt_laptop",
        *small,
        "--data.eval_envs=2",
        "--data.eval_episodes=2",
    )
    outcome = pbt("fit", *task, "--run_dir", "run", "--trainer.max_epochs=1", "--trainer.devices=1")
    assert outcome.code == 0, outcome.err
    (row,) = rows(Path("run"))
    checkpoint = read_checkpoint(Path("run/checkpoints/last.ckpt"))
    prices = checkpoint["ranks"][0]["env"]["rules"]["prices"]
    for name in ("lift_scale", "lift_bonus", "keypoint_scale", "finger_scale", "goal_bonus"):
        told = torch.tensor([float(row[f"hyper_parameters/reward.{name}/{k}"]) for k in range(4)])
        torch.testing.assert_close(prices[name], told.repeat_interleave(2), rtol=1e-5, atol=0)
    assert len(prices["lift_bonus"].unique()) + len(prices["goal_bonus"].unique()) > 2  # of 4 agents x 5, some mutated
    assert float(row["charts/env_steps"]) == 128
