"""Lightning's own callbacks, profilers and settings: each works, or ends in one line before anything is trained."""

from pathlib import Path

import pytest
import torch
import yaml
from lightning.pytorch import callbacks as lightnings

from epo_lightning.run.neighbours import has_stopped
from tests.support.command_line import Cli, Rows

FIT = ("fit", "--config", "tiny.yaml", "--run_dir", "run")


def callback(name: str, **arguments: object) -> list[str]:
    """The flags that add a callback of Lightning's."""
    given = [f"--trainer.callbacks.{key}={value}" for key, value in arguments.items()]
    return [f"--trainer.callbacks+=lightning.pytorch.callbacks.{name}", *given]


WORK = {
    "DeviceStatsMonitor": callback("DeviceStatsMonitor", cpu_stats=True),
    "LearningRateMonitor": callback("LearningRateMonitor"),
    "LearningRateMonitor of steps": callback("LearningRateMonitor", logging_interval="step"),
    "Timer": callback("Timer", duration="00:01:00:00"),
    "ModelSummary": callback("ModelSummary"),
    "LambdaCallback": callback("LambdaCallback"),
    "ModelCheckpoint": callback("ModelCheckpoint"),
    "simple profiler": ["--trainer.profiler=simple"],
    "advanced profiler": ["--trainer.profiler=advanced"],
    "deterministic": ["--trainer.deterministic=true"],
    "detect_anomaly": ["--trainer.detect_anomaly=true"],
    "32": ["--trainer.precision=32"],
    "devices: auto": ["--trainer.devices=auto"],
    "ddp": ["--trainer.strategy=ddp"],
    "single_device": ["--trainer.strategy=single_device"],
}
REFUSED = {
    "GradientAccumulationScheduler": (
        callback("GradientAccumulationScheduler", scheduling="{0: 2}"),
        "model.rollout.num_minibatches",
    ),
    "StochasticWeightAveraging": (callback("StochasticWeightAveraging", swa_lrs=0.1), "EMAWeightAveraging"),
    "ModelPruning": (callback("ModelPruning", pruning_fn="l1_unstructured"), "ModelPruning"),
    "LearningRateFinder": (callback("LearningRateFinder"), "model.optimizer.learning_rate"),
    "BatchSizeFinder": (callback("BatchSizeFinder"), "data.num_envs"),
    "BackboneFinetuning": (callback("BackboneFinetuning"), "trainer.callbacks BackboneFinetuning"),
    "SpikeDetection": (["--trainer.callbacks+=lightning.pytorch.callbacks.spike.SpikeDetection"], "NaNGuard"),
    "OnExceptionCheckpoint": (callback("OnExceptionCheckpoint", dirpath="x"), "last.ckpt"),
    "saves between": (callback("ModelCheckpoint", every_n_train_steps=5), "every_n_epochs"),
    "saves by the clock": (callback("ModelCheckpoint", train_time_interval="00:01:00"), "train_time_interval"),
    "saves on errors": (callback("ModelCheckpoint", save_on_exception=True), "save_on_exception"),
    "xla profiler": (["--trainer.profiler=xla"], "trainer.profiler"),
    "unknown profiler": (["--trainer.profiler=fast"], "profiler"),
    "64-true": (["--trainer.precision=64-true"], "trainer.precision"),
    "transformer-engine": (["--trainer.precision=transformer-engine"], "trainer: "),
    "no devices": (["--trainer.devices=0"], "devices"),
    "all devices": (["--trainer.devices=-1"], "trainer: `devices`"),
    "device by number": (["--trainer.devices=[0]"], "trainer: `devices`"),
    "tpu": (["--trainer.accelerator=tpu"], "trainer: "),
    "ddp_spawn": (["--trainer.strategy=ddp_spawn"], "use ddp"),
    "xla": (["--trainer.strategy=xla"], "trainer: "),
    "deepspeed": (["--trainer.strategy=deepspeed"], "trainer: "),
    "nodes that nobody knows": (["--trainer.num_nodes=2"], "trainer.num_nodes 2"),
}


@pytest.mark.parametrize("which", WORK)
def test_works(cli: Cli, which: str) -> None:
    outcome = cli(*FIT, *WORK[which])
    assert outcome.code == 0
    assert "Traceback" not in outcome.err
    assert Path("run/checkpoints/last.ckpt").exists()


@pytest.mark.parametrize("which", REFUSED)
def test_is_refused_in_one_line_before_there_is_a_run(cli: Cli, which: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MASTER_ADDR", raising=False)  # which a run with ddp leaves in its process
    flags, word = REFUSED[which]
    outcome = cli(*FIT, *flags)
    assert outcome.code == 2
    assert outcome.err.splitlines()[-1].startswith("error: ")
    assert word in outcome.err.splitlines()[-1]
    assert not Path("run").exists()


def test_no_callback_of_lightnings_is_forgotten_here() -> None:
    named = {name.split()[0] for name in [*WORK, *REFUSED]} | {
        "Callback", "Checkpoint", "BasePredictionWriter", "BaseFinetuning",  # to be derived from
        "ProgressBar", "TQDMProgressBar", "RichProgressBar", "RichModelSummary",  # of tests of the progress
        "EarlyStopping", "EMAWeightAveraging", "WeightAveraging", "ThroughputMonitor",  # below
    }  # fmt: skip
    assert set(lightnings.__all__) <= named


def test_what_a_callback_of_lightnings_raises_names_it(cli: Cli) -> None:
    config = callback("ThroughputMonitor", batch_size_fn="builtins.len")
    outcome = cli(*FIT, *config)
    assert outcome.code == 2
    assert "error: trainer.callbacks ThroughputMonitor: object of type 'RolloutBuffer' has no len()" in outcome.err


def test_what_a_users_function_raises_in_it_keeps_its_traceback(cli: Cli) -> None:
    with pytest.raises(ZeroDivisionError):
        cli(*FIT, *callback("ThroughputMonitor", batch_size_fn=f"{__name__}.divide"))


def divide(batch: object) -> float:
    """A bug of a user's."""
    return len(str(batch)) / 0


class TestEarlyStopping:
    @pytest.fixture(autouse=True)
    def long_episodes(self, cli: Cli) -> None:
        """Of 10 steps: the first two iterations of 4 have no return yet."""
        config = yaml.safe_load(Path("tiny.yaml").read_text())
        config["data"]["env"]["init_args"]["max_steps"] = 10
        Path("tiny.yaml").write_text(yaml.safe_dump(config))

    def stopping(self, **arguments: object) -> list[str]:
        given = {"monitor": "charts/episodic_return", "mode": "max", "min_delta": 1000, **arguments}
        return [*callback("EarlyStopping", **given), "--trainer.max_epochs=20"]

    def test_waits_for_the_first_value(self, cli: Cli, rows: Rows) -> None:
        """Value 1 in iteration 3 is the best one; two more without progress end the run, whose end is saved."""
        outcome = cli(*FIT, *self.stopping(patience=2))
        assert outcome.code == 0
        assert len(rows(Path("run"))) == 5
        assert "EarlyStopping ended the run after iteration 5. Monitored metric" in outcome.out
        assert torch.load("run/checkpoints/last.ckpt")["epoch"] == 4

    def test_a_name_that_nothing_logs_is_told_with_the_nearest(self, cli: Cli, rows: Rows) -> None:
        outcome = cli(*FIT, *self.stopping(monitor="charts/episodic_retun"), "--trainer.max_epochs=3")
        assert outcome.code == 0
        line = "trainer.callbacks EarlyStopping waits: nothing has logged charts/episodic_retun so far (did you mean"
        assert outcome.out.count(f"{line} charts/episodic_return?)") == 1

    def test_its_patience_can_be_changed_on_resume(self, cli: Cli, rows: Rows) -> None:
        assert cli(*FIT, *self.stopping(patience=2)).code == 0
        stopping = {"class_path": "lightning.pytorch.callbacks.EarlyStopping"}
        arguments = {"monitor": "charts/episodic_return", "mode": "max", "min_delta": 1000, "patience": 6}
        Path("patient.yaml").write_text(
            yaml.safe_dump({"trainer": {"callbacks": [{**stopping, "init_args": arguments}]}})
        )
        outcome = cli("fit", "--ckpt_path", "run", "--config", "patient.yaml")
        assert "patience" in outcome.out
        assert len(rows(Path("run"))) == 9  # 2 and 4 more without progress


def test_an_earlier_end_that_a_resumed_run_remembers_is_not_this_one() -> None:
    stopping = lightnings.EarlyStopping("charts/episodic_return")
    assert not has_stopped(stopping, 1)  # it has stopped nothing
    stopping.stopped_epoch, stopping.stopping_reason_message = 4, "no progress"
    assert has_stopped(stopping, 5)
    assert not has_stopped(stopping, 7)
    assert not has_stopped(lightnings.Timer(), 1)


def test_a_timer_without_a_limit_ends_no_run(cli: Cli) -> None:
    config = {"callbacks": [
        {"class_path": "lightning.pytorch.callbacks.Timer"},
        {"class_path": "EarlyStopping", "init_args": {"monitor": "charts/sps", "stopping_threshold": 0, "mode": "max"}},
    ]}  # fmt: skip
    Path("timer.yaml").write_text(yaml.safe_dump({"trainer": config}))
    assert cli(*FIT, "--config", "timer.yaml").code == 0
    assert Path("run/summary.txt").read_text().startswith("Stopped (EarlyStopping)")


class TestModelCheckpoint:
    def test_saves_beside_our_own_files_and_a_run_goes_on_from_it(self, cli: Cli) -> None:
        flags = callback("ModelCheckpoint", save_last=True, every_n_epochs=1, save_top_k=-1)
        assert cli(*FIT, *flags).code == 0
        saved = sorted(path.name for path in Path("run/model_checkpoints").iterdir())
        assert saved == ["epoch=0-step=2.ckpt", "epoch=1-step=4.ckpt", "last.ckpt"]
        assert sorted(path.name for path in Path("run/checkpoints").iterdir()) == ["best.ckpt", "last.ckpt"]
        resumed = cli("fit", "--ckpt_path", "run/model_checkpoints/epoch=0-step=2.ckpt", "--run_dir", "again")
        assert resumed.code == 0
        first, again = (torch.load(f"{run}/checkpoints/last.ckpt")["state_dict"] for run in ("run", "again"))
        assert all(torch.equal(first[name], again[name]) for name in first)

    def test_a_folder_of_its_own_is_in_the_run_folder(self, cli: Cli) -> None:
        assert cli(*FIT, *callback("ModelCheckpoint", dirpath="kept/here")).code == 0
        assert [path.name for path in Path("run/kept/here").iterdir()] == ["epoch=1-step=4.ckpt"]

    def test_waits_for_a_metric_and_tells_of_one_that_nobody_logs(self, cli: Cli) -> None:
        outcome = cli(*FIT, *callback("ModelCheckpoint", monitor="charts/episodic_length", mode="max"))
        assert (outcome.code, "waits" in outcome.out) == (0, False)


class TestWeightAveraging:
    def test_a_run_resumes_to_the_bit_and_its_average_is_what_is_evaluated(self, cli: Cli) -> None:
        flags = callback("EMAWeightAveraging", decay=0.5)
        assert cli(*FIT, *flags, "--trainer.max_epochs=4").code == 0
        assert cli(*FIT[:-1], "other", *flags).code == 0
        assert cli("fit", "--ckpt_path", "other", "--trainer.max_epochs=4").code == 0
        whole, resumed = (torch.load(f"{run}/checkpoints/last.ckpt") for run in ("run", "other"))
        for part in ("state_dict", "current_model_state"):
            assert all(torch.equal(whole[part][name], resumed[part][name]) for name in whole[part])
        average, present = (whole[part]["policy.action_head.weight"] for part in ("state_dict", "current_model_state"))
        assert not torch.equal(average, present)
        assert cli("validate", "--ckpt_path", "run").code == 0


def test_a_profilers_file_is_in_the_run_folder(cli: Cli) -> None:
    Path("profile.yaml").write_text(
        "trainer: {profiler: {class_path: lightning.pytorch.profilers.SimpleProfiler, init_args: {filename: times}}}"
    )
    assert cli(*FIT, "--config", "profile.yaml").code == 0
    assert "run_training_epoch" in Path("run/fit-times.txt").read_text()
