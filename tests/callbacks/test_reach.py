"""A callback whose turn never comes says so when the run begins."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.support.command_line import Cli

Told = Callable[[], str]
ENV_STEPS = 2 * 4 * 16  # iterations, horizon, environments of `tiny.yaml`


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> Told:
    def line() -> str:
        found = next((line for line in caplog.messages if "Without effect" in line), "")
        caplog.clear()
        return found

    return line


def run(cli: Cli, callback: str, run_dir: str = "run", **settings: object) -> None:
    given = ", ".join(f"{name}: {value}" for name, value in settings.items())
    text = f"trainer: {{callbacks: [{{class_path: epo_lightning.callbacks.{callback}, init_args: {{{given}}}}}]}}"
    with open("callback.yaml", "w") as file:
        file.write(text)
    assert cli("fit", "--config", "tiny.yaml", "--config", "callback.yaml", "--run_dir", run_dir).code == 0


@pytest.mark.parametrize("name", ["every_n_env_steps", "warmup_env_steps"])
def test_a_generation_that_never_comes(cli: Cli, told: Told, name: str) -> None:
    settings: dict[str, Any] = {"num_elites": 1, "every_n_env_steps": 1, "warmup_env_steps": 0}
    run(cli, "GeneticEvolution", **{**settings, name: ENV_STEPS + 1})
    assert told() == (
        f"Without effect: trainer.callbacks GeneticEvolution.{name} (129 env steps): the run ends after 128"
        " (trainer.max_epochs 2)"
    )
    run(cli, "GeneticEvolution", "another", **{**settings, name: ENV_STEPS})
    assert told() == ""


def test_an_archive_that_is_never_written(cli: Cli, told: Told) -> None:
    run(cli, "ElitePreservation", archive_size=1)
    assert "ElitePreservation.every_n_env_steps (20,000,000 env steps)" in told()


def test_a_resumed_run_counts_what_it_has_made(cli: Cli, told: Told) -> None:
    settings: dict[str, Any] = {"num_elites": 1, "every_n_env_steps": ENV_STEPS + 1, "warmup_env_steps": 0}
    run(cli, "GeneticEvolution", **settings)
    assert told()
    assert cli("fit", "--ckpt_path", "run", "--trainer.max_epochs", "3").code == 0
    assert told() == ""
