"""A run goes on on another number of ranks: every algorithm, there and back."""

import logging
from pathlib import Path
from typing import Any

import pytest
import torch

from epo_lightning.cli.entry import main
from epo_lightning.run.checkpoint import read_checkpoint
from tests.support.command_line import TINY, TINY_CEM_RL, TINY_PQL, TINY_SAC, Cli, Rows
from tests.support.on_ranks import Ended, on_ranks

EVOLVES = "  callbacks: [{class_path: epo_lightning.callbacks.GeneticEvolution, init_args: {num_elites: 1}}]\n"
EPO = TINY.replace("{accelerator: cpu, devices: 1, max_epochs: 2}", f"\n  accelerator: cpu\n  devices: 1\n{EVOLVES}")
PBT = """
algorithm: pbt
model: {num_agents: 4, network: {hidden: [8]}, rollout: {horizon: 4, num_epochs: 1, num_minibatches: 2}}
data:
  env: {class_path: epo_lightning.envs.classic.Probe, init_args: {max_steps: 3}}
  num_envs: 16
trainer:
  accelerator: cpu
  devices: 1
  callbacks:
    - class_path: epo_lightning.callbacks.PopulationBasedTraining
      init_args: {interval_steps: 1000, start_after: 0, initial_delay: 0, rule: margins, genome: {num_epochs: null}}
"""
CASES = {"epo": EPO, "pbt": PBT, "sac": TINY_SAC, "pql": TINY_PQL, "cem_rl": TINY_CEM_RL}
ENVS = {name: 20 if name == "cem_rl" else 16 for name in CASES}


class Story:
    """Two iterations on one rank, two on two ranks, with all that is left of them."""

    def __init__(self, folder: Path, ended: list[Ended]) -> None:
        self.folder, self.ended = folder, ended

    def saved(self, name: str, state: str) -> dict[str, Any]:
        return read_checkpoint(self.folder / f"{name}_{state}.ckpt")


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    """Of every algorithm, in two processes that two ranks share."""
    folder = tmp_path_factory.mktemp("ranks")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name, text in CASES.items():
            Path(f"{name}.yaml").write_text(text)
            assert main(["fit", "--config", f"{name}.yaml", "--run_dir", name, "--trainer.max_epochs=2"]) == 0
            Path(f"{name}_one.ckpt").write_bytes(Path(f"{name}/checkpoints/last.ckpt").read_bytes())
        more = ["--trainer.devices=2", "--trainer.max_epochs=4"]
        other = ["fit", "--config", "epo.yaml", "--trainer.devices=2", "--run_dir", "unlike"]
        last = [[*other, f"--model.loss.clip_eps={0.1 * (rank + 1)}"] for rank in range(2)]
        ended = on_ranks([["fit", "--ckpt_path", name, *more] for name in CASES], last=last)
        for name in CASES:
            Path(f"{name}_two.ckpt").write_bytes(Path(f"{name}/checkpoints/last.ckpt").read_bytes())
    return Story(folder, ended)


def test_more_ranks_go_on(story: Story) -> None:
    assert [rank.codes[: len(CASES)] for rank in story.ended] == [[0] * len(CASES)] * 2, (
        story.ended[0].err + story.ended[1].err
    )
    told = story.ended[0].err
    assert told.count("this run 2 x 16: 16 environments go on, 16 begin new episodes; weights") == 4
    assert "the checkpoint has 1 x 20 environments, this run 2 x 20: 20 environments go on, 20 begin" in told
    assert "begin new episodes" not in story.ended[1].err


def test_ranks_with_other_configurations_are_refused_in_one_line(story: Story) -> None:
    first, second = story.ended
    assert first.codes[-1] == 2
    (line,) = [line for line in (first.err + second.err).splitlines() if line.startswith(("error", "[rank"))]
    assert "model.loss.clip_eps 0.2 and not 0.1: give all ranks the same configuration" in line
    assert line.startswith("error: rank 1 (process ")
    assert "Traceback" not in first.err + second.err
    assert not (story.folder / "unlike").exists()


@pytest.mark.parametrize("name", CASES)
def test_counters_are_those_of_all_ranks(story: Story, name: str) -> None:
    one, two = (story.saved(name, state)["ranks"] for state in ("one", "two"))
    assert len(two) == 2
    assert two[0]["env_steps"] == two[1]["env_steps"] > one[0]["env_steps"]
    if name != "cem_rl":  # a generation lasts as long as its episodes
        assert two[0]["env_steps"] - one[0]["env_steps"] == 2 * 2 * 16 * 4
    assert two[0]["fitness"]["opened_at"] == two[1]["fitness"]["opened_at"]
    assert torch.equal(two[0]["individuals"], two[1]["individuals"])
    assert not torch.equal(two[0]["generator"], two[1]["generator"])
    assert not torch.equal(two[0]["obs"], two[1]["obs"])


@pytest.mark.parametrize("name", CASES)
def test_fewer_ranks_go_on(
    story: Story, name: str, cli: Cli, rows: Rows, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(story.folder)
    caplog.set_level(logging.INFO)
    envs, before = ENVS[name], story.saved(name, "two")
    outcome = cli("fit", "--ckpt_path", f"{name}_two.ckpt", "--run_dir", f"{name}_back", "--trainer.devices=1",
                  "--trainer.max_epochs=5")  # fmt: skip
    assert outcome.code == 0, outcome.err
    assert f"has 2 x {envs} environments, this run 1 x {envs}: {envs} environments go on, 0 begin" in caplog.text
    assert f"{envs} end; weights" in caplog.text
    assert f"(as many as before in all: --data.num_envs {2 * envs})" in caplog.text
    (row,) = rows(Path(f"{name}_back"))
    assert row["charts/iteration"] == "5"
    steps = int(row["charts/env_steps"]) - before["ranks"][0]["env_steps"]
    assert steps == envs * 4 or name == "cem_rl"


@pytest.mark.parametrize("name", ["epo", "pql"])
def test_one_rank_takes_the_environments_of_two(
    story: Story, name: str, cli: Cli, rows: Rows, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(story.folder)
    caplog.set_level(logging.INFO)
    words = ("--run_dir", f"{name}_whole", "--trainer.devices=1", "--data.num_envs=32", "--trainer.max_epochs=5")
    outcome = cli("fit", "--ckpt_path", f"{name}_two.ckpt", *words)
    assert outcome.code == 0, outcome.err
    assert "Changed on resume: data.num_envs 16 -> 32" in outcome.out
    assert "this run 1 x 32: 0 environments go on, 32 begin new episodes; weights" in caplog.text
    (row,) = rows(Path(f"{name}_whole"))
    assert int(row["charts/env_steps"]) == story.saved(name, "two")["ranks"][0]["env_steps"] + 32 * 4
