"""A fault of the rank that writes is raised by all ranks, after they have met."""

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO

from epo_lightning.run.checkpoint import AtomicCheckpointIO, save

ILL = {"state_dict": {"policy.weight": torch.full((2,), torch.nan)}}


class Ranks:
    """What `save` sees of a trainer, as rank 0 or as one that does not write; it notes in which order ranks meet."""

    def __init__(self, io: TorchCheckpointIO, content: dict[str, Any], *, writes: bool, told: list[str]) -> None:
        self.checkpoint_io, self.content, self.writes, self.told = io, content, writes, told
        self.strategy = self
        self.met: list[str] = []

    def save_checkpoint(self, path: Path, weights_only: bool, storage_options: object) -> None:
        assert weights_only is False
        if self.writes:
            self.checkpoint_io.save_checkpoint(self.content, path, storage_options)
        self.met.append("barrier")

    def broadcast(self, faults: list[str]) -> list[str]:
        self.met.append("broadcast")
        return faults if self.writes else self.told


@pytest.mark.parametrize("writes", [True, False])
def test_all_ranks_meet_twice_and_then_raise_the_fault_of_the_first(tmp_path: Path, writes: bool) -> None:
    told = ["last.ckpt was not written at iteration 0"]
    trainer = Ranks(AtomicCheckpointIO(), ILL, writes=writes, told=told)
    with pytest.raises(ValueError, match=r"last\.ckpt was not written at iteration 0"):
        save(trainer, tmp_path / "last.ckpt")  # type: ignore[arg-type]
    assert trainer.met == ["barrier", "broadcast"]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("io", [AtomicCheckpointIO(), TorchCheckpointIO()])
def test_without_a_fault_nothing_is_raised(tmp_path: Path, io: TorchCheckpointIO) -> None:
    trainer = Ranks(io, {"state_dict": {"w": torch.ones(2)}}, writes=True, told=[])
    save(trainer, tmp_path / "last.ckpt")  # type: ignore[arg-type]
    assert trainer.met == ["barrier", "broadcast"]
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["state_dict"]["w"].tolist() == [1.0, 1.0]


def test_who_writes_without_save_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not finite"):
        AtomicCheckpointIO().save_checkpoint(ILL, tmp_path / "last.ckpt")
