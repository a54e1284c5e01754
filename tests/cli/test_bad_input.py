"""A mistake costs one line that names the key and the remedy, and nothing else."""

import subprocess
import sys
from pathlib import Path
from typing import Never

import lightning as L
import pytest
import torch

from epo_lightning.envs.base import StepResult
from epo_lightning.envs.classic import Probe
from epo_lightning.modules.data import RolloutDataModule
from tests.support.command_line import Cli


class WrongShape(Probe):
    """Returns rewards for one environment only."""

    def step(self, actions: torch.Tensor) -> StepResult:
        result = super().step(actions)
        return result._replace(reward=result.reward[:1])


class WrongType(Probe):
    """Returns rewards in double precision."""

    def step(self, actions: torch.Tensor) -> StepResult:
        result = super().step(actions)
        return result._replace(reward=result.reward.double())


class NotFinite(Probe):
    """Loses its mind in environments 2 and 5."""

    def step(self, actions: torch.Tensor) -> StepResult:
        result = super().step(actions)
        result.reward[[2, 5]] = torch.nan
        return result


DOUBLED = "--data.double_buffer=true"
ELITES = "--trainer.callbacks+=epo_lightning.callbacks.ElitePreservation"
FEW = "--trainer.callbacks.num_elites=2"
EVOLUTION = "--trainer.callbacks=epo_lightning.callbacks.GeneticEvolution"
MISTAKES = {
    "agents do not divide envs": (["--data.num_envs=18"], ["data.num_envs", "model.num_agents"]),
    "no environments": (["--data.num_envs=0"], ["data.num_envs", "at least 1"]),
    "unknown flag": (["--model.num_agentz=3"], ["model.num_agentz"]),
    "unknown key in a file": (["--config=unknown_key.yaml"], ["clip_epsilon"]),
    "wrong type": (["--model.loss.clip_eps=abc"], ["model.loss.clip_eps", "float"]),
    "NaN": (["--config=nan.yaml"], ["model.loss.clip_eps", "nan"]),
    "negative": (["--model.optimizer.learning_rate=-1"], ["model.optimizer.learning_rate", "greater than 0"]),
    "negative horizon": (["--model.rollout.horizon=-4"], ["model.rollout.horizon", "at least 1"]),
    "no off-policy sample": (
        ["--model.rollout.off_policy_ratio=0.1"],
        ["model.rollout.off_policy_ratio", "0.125", "or 0"],
    ),
    "negative interval": (["--checkpoint.every_n_iterations=-1"], ["checkpoint.every_n_iterations"]),
    "unknown configuration": (["--config=nowhere"], ["config: nowhere", "packaged configurations"]),
    "broken YAML": (["--config=broken.yaml"], ["config"]),
    "no such environment": (["--data.env=no.such.Env"], ["data.env"]),
    "no GPU": (["--trainer.accelerator=gpu"], ["trainer.accelerator", "cpu"]),
    "logger: true": (["--trainer.logger=true"], ["trainer.logger"]),
    "too many elites": ([EVOLUTION, "--trainer.callbacks.num_elites=4"], ["num_elites", "followers"]),
    "missing checkpoint": (["--ckpt_path=nothing.ckpt"], ["ckpt_path", "nothing.ckpt"]),
    "no run to continue": (["--ckpt_path=last"], ["ckpt_path"]),
    "truncated checkpoint": (["--ckpt_path=truncated.ckpt"], ["ckpt_path", "truncated"]),
    "foreign checkpoint": (["--ckpt_path=foreign.ckpt"], ["ckpt_path", "not a checkpoint of epo_lightning"]),
    "other agents": (["--ckpt_path=run", "--model.num_agents=8"], ["ckpt_path", "model.num_agents 4", "8"]),
    "other genes": (["--ckpt_path=run", "--model.network.gene_dim=5"], ["ckpt_path", "gene_dim"]),
    "other network": (["--ckpt_path=run", "--model.network.hidden=[9]"], ["ckpt_path", "hidden"]),
    "other envs": (["--ckpt_path=run", "--data.num_envs=32"], ["ckpt_path", "data.num_envs"]),
    "other task": (["--ckpt_path=run", "--data.env.init_args.dim=3"], ["ckpt_path", "obs_dim"]),
    "file as folder": (["--run_dir=tiny.yaml"], ["run_dir", "tiny.yaml"]),
    "impossible seed": (["--seed_everything=-1"], ["seed_everything", "at least 0"]),
    "unknown strategy": (["--trainer.strategy=magic"], ["trainer", "magic"]),
    "another run's folder": (["--run_dir=run"], ["run_dir", "--ckpt_path run"]),
    "wrong shape": ([f"--data.env={__name__}.WrongShape"], ["reward", "shape"]),
    "wrong type of reward": ([f"--data.env={__name__}.WrongType"], ["reward", "float64"]),
    "not finite": ([f"--data.env={__name__}.NotFinite"], ["[2, 5]", "finite"]),
}
GETS_AS_FAR_AS_TRAINING = ("wrong shape", "wrong type of reward", "not finite")


@pytest.fixture
def nothing_built(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> Cli:
    """Building an environment is an error."""

    def setup(*_: object, **__: object) -> Never:
        raise AssertionError

    monkeypatch.setattr(RolloutDataModule, "setup", setup)
    return cli


def snapshot() -> dict[str, bytes | None]:
    return {str(path): path.read_bytes() if path.is_file() else None for path in Path().rglob("*")}


@pytest.fixture
def workshop(cli: Cli) -> Cli:
    """A folder with a run and with files of every bad kind."""
    assert cli("fit", "--config", "tiny.yaml", "--run_dir", "run", "--trainer.max_epochs", 1).code == 0
    checkpoint = Path("run/checkpoints/last.ckpt").read_bytes()
    Path("truncated.ckpt").write_bytes(checkpoint[: len(checkpoint) // 2])
    torch.save({"state_dict": {}}, "foreign.ckpt")
    Path("unknown_key.yaml").write_text("model: {loss: {clip_epsilon: 0.1}}")
    Path("nan.yaml").write_text("model: {loss: {clip_eps: .nan}}")
    Path("broken.yaml").write_text("model: {loss: [")
    return cli


@pytest.mark.parametrize("mistake", MISTAKES)
def test_one_line_names_the_key(workshop: Cli, mistake: str) -> None:
    args, words = MISTAKES[mistake]
    before = snapshot()
    outcome = workshop("fit", "--config", "tiny.yaml", *args)
    assert outcome.code == 2
    assert outcome.err.startswith("error: ")
    assert outcome.err.count("\n") == 1
    for word in words:
        assert word in outcome.err
    after = snapshot()
    if mistake in GETS_AS_FAR_AS_TRAINING:
        assert not [path for path in after if path.endswith(".ckpt") and path not in before]
        assert {path: after[path] for path in before} == before
    else:
        assert after == before


@pytest.mark.parametrize(
    ("args", "words"),
    [
        *[MISTAKES[each] for each in ("agents do not divide envs", "no off-policy sample", "too many elites")],
        ([EVOLUTION, FEW, ELITES, "--trainer.callbacks.archive_size=2"], ["must stand before GeneticEvolution"]),
        ([DOUBLED, "--data.num_envs=20"], ["data.double_buffer", "a multiple of 8"]),
        ([DOUBLED, "--config=pbt_pendulum", "--data.num_envs=4"], ["data.double_buffer", "a multiple of 8"]),
        ([DOUBLED, "--config=sac"], ["data.double_buffer", "learn from rollouts"]),
        ([DOUBLED, "--config=cem_rl"], ["data.double_buffer", "learn from rollouts"]),
    ],
)
def test_what_does_not_fit_together_is_told_before_an_environment_is_built(
    nothing_built: Cli, args: list[str], words: list[str]
) -> None:
    outcome = nothing_built("fit", "--config", "tiny.yaml", *args)
    assert outcome.code == 2
    assert all(word in outcome.err for word in words)


@pytest.mark.parametrize("algorithm", ["sac", "pql", "pbt", "cem_rl"])
def test_losses_that_nobody_scales_are_told_before_an_environment_is_built(
    nothing_built: Cli, monkeypatch: pytest.MonkeyPatch, algorithm: str
) -> None:
    monkeypatch.setattr(L.Trainer, "precision", "16-mixed")  # which a CPU does not have
    outcome = nothing_built("fit", "--config", "tiny.yaml", "--config", algorithm)
    assert outcome.code == 2
    assert outcome.err.startswith("error: trainer.precision 16-mixed: ")


def test_a_bug_keeps_its_traceback(workshop: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def bug(*_: object, **__: object) -> Never:
        raise ValueError("from the depths")

    monkeypatch.setattr(torch, "randperm", bug)
    with pytest.raises(ValueError, match="from the depths"):
        workshop("fit", "--config", "tiny.yaml", "--run_dir", "other")


def test_a_bug_of_this_package_does_too(workshop: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """A ValueError is the user's mistake because it says so, not because of the file that it comes from."""
    monkeypatch.setattr("epo_lightning.experience.settings.require_range", lambda *args, **kwargs: None)
    with pytest.raises(ValueError, match="math domain error"):  # log(0), in algorithm/aggregation.py
        workshop("fit", "--config", "tiny.yaml", "--run_dir", "other", "--model.rollout.mu_cap=0")


def test_debug_mode_shows_the_traceback_of_a_mistake(workshop: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EPO_DEBUG", "1")
    with pytest.raises(ValueError, match="greater than 0"):
        workshop("fit", "--config", "tiny.yaml", "--model.optimizer.learning_rate=-1")


@pytest.mark.usefixtures("workshop")
def test_a_mistake_ends_the_process_with_code_2() -> None:
    command = [sys.executable, "-m", "epo_lightning", "fit", "--config", "nowhere"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.startswith("error: config: nowhere")
    assert result.stderr.count("\n") == 1


def test_a_command_needs_a_configuration(cli: Cli) -> None:
    outcome = cli("fit")
    assert outcome.code == 2
    assert "--config" in outcome.err


def test_an_unknown_command_is_named(cli: Cli) -> None:
    outcome = cli("fot")
    assert outcome.code == 2
    assert "fot" in outcome.err
    assert "validate" in outcome.err
