"""What loggers know of a run, read back by their own readers: one run, continued once, with every kind of logger."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from epo_lightning.cli.entry import main
from epo_lightning.modules.contents import HISTORY
from epo_lightning.run.checkpoint import fingerprint, read_checkpoint
from tests.support.command_line import TINY, Rows
from tests.support.logged import tensorboard_hparams, tensorboard_scalars, wandb_offline

LOGGERS = {
    "trainer": {
        "logger": [
            {"class_path": "lightning.pytorch.loggers.TensorBoardLogger", "init_args": {"save_dir": "tensorboard"}},
            {
                "class_path": "lightning.pytorch.loggers.WandbLogger",
                "init_args": {"project": "epo", "offline": True},
            },
            {"class_path": "lightning.pytorch.loggers.CSVLogger", "init_args": {"save_dir": "csv"}},
        ],
        "callbacks": [
            {"class_path": "lightning.pytorch.callbacks.LearningRateMonitor"},
            {"class_path": "lightning.pytorch.callbacks.DeviceStatsMonitor"},
            {"class_path": "tests.support.talkative.Talkative"},
        ],
    }
}


class Logged(NamedTuple):
    """A run of two iterations, continued to four with another clip, and to five in another folder.

    Attributes:
        run: Its folder.
        copy: That other folder.
        first: `run.json` before it was continued.
        last_id: The fingerprint of the checkpoint from which it was continued.
    """

    run: Path
    copy: Path
    first: dict[str, Any]
    last_id: str


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Logged]:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("logged"))
        patch.setenv("WANDB_SILENT", "true")
        Path("tiny.yaml").write_text(TINY)
        Path("loggers.yaml").write_text(yaml.safe_dump(LOGGERS))
        run, copy = Path("run").absolute(), Path("copy").absolute()
        assert main(["fit", "--config", "tiny.yaml", "--config", "loggers.yaml", "--run_dir", "run"]) == 0
        first, last_id = json.loads((run / "run.json").read_text()), fingerprint(run / "checkpoints/last.ckpt")
        changes = ["--trainer.max_epochs=4", "--model.loss.clip_eps=0.3"]
        assert main(["fit", "--ckpt_path", "run", *changes]) == 0
        assert main(["fit", "--ckpt_path", "run", "--run_dir", "copy", "--trainer.max_epochs=5"]) == 0
        yield Logged(run, copy, first, last_id)


def test_tensorboard_shows_the_configuration_as_hyperparameters(logged: Logged) -> None:
    hparams, metrics = tensorboard_hparams(logged.run / "tensorboard/lightning_logs/version_0")
    assert hparams["model.loss.clip_eps"] == 0.2
    assert hparams["data.env.class_path"] == "epo_lightning.envs.classic.Probe"
    assert hparams["data.env.max_steps"] == 3
    assert hparams["versions.torch"] == logged.first["versions"]["torch"]
    assert hparams["host"] == logged.first["host"]
    assert hparams["lineage"] == "[]"
    assert metrics == ["charts/episodic_return", "charts/episodic_successes"]
    assert yaml.safe_load((logged.run / "tensorboard/lightning_logs/version_0/hparams.yaml").read_text())["model"]
    (elsewhere,) = (logged.copy / "tensorboard/lightning_logs").iterdir()
    assert json.loads(str(tensorboard_hparams(elsewhere)[0]["lineage"]))[-1]["iteration"] == 4


def test_wandb_has_the_configuration_and_goes_on_with_the_same_run(logged: Logged) -> None:
    told = [wandb_offline(file) for file in sorted(logged.run.glob("wandb/offline-run-*/*.wandb"))]
    assert [config["model"]["loss"]["clip_eps"] for _, config, _ in told] == [0.2, 0.3]
    assert [len(config["lineage"]) for _, config, _ in told] == [0, 1]
    assert told[1][1]["lineage"][0]["id"] == logged.last_id
    assert told[0][1]["git"] == logged.first["git"]
    assert told[0][1]["command"] == ["epo-lightning", "fit", "--config", "tiny.yaml", "--config", "loggers.yaml",
                                     "--run_dir", "run"]  # fmt: skip
    name = told[0][0]
    assert told[1][0] == name
    assert logged.first["loggers"] == {"WandbLogger": name}
    steps = [row["charts/env_steps"] for _, _, history in told for row in history if "charts/env_steps" in row]
    assert steps == [64, 128, 192, 256]
    (file,) = logged.copy.glob("wandb/offline-run-*/*.wandb")
    other, config, _ = wandb_offline(file)
    assert other != name
    assert [ancestor["env_steps"] for ancestor in config["lineage"]] == [128, 256]


def test_other_loggers_get_it_as_hyperparameters(logged: Logged) -> None:
    content = yaml.safe_load((logged.run / "csv/lightning_logs/version_0/hparams.yaml").read_text())
    assert content["model"]["num_agents"] == 4
    assert content["versions"] == logged.first["versions"]


def test_run_json_is_extended_when_the_run_goes_on(logged: Logged) -> None:
    first, record = logged.first, json.loads((logged.run / "run.json").read_text())
    assert first["config"]["model"]["loss"]["clip_eps"] == 0.2
    assert record["config"]["model"]["loss"]["clip_eps"] == 0.3
    assert record["command"] == ["epo-lightning", "fit", "--ckpt_path", "run", "--trainer.max_epochs=4",
                                 "--model.loss.clip_eps=0.3"]  # fmt: skip
    assert {"key": "model.loss.clip_eps", "old": 0.2, "new": 0.3} in record["changes"]
    (ancestor,) = record["lineage"]
    assert ancestor["path"] == str((logged.run / "checkpoints/last.ckpt").resolve())
    assert (ancestor["iteration"], ancestor["env_steps"], ancestor["id"]) == (2, 128, logged.last_id)
    (earlier,) = record["earlier"]
    assert earlier == {key: first[key] for key in first.keys() - {"layout", "config", "lineage", "loggers", "earlier"}}
    assert {"python", "torch", "lightning", "mujoco", "numpy", "epo_lightning"} <= record["versions"].keys()
    assert record["device"]["kind"] == "cpu"


def test_a_checkpoint_keeps_its_lineage(logged: Logged) -> None:
    history = read_checkpoint(logged.copy / "checkpoints/last.ckpt")[HISTORY]
    assert [ancestor["iteration"] for ancestor in history["lineage"]] == [2, 4]
    assert history["loggers"].keys() == {"WandbLogger"}
    assert history["seconds"] > 0


TALK = [f"talk/{way}" for way in ("step", "both_step", "both_epoch", "epoch", "dict", "logger", "metrics")]
"""What `Talkative` logs: the iteration."""


def test_the_x_axis_is_env_steps_whoever_logs(logged: Logged) -> None:
    scalars = tensorboard_scalars(logged.run / "tensorboard/lightning_logs/version_0")
    for name in TALK:
        assert scalars[name] == [(64, 1.0), (128, 2.0), (192, 3.0), (256, 4.0)], name
    assert {step for step, _ in scalars["lr-Adam"]} == {0, 64, 128, 192, 256}
    (memory,) = [name for name in scalars if name.endswith("on_train_batch_end/cpu_vm_percent")]
    assert [step for step, _ in scalars[memory]] == [64, 128, 192, 256]
    told = [wandb_offline(file)[2] for file in sorted(logged.run.glob("wandb/offline-run-*/*.wandb"))]
    for name in TALK:
        points = [(row["trainer/global_step"], row[name]) for rows in told for row in rows if name in row]
        assert points == [(64, 1.0), (128, 2.0), (192, 3.0), (256, 4.0)], name


def test_metrics_csv_has_one_row_per_iteration_whoever_logs(logged: Logged, rows: Rows) -> None:
    found = rows(logged.run)
    assert [row["charts/env_steps"] for row in found] == ["64", "128", "192", "256"]
    for name in TALK:
        assert [row[name] for row in found] == ["1", "2", "3", "4"], name
    assert all(row["lr-Adam"] for row in found)
    assert list(found[0])[:4] == [
        "charts/env_steps", "charts/iteration", "charts/episodic_return", "charts/episodic_successes",
    ]  # fmt: skip


def test_the_wall_clock_goes_on_over_continuations(logged: Logged) -> None:
    with (logged.run / "metrics.csv").open(newline="") as file:
        elapsed = [float(row["time/elapsed"]) for row in csv.DictReader(file)]
    assert len(elapsed) == 4
    assert elapsed == sorted(elapsed)
    assert elapsed[0] > 0
