"""The profiler's report, for a network small enough to be counted by hand."""

import json
import sys
from pathlib import Path
from typing import Any

import lightning as L
import pytest

from epo_lightning.callbacks import NetworkScaleProfiler
from epo_lightning.modules.epo import EPOModule
from tests.support.clock import Clock
from tests.support.training import small_data, small_module, train

FIELDS = {
    "parameters", "network", "forward_flops_per_env_step", "flops_per_iteration", "env_steps_per_second",
    "seconds_per_iteration", "experience_mib", "peak_memory_mib", "iterations", "device",
}  # fmt: skip


class Metrics(L.Callback):
    """The metrics of every iteration; whatever a logger sees has been written before the next iteration starts."""

    def __init__(self) -> None:
        self.seen: list[dict[str, float]] = []

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, EPOModule)
        self.seen.append(dict(pl_module.metrics))

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, EPOModule)
        self.seen.append(dict(pl_module.metrics))


def profiled(
    folder: Path, iterations: int = 4, start: int = 1, number: int = 1, **network: Any
) -> NetworkScaleProfiler:
    profiler = NetworkScaleProfiler(start, number)
    train(small_module(**network), small_data(), folder, iterations, profiler)
    return profiler


def test_the_file_is_the_report(tmp_path: Path) -> None:
    report = profiled(tmp_path).report
    assert set(report) == FIELDS
    assert json.loads((tmp_path / "profile.json").read_text()) == json.loads(json.dumps(report))
    assert report["device"] == "cpu"
    assert report["network"]["network.width"] == 1
    assert report["network"]["num_agents"] == 4
    assert 50 < report["peak_memory_mib"] < 20_000


def test_where_the_system_does_not_tell_the_memory_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "resource", None)  # Windows
    assert profiled(tmp_path).report["peak_memory_mib"] is None
    assert json.loads((tmp_path / "profile.json").read_text())["peak_memory_mib"] is None


class TestCounts:
    # the probe has 2 observations and 2 actions; K = 4 agents with genes of 3 entries; one layer of 8
    def test_mlp(self, tmp_path: Path) -> None:
        report = profiled(tmp_path).report
        # genes 4*3, log-std 4*2, layer 5*8 + 8, means 8*2 + 2, value 8 + 1
        assert report["parameters"] == 12 + 8 + 48 + 18 + 9
        # a multiplication and an addition for every weight of the three matrices; those of the gene once per agent, who
        # has four environments
        assert report["forward_flops_per_env_step"] == 2 * (2 * 8 + 3 * 8 / 4 + 8 * 2 + 8 * 1) == 92
        # W T = (16 + 4) x 4 samples: once forward to act, three times as much in the one epoch of learning
        assert report["flops_per_iteration"] == 92 * 80 * 4

    def test_four_times_the_width(self, tmp_path: Path) -> None:
        report = profiled(tmp_path, width=4).report
        assert report["network"]["network.width"] == 4
        assert report["parameters"] == 12 + 8 + (5 * 32 + 32) + (32 * 2 + 2) + (32 + 1)
        assert report["forward_flops_per_env_step"] == 2 * (2 * 32 + 3 * 32 / 4 + 32 * 2 + 32)

    def test_one_agent(self, tmp_path: Path) -> None:
        report = profiled(tmp_path, num_agents=1).report
        # one gene for 16 environments
        assert report["forward_flops_per_env_step"] == round(2 * (2 * 8 + 3 * 8 / 16 + 8 * 2 + 8)) == 83

    def test_separate_critic(self, tmp_path: Path) -> None:
        report = profiled(tmp_path, separate_critic=True).report
        assert report["parameters"] == 12 + 8 + 2 * 48 + 18 + 9
        assert report["forward_flops_per_env_step"] == 2 * (2 * (2 * 8 + 3 * 8 / 4) + 8 * 2 + 8)

    def test_lstm(self, tmp_path: Path) -> None:
        report = profiled(tmp_path, lstm_units=6).report
        # cell: 24 rows of 5 inputs, of 6 hidden and two biases; LayerNorm 6 + 6; layer 6*8 + 8
        assert report["parameters"] == 12 + 8 + 24 * (5 + 6 + 2) + 12 + 56 + 18 + 9
        assert report["forward_flops_per_env_step"] == 2 * (24 * (5 + 6) + 6 * 8 + 8 * 2 + 8)

    def test_the_buffer(self, tmp_path: Path) -> None:
        # T = 4, W = 20: obs 5*20*2, actions 4*20*2, scalars 5*20*5, rewards and successes 2*4*16, final values 2*4*16;
        # booleans: resets 5*20, terminated and truncated 2*4*16
        nbytes = 4 * (200 + 160 + 500 + 128 + 128) + 100 + 128
        assert profiled(tmp_path).report["experience_mib"] == nbytes / 2**20


class TestTimes:
    def test_the_parts_are_the_iteration(self, tmp_path: Path) -> None:
        profiler = NetworkScaleProfiler(1, 1)
        train(small_module(), small_data(), tmp_path, 3, Clock(), profiler)
        # four steps and forward passes, a pass to relabel and one to compare, one for each of two minibatches; the rest
        # is the value of the last state and the time around the iteration's batch
        parts = {"env": 4.0, "inference": 4 / 4, "targets": 2 / 4, "learning": 2 / 4, "framework": 1 / 4 + 16}
        assert profiler.report["seconds_per_iteration"] == parts
        assert profiler.report["env_steps_per_second"] == 64 / sum(parts.values())

    def test_medians_of_the_iterations_after_the_first_ones(self, tmp_path: Path) -> None:
        metrics, profiler = Metrics(), NetworkScaleProfiler(2, 3)
        train(small_module(), small_data(), tmp_path, 7, metrics, profiler)
        assert profiler.report["iterations"] == 3
        # seen[i] is what iteration i - 1 measured: the iterations 2, 3 and 4 count
        measured = metrics.seen[3:6]
        for part, seconds in profiler.report["seconds_per_iteration"].items():
            assert seconds == sorted(row[f"time/{part}"] for row in measured)[1]
        assert profiler.report["env_steps_per_second"] == sorted(row["charts/sps"] for row in measured)[1]

    def test_a_run_just_long_enough(self, tmp_path: Path) -> None:
        assert profiled(tmp_path, iterations=3, start=1, number=2).report["iterations"] == 2

    def test_a_shorter_run_reports_what_there_is(self, tmp_path: Path) -> None:
        report = profiled(tmp_path, iterations=1, start=5, number=10).report
        assert report["iterations"] == 1
        assert (tmp_path / "profile.json").exists()

    def test_reported_as_soon_as_measured(self, tmp_path: Path) -> None:
        reports = []

        class Look(L.Callback):
            def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
                reports.append((tmp_path / "profile.json").exists())

        train(small_module(), small_data(), tmp_path, 4, NetworkScaleProfiler(1, 1), Look())
        assert reports == [False, False, True, True]


def test_it_does_not_change_the_training(tmp_path: Path) -> None:
    plain = small_module()
    train(plain, small_data(), tmp_path, 3)
    watched = small_module()
    train(watched, small_data(), tmp_path, 3, NetworkScaleProfiler(0, 2))
    for one, other in zip(plain.policy.parameters(), watched.policy.parameters(), strict=True):
        assert one.equal(other)


@pytest.mark.parametrize(("name", "low"), [("start_iteration", 0), ("num_iterations", 1)])
def test_out_of_range(name: str, low: int) -> None:
    with pytest.raises(ValueError, match=rf"NetworkScaleProfiler\.{name} must be at least {low}"):
        NetworkScaleProfiler(**{name: low - 1})
