"""The base class of callbacks: typed once, also for somebody's own."""

from pathlib import Path

import lightning as L
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from epo_lightning.callbacks import (
    ElitePreservation,
    GeneticEvolution,
    NaNGuard,
    NetworkScaleProfiler,
    PopulationCallback,
    VideoRecorder,
)
from epo_lightning.run.evaluation_report import EvaluationReport
from epo_lightning.run.progress import IterationProgress
from epo_lightning.run.recorder import RunRecorder
from tests.support.agent_reward import AgentReward
from tests.support.training import small_data, small_module, train


class Journal(PopulationCallback):
    """Somebody's own, as the guide shows it."""

    def __init__(self) -> None:
        self.lines: list[tuple[int, int]] = []

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.lines.append((self.module.env_steps, self.module.champion))
        self.module.metrics["journal/lines"] = len(self.lines)


class Other(L.LightningModule):
    """Trains no population."""

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> None:
        """Nothing."""

    def configure_optimizers(self) -> None:
        """Nothing."""


def test_ones_own_callback_knows_the_population(tmp_path: Path) -> None:
    journal, module = Journal(), small_module()
    train(module, small_data(16, AgentReward), tmp_path, 2, journal)
    assert journal.module is module
    assert journal.lines == [(64, 0), (128, 0)]
    assert module.metrics["journal/lines"] == 2


@pytest.mark.parametrize(
    "callback",
    [
        Journal(),
        ElitePreservation(),
        GeneticEvolution(),
        NaNGuard(),
        NetworkScaleProfiler(),
        VideoRecorder(),
        EvaluationReport({}),
        IterationProgress(),
        RunRecorder(""),
    ],
    ids=lambda callback: type(callback).__name__,
)
def test_another_kind_of_module_is_refused_in_one_line(tmp_path: Path, callback: L.Callback) -> None:
    trainer = L.Trainer(
        accelerator="cpu", max_epochs=1, logger=False, enable_checkpointing=False, enable_model_summary=False,
        enable_progress_bar=isinstance(callback, IterationProgress), callbacks=[callback], default_root_dir=tmp_path,
    )  # fmt: skip
    name = type(callback).__name__
    with pytest.raises(ValueError, match=rf"^trainer\.callbacks {name} works on a population .*, not on Other$"):
        trainer.fit(Other(), DataLoader(TensorDataset(torch.zeros(2, 1))))
    assert list(tmp_path.iterdir()) == []
