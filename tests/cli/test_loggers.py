"""Loggers as a configuration names them: what they need is told in one line, and no secret reaches a file."""

import importlib.util
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest
import torch

from epo_lightning.cli import loggers
from tests.support.command_line import Cli

MISSING = {
    "WandbLogger": ("wandb", "pip install 'epo-lightning[wandb]'"),
    "TensorBoardLogger": ("tensorboard", "pip install 'epo-lightning[tensorboard]'"),
    "MLFlowLogger": ("mlflow", "pip install mlflow"),
    "CometLogger": ("comet_ml", "pip install comet-ml"),
}


@pytest.mark.parametrize("name", MISSING)
def test_a_logger_without_its_package_is_one_line(cli: Cli, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    def find_spec(module: str) -> ModuleSpec | None:
        return None if module.startswith(("wandb", "tensorboard", "mlflow", "comet")) else plain(module)

    plain = importlib.util.find_spec
    monkeypatch.setattr(loggers, "find_spec", find_spec)
    package, hint = MISSING[name]
    given = ("--trainer.logger.save_dir", ".") if name == "TensorBoardLogger" else ()
    outcome = cli("fit", "--config", "tiny.yaml", "--trainer.logger", name, *given)
    assert outcome.code == 2
    assert outcome.err == (
        f"error: trainer.logger {name} needs the package {package}, which is not installed: {hint}, or leave the logger"
        " out (metrics.csv is always written)\n"
    )
    assert not Path("runs").exists()


def test_nobody_imports_wandb_unasked(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in [name for name in sys.modules if name.partition(".")[0] == "wandb"]:
        monkeypatch.delitem(sys.modules, module)
    assert cli("fit", "--config", "tiny.yaml", "--run_dir", "run").code == 0
    assert "wandb" not in sys.modules


KEYED = '''
from lightning.pytorch.loggers.logger import Logger


class Keyed(Logger):
    """A logger of a service with accounts."""

    name, version = "keyed", "1"

    def __init__(self, api_key: str | None = None, project: str = "p", run_id: str | None = None) -> None:
        super().__init__()
        self.api_key, self.run_id = api_key, run_id
        self.version = run_id or "new-1"

    def log_metrics(self, metrics, step=None):
        with open("seen.txt", "a") as file:
            file.write(f"{self.api_key} {self.run_id} {step}\\n")

    def log_hyperparams(self, params):
        with open("told.txt", "a") as file:
            file.write(str(params))


class Offline(Keyed):
    @property
    def experiment(self):
        raise RuntimeError("no account;\\nlog in")


class Fixed(Keyed):
    def log_hyperparams(self, params):
        raise RuntimeError("a is 1 already")
'''


@pytest.fixture
def keyed(cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Cli:
    """`cli` in a folder with a logger that takes a key."""
    (tmp_path / "keyed.py").write_text(KEYED)
    monkeypatch.syspath_prepend(tmp_path)
    return cli


def test_a_logger_that_cannot_begin_is_one_line(keyed: Cli) -> None:
    outcome = keyed("fit", "--config", "tiny.yaml", "--trainer.logger", "keyed.Offline")
    assert outcome.code == 2
    assert outcome.err == "error: trainer.logger Offline cannot begin: no account; log in\n"
    assert not list(Path().rglob("metrics.csv"))


def test_a_logger_that_takes_no_configuration_does_not_stop_a_run(keyed: Cli) -> None:
    outcome = keyed("fit", "--config", "tiny.yaml", "--run_dir", "run", "--trainer.logger", "keyed.Fixed")
    assert outcome.code == 0
    assert "notice: trainer.logger Fixed did not take the configuration: a is 1 already\n" in outcome.err


def test_a_key_reaches_its_logger_and_no_file(keyed: Cli) -> None:
    command = ("fit", "--config", "tiny.yaml", "--run_dir", "run", "--trainer.logger", "keyed.Keyed",
               "--trainer.logger.api_key", "my-own-key")  # fmt: skip
    assert keyed(*command).code == 0
    assert Path("seen.txt").read_text().startswith("my-own-key None 64\n")
    for file in Path().rglob("*"):
        if file.is_file() and file.name != "seen.txt":
            assert b"my-own-key" not in file.read_bytes(), file
    assert torch.load("run/checkpoints/last.ckpt", weights_only=True)["history"]["loggers"] == {"Keyed": "new-1"}


def test_a_service_goes_on_with_the_run_that_it_knows(keyed: Cli) -> None:
    command = ("fit", "--config", "tiny.yaml", "--trainer.logger", "keyed.Keyed", "--run_dir")
    assert keyed(*command, "run").code == 0
    assert keyed("fit", "--ckpt_path", "run", "--trainer.max_epochs", 3).code == 0
    assert keyed("fit", "--ckpt_path", "run", "--run_dir", "other", "--trainer.max_epochs", 4).code == 0
    seen = [line.split()[1:] for line in Path("seen.txt").read_text().splitlines()]
    assert seen == [["None", "64"], ["None", "128"], ["new-1", "192"], ["None", "256"]]


def test_a_damaged_record_is_named(cli: Cli) -> None:
    assert cli("fit", "--config", "tiny.yaml", "--run_dir", "run").code == 0
    Path("run/run.json").write_text("{")
    outcome = cli("fit", "--ckpt_path", "run", "--trainer.max_epochs", 3)
    assert outcome.code == 2
    assert outcome.err.startswith("error: run/run.json cannot be read")
    assert len(outcome.err.splitlines()) == 1
