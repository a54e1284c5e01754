"""The archive of elites, with fitness made by hand: the environments pay what a table says.

An iteration is 64 env steps: 4 agents with 4 environments, 4 steps. Episodes have two steps and pay `pay` each.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from torch import Tensor

from epo_lightning.callbacks import ElitePreservation, GeneticEvolution
from epo_lightning.data import RolloutDataModule
from epo_lightning.envs.base import EnvSpec, StepResult, VectorEnv
from epo_lightning.module import EPOModule
from tests.training import small_data, small_module, train


class Payroll(VectorEnv):
    """Pays agent k, in every step of iteration i, half of `table[i][k]`: its return. None means no episode ends."""

    def __init__(self, num_envs: int, table: list[list[float | None]]) -> None:
        self.spec = EnvSpec("Payroll", num_envs, obs_dim=1, act_dim=1, max_episode_steps=2)
        self.table, self.clock = table, 0

    def reset(self) -> Tensor:
        return torch.zeros(self.spec.num_envs, 1)

    def step(self, actions: Tensor) -> StepResult:
        row = self.table[self.clock // 4]
        self.clock += 1
        pay = torch.tensor([value or 0.0 for value in row]).repeat_interleave(4) / 2
        ends = torch.tensor([value is not None for value in row]).repeat_interleave(4) & (self.clock % 2 == 0)
        return StepResult(self.reset(), pay, ends, torch.zeros_like(ends), torch.zeros_like(pay))

    def state_dict(self) -> dict[str, Any]:
        return {"clock": self.clock}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.clock = state["clock"]


class Witness(L.Callback):
    """Stands first in the list: notes the genes that the others find, and closes the window of the last look."""

    def __init__(self) -> None:
        self.genes: list[Tensor] = []
        self.log_std: list[Tensor] = []

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, EPOModule)
        self.genes.append(pl_module.policy.genes.detach().clone())
        self.log_std.append(pl_module.policy.log_std.detach().clone())

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Fitness then is that of one iteration, without an evolution that would start a new window."""
        assert isinstance(pl_module, EPOModule)
        if pl_module.data.dataset is not None:
            pl_module.data.dataset.fitness.reset()


def paying(*table: list[float | None]) -> RolloutDataModule:
    return small_data(16, lambda num_envs, device, seed: Payroll(num_envs, list(table)))


def elites(**changes: Any) -> ElitePreservation:
    return ElitePreservation(**({"archive_size": 2, "every_n_env_steps": 64, "save_best_master": False} | changes))


def run(folder: Path, callback: ElitePreservation, *table: list[float | None]) -> tuple[EPOModule, Witness]:
    module, witness = small_module(), Witness()
    train(module, paying(*table), folder, len(table), witness, callback)
    return module, witness


class TestArchive:
    def test_the_best_followers_with_their_genes(self, tmp_path: Path) -> None:
        archive = elites()
        _, seen = run(tmp_path, archive, [9, 1, 5, 3])
        assert archive.fitness.tolist() == [5.0, 3.0]  # the master's 9 does not count
        assert torch.equal(archive.genes, seen.genes[0][[2, 3]])
        assert torch.equal(archive.log_std, seen.log_std[0][[2, 3]])

    def test_the_best_ever_not_the_best_now(self, tmp_path: Path) -> None:
        archive = elites()
        module, seen = run(tmp_path, archive, [0, 1, 5, 3], [0, 4, 2, 1], [0, 0, 0, 1])
        assert archive.fitness.tolist() == [5.0, 4.0]
        assert torch.equal(archive.genes, torch.stack([seen.genes[0][2], seen.genes[1][1]]))
        assert torch.equal(archive.log_std, torch.stack([seen.log_std[0][2], seen.log_std[1][1]]))
        assert not torch.equal(archive.genes[0], module.policy.genes[2])  # which has been trained on since
        assert module.metrics["population/archive_best"] == 5.0

    def test_equal_fitness_keeps_the_older(self, tmp_path: Path) -> None:
        archive = elites()
        _, seen = run(tmp_path, archive, [0, 5, 5, 3], [0, 5, 5, 5])
        assert archive.fitness.tolist() == [5.0, 5.0]
        assert torch.equal(archive.genes, seen.genes[0][[1, 2]])

    def test_negative_returns(self, tmp_path: Path) -> None:
        archive = elites()
        run(tmp_path, archive, [0, -5, -3, -4], [0, -2, -6, -9])
        assert archive.fitness.tolist() == [-2.0, -3.0]

    def test_who_has_not_finished_an_episode_stays_out(self, tmp_path: Path) -> None:
        archive = elites()
        run(tmp_path, archive, [0, None, -3, None])
        assert archive.fitness.tolist() == [-3.0]

    def test_too_few_episodes(self, tmp_path: Path) -> None:
        # 4 environments finish two episodes each in an iteration
        archive = elites(min_episodes=9)
        module, _ = run(tmp_path, archive, [0, 1, 5, 3])
        assert len(archive.fitness) == 0
        assert "population/archive_best" not in module.metrics
        archive = elites(min_episodes=8)
        run(tmp_path, archive, [0, 1, 5, 3])
        assert archive.fitness.tolist() == [5.0, 3.0]

    def test_looks_are_so_many_env_steps_apart(self, tmp_path: Path) -> None:
        archive = elites(every_n_env_steps=128)
        run(tmp_path, archive, [0, 9, 9, 9], [0, 1, 2, 3], [0, 8, 8, 8], [0, 3, 2, 4])
        assert archive.fitness.tolist() == [4.0, 3.0]

    def test_the_master_is_not_touched_and_nobody_is_replaced(self, tmp_path: Path) -> None:
        with_archive, _ = run(tmp_path, elites(), [0, 1, 5, 3], [0, 4, 2, 1])
        without = small_module()
        train(without, paying([0, 1, 5, 3], [0, 4, 2, 1]), tmp_path, 2, Witness())
        for name, value in with_archive.policy.state_dict().items():
            assert torch.equal(value, without.policy.state_dict()[name]), name


class TestRestore:
    table = ([0, 10, 8, 1], [0, 4, 5, 6])

    def test_lost_by_more_than_the_margin(self, tmp_path: Path) -> None:
        archive = elites(restore_margin=0.3)
        module, seen = run(tmp_path, archive, *self.table)
        # 6 < 10 - 0.3 x 10: the two archived genes, of agents 1 and 2, replace the two worst, now also 2 and 1
        assert archive.restorations == 1
        assert archive.fitness.tolist() == [10.0, 8.0]
        policy = module.policy
        assert torch.equal(policy.genes[[2, 1]], seen.genes[0][[1, 2]])
        assert torch.equal(policy.log_std[[2, 1]], seen.log_std[0][[1, 2]])
        assert torch.equal(policy.genes[[0, 3]], seen.genes[1][[0, 3]])
        dataset = module.data.dataset
        assert dataset is not None
        assert dataset.fitness.sums()["count"].tolist() == [8.0, 0.0, 0.0, 8.0]

    @pytest.mark.parametrize("margin", [0.41, None])
    def test_within_the_margin(self, tmp_path: Path, margin: float | None) -> None:
        archive = elites(restore_margin=margin)
        module, seen = run(tmp_path, archive, *self.table)
        assert archive.restorations == 0
        assert torch.equal(module.policy.genes, seen.genes[1])

    def test_the_margin_is_of_the_absolute_value(self, tmp_path: Path) -> None:
        # the archive's best is -10: below -10 - 0.5 x 10 it is lost
        kept, lost = elites(restore_margin=0.5), elites(restore_margin=0.5)
        run(tmp_path, kept, [0, -10, -11, -12], [0, -14, -14, -14])
        assert kept.restorations == 0
        run(tmp_path, lost, [0, -10, -11, -12], [0, -16, -16, -16])
        assert lost.restorations == 1

    def test_the_evolution_behind_it_waits_for_the_restored(self, tmp_path: Path) -> None:
        """They have not played an episode yet: whatever fitness their rows had was another gene's."""
        archive = elites(restore_margin=0.3)
        evolution = GeneticEvolution(128, warmup_env_steps=0, num_elites=1, spread_threshold=0.0)
        module, witness = small_module(), Witness()
        train(module, paying(*self.table), tmp_path, 2, witness, archive, evolution)
        assert archive.restorations == 1
        assert evolution.lineage == []
        assert torch.equal(module.policy.genes[[2, 1]], witness.genes[0][[1, 2]])


class TestBestMaster:
    def saved(self, folder: Path) -> dict[str, Any]:
        return torch.load(folder / "checkpoints" / "best_master.ckpt", weights_only=True)

    def test_written_when_the_master_is_better_than_ever(self, tmp_path: Path) -> None:
        archive = elites(save_best_master=True)
        module, seen = run(tmp_path, archive, [3, 1, 5, 3], [7, 4, 2, 1], [6, 0, 0, 1])
        assert archive.best_master_fitness == 7.0
        contents = self.saved(tmp_path)
        assert torch.equal(contents["state_dict"]["policy.genes"], seen.genes[1])
        assert contents["epo"]["model.num_agents"] == module.num_agents
        assert contents["callbacks"]["ElitePreservation"]["best_master_fitness"] == 7.0

    def test_not_written_on_request(self, tmp_path: Path) -> None:
        run(tmp_path, elites(save_best_master=False), [3, 1, 5, 3])
        assert not (tmp_path / "checkpoints").exists()

    def test_it_can_be_trained_on(self, tmp_path: Path) -> None:
        run(tmp_path, elites(save_best_master=True), [3, 1, 5, 3], [7, 4, 2, 1])
        archive, module = elites(save_best_master=True), small_module()
        trainer = L.Trainer(
            accelerator="cpu", devices=1, max_epochs=3, logger=False, enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False, limit_val_batches=0, default_root_dir=tmp_path,
            callbacks=[Witness(), archive],
        )  # fmt: skip
        path = tmp_path / "checkpoints" / "best_master.ckpt"
        trainer.fit(module, paying([0] * 4, [0] * 4, [8, 9, 4, 3]), ckpt_path=path)
        assert module.metrics["charts/env_steps"] == 3 * 64
        assert archive.fitness.tolist() == [9.0, 5.0]
        assert archive.best_master_fitness == 8.0


class TestState:
    def test_round_trip_through_a_file(self, tmp_path: Path) -> None:
        one, other = elites(restore_margin=0.3), elites(restore_margin=0.3)
        run(tmp_path, one, *TestRestore.table)
        torch.save(one.state_dict(), tmp_path / "state.pt")
        other.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
        assert other.restorations == 1
        assert other.fitness.tolist() == [10.0, 8.0]
        for name, value in one.state_dict().items():
            restored = other.state_dict()[name]
            assert torch.equal(value, restored) if isinstance(value, Tensor) else value == restored, name
        # the next look is due at 192 env steps: not yet
        run(tmp_path, other, [0, 99, 99, 99])
        assert other.fitness.tolist() == [10.0, 8.0]

    def test_an_empty_archive_too(self, tmp_path: Path) -> None:
        one, other = elites(), elites()
        torch.save(one.state_dict(), tmp_path / "state.pt")
        other.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
        run(tmp_path, other, [0, 1, 5, 3])
        assert other.fitness.tolist() == [5.0, 3.0]


class TestRefusals:
    def test_larger_than_the_population(self, tmp_path: Path) -> None:
        words = r"ElitePreservation\.archive_size must be at most the number of followers \(3\), got 4"
        with pytest.raises(ValueError, match=words):
            run(tmp_path, elites(archive_size=4), [0, 1, 5, 3])
        archive = elites(archive_size=3)
        run(tmp_path, archive, [0, 1, 5, 3])
        assert archive.fitness.tolist() == [5.0, 3.0, 1.0]

    def test_behind_the_evolution(self, tmp_path: Path) -> None:
        evolution = GeneticEvolution(64, num_elites=1)
        with pytest.raises(ValueError, match="ElitePreservation must stand before GeneticEvolution"):
            train(small_module(), paying([0, 1, 5, 3]), tmp_path, 1, evolution, elites())

    @pytest.mark.parametrize(
        ("name", "value"),
        [("archive_size", 0), ("every_n_env_steps", 0), ("min_episodes", 0), ("restore_margin", -0.1),
         ("restore_margin", float("nan"))],
    )  # fmt: skip
    def test_out_of_range(self, name: str, value: float) -> None:
        with pytest.raises(ValueError, match=rf"trainer\.callbacks ElitePreservation\.{name} must be at least"):
            elites(**{name: value})
