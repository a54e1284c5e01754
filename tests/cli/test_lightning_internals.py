"""What the command line takes from inside Lightning: a version without it fails here, by name."""

from pathlib import Path

import lightning as L
import pytest
from lightning.pytorch.strategies import DDPStrategy, StrategyRegistry

from epo_lightning.cli.trainer import fixed_arguments


def test_the_trainer_is_in_the_folder_of_its_private_default_root_dir(tmp_path: Path) -> None:
    trainer = L.Trainer(accelerator="cpu", logger=False, default_root_dir=tmp_path / "own")
    assert trainer._default_root_dir == str(tmp_path / "own")  # type: ignore[attr-defined]
    trainer._default_root_dir = str(tmp_path / "of rank 0")  # type: ignore[attr-defined]  # as RunRecorder does
    assert trainer.default_root_dir == str(tmp_path / "of rank 0")


@pytest.mark.parametrize("name", ["ddp", "ddp_spawn", "ddp_find_unused_parameters_true"])
def test_a_strategy_by_name_sends_no_buffers(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.delitem(StrategyRegistry[name]["init_params"], "broadcast_buffers", raising=False)
    fixed_arguments({"logger": None, "profiler": None}, None, in_one_process=False)
    strategy = StrategyRegistry.get(name)
    assert isinstance(strategy, DDPStrategy)
    assert strategy._ddp_kwargs["broadcast_buffers"] is False  # what DistributedDataParallel gets
