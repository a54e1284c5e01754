"""Checkpoints: whole or not there, tensors only, and refused in one sentence otherwise."""

import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, Never

import lightning as L
import pytest
import torch

from epo_lightning.modules.contents import CONFIG as CONFIG_KEY
from epo_lightning.run.checkpoint import AtomicCheckpointIO, read_checkpoint
from epo_lightning.run.run_checkpoints import RunCheckpoints
from tests.support.command_line import Cli, Rows

GOOD: dict[str, Any] = {CONFIG_KEY: "seed_everything: 0", "weights": torch.ones(1000)}


def test_what_was_saved_is_read(tmp_path: Path) -> None:
    path = tmp_path / "new" / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint(GOOD, path)
    assert torch.equal(AtomicCheckpointIO().load_checkpoint(path)["weights"], GOOD["weights"])
    assert list(path.parent.iterdir()) == [path]


def test_a_failing_save_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint(GOOD, path)
    before = path.read_bytes()

    def die_half_way(_: object, file: IO[bytes]) -> Never:
        file.write(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", die_half_way)
    with pytest.raises(KeyboardInterrupt):
        AtomicCheckpointIO().save_checkpoint({CONFIG_KEY: "other"}, path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


class Malicious:
    def __reduce__(self) -> tuple[Callable[[Path], None], tuple[Path]]:
        return (Path.touch, (Path("executed"),))


@pytest.mark.parametrize("damage", ["truncated", "empty", "text", "pickle", "other zip", "foreign state", "code"])
def test_what_is_no_checkpoint_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint(GOOD, path)
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:-900])
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "text":
        path.write_text("hello")
    elif damage == "pickle":
        path.write_bytes(pickle.dumps({"a": 1}))
    elif damage == "other zip":
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("a", "b")
    elif damage == "foreign state":
        torch.save({"state_dict": {}, "epoch": 3}, path)
    else:
        torch.save({**GOOD, "evil": Malicious()}, path)
    with pytest.raises(ValueError, match=r"^ckpt_path: .*last.ckpt (cannot be read|is not a checkpoint)"):
        read_checkpoint(path)
    assert not Path("executed").exists()


def test_saving_takes_its_share_of_the_time_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("epo_lightning.run.run_checkpoints.time.monotonic", lambda: now)
    checkpoints = RunCheckpoints(max_share=0.1)
    spent = 0.0
    for iteration in range(1, 101):
        now += 1.0
        if checkpoints._is_due(iteration):
            now += 2.0
            spent += 2.0
            checkpoints._seconds, checkpoints._longest = spent, 2.0
        if iteration > 40:
            assert 0.05 < spent / now <= 0.1


def test_a_fixed_interval_counts_iterations() -> None:
    checkpoints = RunCheckpoints(every_n_iterations=3)
    assert [iteration for iteration in range(1, 10) if checkpoints._is_due(iteration)] == [3, 6, 9]


def test_the_best_checkpoint_is_the_one_with_the_highest_return(cli: Cli, rows: Rows) -> None:
    assert cli("fit", "--config", "tiny.yaml", "--run_dir", "run", "--trainer.max_epochs", "8",
               "--checkpoint.every_n_iterations", "1").code == 0  # fmt: skip
    returns = [float(row["charts/episodic_return"]) for row in rows(Path("run"))]
    best = read_checkpoint(Path("run/checkpoints/best.ckpt"))
    assert best["epoch"] == returns.index(max(returns))
    assert read_checkpoint(Path("run/checkpoints/last.ckpt"))["epoch"] == 7


def test_the_best_checkpoint_does_not_change_for_a_rounding_error(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    returns = iter([-5.0, -4.0, -4.0 + 1e-6, -4.5])
    end = RunCheckpoints.on_train_epoch_end

    def with_a_given_return(self: RunCheckpoints, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        trainer.callback_metrics["charts/episodic_return"] = torch.tensor(next(returns))
        end(self, trainer, pl_module)

    monkeypatch.setattr(RunCheckpoints, "on_train_epoch_end", with_a_given_return)
    assert cli("fit", "--config", "tiny.yaml", "--run_dir", "run", "--trainer.max_epochs", "4",
               "--checkpoint.every_n_iterations", "1").code == 0  # fmt: skip
    assert read_checkpoint(Path("run/checkpoints/best.ckpt"))["epoch"] == 1


def test_a_run_without_a_finished_episode_has_a_last_checkpoint_only(cli: Cli) -> None:
    assert cli("fit", "--config", "tiny.yaml", "--run_dir", "run", "--data.env.init_args.max_steps", "100").code == 0
    assert [file.name for file in Path("run/checkpoints").iterdir()] == ["last.ckpt"]
