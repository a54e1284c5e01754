"""`best.ckpt`: no score before every environment of the master has told one, and none that depends on a clock."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from epo_lightning.envs.base import StepResult
from epo_lightning.envs.classic import Probe
from epo_lightning.run.checkpoint import read_checkpoint
from tests.support.command_line import Cli, Rows
from tests.support.sameness import assert_same

FIT = ("fit", "--config", "tiny.yaml", "--trainer.max_epochs", "6")


class QuickAndSlow(Probe):
    """Every second environment succeeds within 2 steps, for a reward of 1 each; the others lose 1 in each of 10."""

    def __init__(self, num_envs: int, device: torch.device, seed: int, restores: bool = True) -> None:
        super().__init__(num_envs, device, seed, max_steps=100)
        self.spec = self.spec.__class__(**{**vars(self.spec), "restores": restores})
        self.age = torch.zeros(num_envs, dtype=torch.int64)
        self.quick = torch.arange(num_envs) % 2 == 0

    def step(self, actions: torch.Tensor) -> StepResult:
        result = super().step(actions)
        self.age += 1
        ended = self.age == torch.where(self.quick, 2, 10)
        self.age[ended] = 0
        return result._replace(reward=torch.where(self.quick, 1.0, -1.0), terminated=ended)

    def reset(self) -> torch.Tensor:
        self.age.zero_()
        return super().reset()

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "age": self.age} if self.spec.restores else {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        if self.spec.restores:
            self.age = state["age"].clone()
            super().load_state_dict({key: value for key, value in state.items() if key != "age"})


class Harder(Probe):
    """Pays 1 a step for the first 4 x 3 steps, at tolerance 0.1; afterwards 0 at first and then a little, at 0.05."""

    clock = 0

    def step(self, actions: torch.Tensor) -> StepResult:
        result = super().step(actions)
        self.clock += 1
        pay = 1.0 if self.clock <= 12 else 0.0 if self.clock <= 18 else 0.1
        return result._replace(reward=torch.full_like(result.reward, pay))

    def curriculum(self) -> dict[str, float]:
        return {"tolerance": 0.1 if self.clock <= 12 else 0.05}


def best(folder: str) -> dict[str, Any]:
    checkpoint = read_checkpoint(Path(folder) / "checkpoints/best.ckpt")
    assert checkpoint["callbacks"]["RunCheckpoints"]["best_iteration"] == checkpoint["epoch"] + 1
    return checkpoint


def test_quick_endings_make_no_score(cli: Cli, rows: Rows) -> None:
    assert cli(*FIT, "--run_dir", "run", f"--data.env={__name__}.QuickAndSlow").code == 0
    told = [(row["charts/episodic_coverage"], row["charts/episodic_return"]) for row in rows(Path("run"))]
    # 4 steps an iteration: the slow half ends its first episode at step 10, in the third; 2 x 1 and 10 x -1
    assert told == [("0.5", "2"), ("0.5", "2"), *[("1", "-4")] * 4]
    first = best("run")
    assert first["epoch"] + 1 == 3
    assert first["callbacks"]["RunCheckpoints"]["best_score"] == -4.0


def test_returns_at_two_difficulties_do_not_compare(cli: Cli, rows: Rows) -> None:
    """After the curriculum has moved on, the best is the best of what is asked now."""
    args = ("--run_dir", "run", f"--data.env={__name__}.Harder", "--data.env.init_args.max_steps", "3")
    assert cli(*FIT, *args).code == 0
    returns = [float(row["charts/episodic_return"]) for row in rows(Path("run"))]
    # 4 steps an iteration, episodes of 3: those that end with steps 3, 6, 12 | 15, 18, 24
    assert returns == pytest.approx([3.0, 3.0, 3.0, 0.0, 0.0, 0.3])
    state = best("run")["callbacks"]["RunCheckpoints"]
    assert state["best_score"] == pytest.approx(0.3)
    assert (state["best_iteration"], state["best_difficulty"]) == (6, {"tolerance": 0.05})


def test_there_is_none_when_no_iteration_has_a_score(cli: Cli) -> None:
    args = ("--run_dir", "run", f"--data.env={__name__}.QuickAndSlow", "--trainer.max_epochs", "2")
    assert cli(*FIT, *args).code == 0
    assert [path.name for path in Path("run/checkpoints").iterdir()] == ["last.ckpt"]


@pytest.mark.parametrize("restores", [True, False])
def test_a_simulator_that_begins_new_episodes_begins_new_scores(cli: Cli, rows: Rows, restores: bool) -> None:
    args = ("--run_dir", "run", f"--data.env={__name__}.QuickAndSlow", f"--data.env.init_args.restores={restores}")
    assert cli(*FIT, *args, "--trainer.max_epochs", "4").code == 0
    assert cli("fit", "--ckpt_path", "run", "--trainer.max_epochs", "7").code == 0
    coverage = [row["charts/episodic_coverage"] for row in rows(Path("run"))]
    assert coverage == ["0.5", "0.5", "1", "1", *(["1"] * 3 if restores else ["0.5", "0.5", "1"])]


def test_it_does_not_depend_on_when_saves_are_due(cli: Cli, rows: Rows) -> None:
    """Not on the clock, not on the interval, not on where the run was interrupted."""
    seeds = ("--seed_everything", "1")
    assert cli(*FIT, *seeds, "--run_dir", "each", "--checkpoint.every_n_iterations", 1).code == 0
    assert cli(*FIT, *seeds, "--run_dir", "none", "--checkpoint.every_n_iterations", 1000).code == 0
    assert cli(*FIT, *seeds, "--run_dir", "clock", "--checkpoint.max_share", 0).code == 0
    for iterations in (1, 3, 6):
        args = (*seeds, "--run_dir", "parts", "--resume", "--trainer.max_epochs", iterations)
        assert cli(*FIT, *args, "--checkpoint.every_n_iterations", 1000).code == 0
    returns = [float(row["charts/episodic_return"]) for row in rows(Path("each"))]
    for folder in ("each", "none", "clock", "parts"):
        checkpoint = best(folder)
        assert checkpoint["epoch"] == returns.index(max(returns))
        for key in ("state_dict", "optimizer_states", "ranks", "callbacks", "loops"):
            assert_same(checkpoint[key], best("each")[key])
