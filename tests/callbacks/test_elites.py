"""The archive of elites, with fitness made by hand: the environments pay what a table says.

An iteration is 64 env steps: 4 agents with 4 environments, 4 steps. Episodes have two steps and pay `pay` each.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from torch import Tensor

from epo_lightning.callbacks import ElitePreservation, GeneticEvolution
from epo_lightning.callbacks.elites import Archive
from epo_lightning.modules.data import RolloutDataModule
from epo_lightning.modules.epo import EPOModule
from tests.support.payroll import Payroll
from tests.support.training import small_data, small_module, train


class Witness(L.Callback):
    """Stands first in the list: notes the genes that the others find."""

    def __init__(self) -> None:
        self.genes: list[Tensor] = []
        self.log_std: list[Tensor] = []

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, EPOModule)
        self.genes.append(pl_module.policy.genes.detach().clone())
        self.log_std.append(pl_module.policy.log_std.detach().clone())


class Replace(L.Callback):
    """Stands last: other individuals, with genes of 7, take the rows `agents` after iteration `iteration` (from 0)."""

    def __init__(self, iteration: int, *agents: int) -> None:
        self.iteration, self.agents = iteration, torch.tensor(agents)

    @property
    def state_key(self) -> str:
        return f"Replace {self.iteration}"

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, EPOModule)
        if trainer.current_epoch == self.iteration:
            genome = {name: part[self.agents] for name, part in pl_module.genome.read().items()}
            genome["genes"] = torch.full_like(genome["genes"], 7.0) + torch.arange(len(self.agents))[:, None]
            pl_module.replace_agents(self.agents, genome)


def paying(*table: Sequence[float | None]) -> RolloutDataModule:
    return small_data(16, lambda num_envs, device, seed: Payroll(num_envs, list(table)))


def elites(**changes: Any) -> ElitePreservation:
    return ElitePreservation(**({"archive_size": 2, "every_n_env_steps": 64, "save_best_master": False} | changes))


def run(
    folder: Path, callback: ElitePreservation, *table: Sequence[float | None], then: tuple[L.Callback, ...] = ()
) -> tuple[EPOModule, Witness]:
    module, witness = small_module(), Witness()
    train(module, paying(*table), folder, len(table), witness, callback, *then)
    return module, witness


def kept(callback: ElitePreservation) -> Archive:
    assert callback.archive is not None
    return callback.archive


class TestArchive:
    def test_the_best_followers_with_their_genes(self, tmp_path: Path) -> None:
        callback = elites()
        _, seen = run(tmp_path, callback, [9, 1, 5, 3])
        assert kept(callback).fitness.tolist() == [5.0, 3.0]  # the master's 9 does not count
        assert kept(callback).individuals.tolist() == [2, 3]
        assert torch.equal(kept(callback).genome["genes"], seen.genes[0][[2, 3]])
        assert torch.equal(kept(callback).genome["log_std"], seen.log_std[0][[2, 3]])

    def test_who_is_alive_is_remembered_as_it_is_now(self, tmp_path: Path) -> None:
        callback = elites()
        module, seen = run(tmp_path, callback, [0, 1, 5, 3], [0, 4, 2, 1])
        assert kept(callback).fitness.tolist() == [4.0, 2.0]
        assert kept(callback).individuals.tolist() == [1, 2]
        assert torch.equal(kept(callback).genome["genes"], seen.genes[1][[1, 2]])
        assert module.metrics["population/archive_best"] == 4.0

    def test_one_individual_never_fills_two_places(self, tmp_path: Path) -> None:
        """Four looks with one unchanged best agent."""
        callback = elites(archive_size=3)
        run(tmp_path, callback, *([[0, 9, 2, 1]] * 4))
        assert kept(callback).individuals.tolist() == [1, 2, 3]
        assert kept(callback).fitness.tolist() == [9.0, 2.0, 1.0]

    def test_who_was_replaced_is_remembered_as_it_was_measured_last(self, tmp_path: Path) -> None:
        callback = elites()
        _, seen = run(tmp_path, callback, [0, 1, 5, 3], [0, 4, 2, 1], [0, 0, 0, 1], then=(Replace(0, 2),))
        # the 5 of agent 2's first individual is better than whatever came afterwards; agent 1's 4 has become 0
        assert kept(callback).fitness.tolist() == [5.0, 1.0]
        assert kept(callback).individuals.tolist() == [2, 3]
        assert torch.equal(kept(callback).genome["genes"], torch.stack([seen.genes[0][2], seen.genes[2][3]]))
        assert torch.equal(kept(callback).genome["log_std"], torch.stack([seen.log_std[0][2], seen.log_std[2][3]]))

    def test_equal_fitness_keeps_who_is_gone(self, tmp_path: Path) -> None:
        callback = elites()
        _, seen = run(tmp_path, callback, [0, 5, 5, 3], [0, 5, 5 + 1e-7, 5], then=(Replace(0, 1, 2),))
        assert kept(callback).individuals.tolist() == [1, 2]
        assert torch.equal(kept(callback).genome["genes"], seen.genes[0][[1, 2]])

    def test_negative_returns(self, tmp_path: Path) -> None:
        callback = elites()
        run(tmp_path, callback, [0, -5, -3, -4], [0, -2, -6, -9], then=(Replace(0, 2),))
        assert kept(callback).fitness.tolist() == [-2.0, -3.0]

    def test_an_episode_that_runs_counts_with_what_it_has_returned(self, tmp_path: Path) -> None:
        callback = elites()
        run(tmp_path, callback, [0, None, -3, None])
        assert kept(callback).fitness.tolist() == [0.0, 0.0]

    def test_copies_of_one_gene_take_one_place(self, tmp_path: Path) -> None:
        class Clone(L.Callback):
            """Stands before the archive: agent 3 is agent 2 to the bit."""

            def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
                assert isinstance(pl_module, EPOModule)
                with torch.no_grad():
                    pl_module.policy.genes[3], pl_module.policy.log_std[3] = (
                        pl_module.policy.genes[2],
                        pl_module.policy.log_std[2],
                    )

        callback = elites(archive_size=3)
        train(small_module(), paying([0, 1, 5, 6]), tmp_path, 1, Clone(), callback)
        assert kept(callback).individuals.tolist() == [3, 1]

    def test_looks_are_so_many_env_steps_apart(self, tmp_path: Path) -> None:
        callback = elites(every_n_env_steps=128)
        run(tmp_path, callback, [0, 9, 9, 9], [0, 1, 2, 3], [0, 8, 7, 6], [0, 3, 2, 4])
        # the first episodes of the second window
        assert kept(callback).fitness.tolist() == [8.0, 7.0]

    def test_with_an_evolution_looks_are_where_its_windows_close(self, tmp_path: Path) -> None:
        callback, evolution = elites(), GeneticEvolution(128, 0, num_elites=1, spread_threshold=1e9)
        module, _ = run(tmp_path, callback, [0, 9, 8, 7], [0, 1, 1, 1], [0, 3, 2, 1], then=(evolution,))
        assert kept(callback).fitness.tolist() == [9.0, 8.0]
        assert module.dataset.fitness.opened_at == 128

    def test_the_master_is_not_touched_and_nobody_is_replaced(self, tmp_path: Path) -> None:
        with_archive, _ = run(tmp_path, elites(), [0, 1, 5, 3], [0, 4, 2, 1])
        without = small_module()
        train(without, paying([0, 1, 5, 3], [0, 4, 2, 1]), tmp_path, 2, Witness())
        for name, value in with_archive.policy.state_dict().items():
            assert torch.equal(value, without.policy.state_dict()[name]), name


class Harder(Payroll):
    """Its tolerance narrows when iteration `at` begins."""

    at = 1

    def curriculum(self) -> dict[str, float]:
        return {"tolerance": 0.1 if self.clock < 4 * self.at + 1 else 0.05}


class TestDifficulty:
    def test_what_was_measured_at_another_one_does_not_compete(self, tmp_path: Path) -> None:
        callback = elites(save_best_master=True, restore_margin=0.0)
        data = small_data(16, lambda num_envs, device, seed: Harder(num_envs, [[9, 8, 7, 6], [4, 3, 2, 1]]))
        module = small_module()
        train(module, data, tmp_path, 2, callback, Replace(0, 1, 2, 3))
        assert kept(callback).fitness.tolist() == [3.0, 2.0]
        assert callback.restorations == 0
        assert callback.best_master_fitness == 4.0
        contents = torch.load(tmp_path / "checkpoints" / "best_master.ckpt", weights_only=True)
        assert torch.equal(contents["state_dict"]["policy.genes"], module.policy.genes)

    def test_the_same_one_to_rounding_does(self, tmp_path: Path) -> None:
        class Same(Payroll):
            def curriculum(self) -> dict[str, float]:
                return {"tolerance": 0.1 + 1e-9 * self.clock}

        callback = elites()
        data = small_data(16, lambda num_envs, device, seed: Same(num_envs, [[0, 8, 7, 6], [0, 3, 2, 1]]))
        train(small_module(), data, tmp_path, 2, callback, Replace(0, 1, 2, 3))
        assert kept(callback).fitness.tolist() == [8.0, 7.0]


class TestRestore:
    table = ([0, 10, 8, 1], [0, 4, 5, 6])

    def test_lost_by_more_than_the_margin(self, tmp_path: Path) -> None:
        callback = elites(restore_margin=0.3)
        module, seen = run(tmp_path, callback, *self.table, then=(Replace(0, 1, 2),))
        # 6 < 10 - 0.3 x 10: the two archived genes, of agents 1 and 2, replace the two worst, agents 1 and 2 again
        assert callback.restorations == 1
        assert kept(callback).fitness.tolist() == [10.0, 8.0]
        policy = module.policy
        assert torch.equal(policy.genes[[1, 2]], seen.genes[0][[1, 2]])
        assert torch.equal(policy.log_std[[1, 2]], seen.log_std[0][[1, 2]])
        assert torch.equal(policy.genes[[0, 3]], seen.genes[1][[0, 3]])
        assert kept(callback).individuals.tolist() == module.dataset.individuals[[1, 2]].tolist() == [6, 7]
        assert module.dataset.fitness.opened_at == 128

    def test_only_where_it_is_better(self, tmp_path: Path) -> None:
        callback = elites(restore_margin=0.1)
        module, seen = run(tmp_path, callback, [0, 10, 3, 1], [0, 5, 4, 6], then=(Replace(0, 1, 2),))
        # 10 returns for the worst, 4; 3 does not return for 5
        assert torch.equal(module.policy.genes[2], seen.genes[0][1])
        assert torch.equal(module.policy.genes[[1, 3]], seen.genes[1][[1, 3]])

    def test_nobody_returns_who_is_alive(self, tmp_path: Path) -> None:
        """The whole population has become worse: there is nothing to bring back."""
        callback = elites(restore_margin=0.3)
        module, seen = run(tmp_path, callback, *self.table)
        assert callback.restorations == 0
        assert torch.equal(module.policy.genes, seen.genes[1])

    def test_a_fitness_that_fell_for_good_is_learnt(self, tmp_path: Path) -> None:
        """Restored once, the old best is measured again: it is worth 3 now, and the new best is 6."""
        callback = elites(restore_margin=0.3)
        run(tmp_path, callback, [0, 10, 8, 1], *([[0, 3, 2, 6]] * 11), then=(Replace(0, 1, 2),))
        assert callback.restorations == 1
        assert kept(callback).fitness.tolist() == [6.0, 3.0]

    @pytest.mark.parametrize("margin", [0.41, None])
    def test_within_the_margin(self, tmp_path: Path, margin: float | None) -> None:
        callback = elites(restore_margin=margin)
        module, seen = run(tmp_path, callback, *self.table, then=(Replace(0, 1, 2),))
        assert callback.restorations == 0
        assert torch.equal(module.policy.genes, seen.genes[1])

    def test_rounding_is_no_loss(self, tmp_path: Path) -> None:
        callback = elites(restore_margin=0.0)
        run(tmp_path, callback, [0, 10, 8, 1], [0, 10 - 4e-6, 8, 1], then=(Replace(0, 1),))
        assert callback.restorations == 0

    @pytest.mark.parametrize(("now", "restorations"), [(-14, 0), (-16, 1)])
    def test_the_margin_is_of_the_absolute_value(self, tmp_path: Path, now: float, restorations: int) -> None:
        # the archive's best is -10: below -10 - 0.5 x 10 it is lost
        callback = elites(restore_margin=0.5)
        run(tmp_path, callback, [0, -10, -11, -12], [0, now, now, now], then=(Replace(0, 1, 2, 3),))
        assert callback.restorations == restorations

    def test_the_evolution_behind_it_waits_for_the_restored(self, tmp_path: Path) -> None:
        """They have not played an episode yet: whatever fitness their rows had was another gene's."""
        callback = elites(restore_margin=0.3)
        evolution = GeneticEvolution(64, warmup_env_steps=128, num_elites=1, spread_threshold=0.0)
        module, witness = run(tmp_path, callback, *self.table, then=(evolution, Replace(0, 1, 2)))
        assert callback.restorations == 1
        assert evolution.lineage.records == []
        assert torch.equal(module.policy.genes[[1, 2]], witness.genes[0][[1, 2]])


class TestBestMaster:
    def saved(self, folder: Path) -> dict[str, Any]:
        checkpoint: dict[str, Any] = torch.load(folder / "checkpoints" / "best_master.ckpt", weights_only=True)
        return checkpoint

    def test_written_when_the_master_is_better_than_ever(self, tmp_path: Path) -> None:
        archive = elites(save_best_master=True)
        module, seen = run(tmp_path, archive, [3, 1, 5, 3], [7, 4, 2, 1], [6, 0, 0, 1])
        assert archive.best_master_fitness == 7.0
        contents = self.saved(tmp_path)
        assert torch.equal(contents["state_dict"]["policy.genes"], seen.genes[1])
        assert contents["identity"]["model"]["num_agents"] == module.num_agents
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
        assert kept(archive).fitness.tolist() == [9.0, 4.0]
        assert archive.best_master_fitness == 8.0


class TestState:
    def test_round_trip_through_a_file(self, tmp_path: Path) -> None:
        one, other = elites(restore_margin=0.3), elites(restore_margin=0.3)
        run(tmp_path, one, *TestRestore.table, then=(Replace(0, 1, 2),))
        torch.save(one.state_dict(), tmp_path / "state.pt")
        other.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
        assert other.restorations == 1
        for mine, theirs in zip(kept(one)[:2], kept(other)[:2], strict=True):
            assert torch.equal(mine, theirs)
        assert kept(one).genome.keys() == kept(other).genome.keys() == {"genes", "log_std"}
        assert all(torch.equal(part, kept(other).genome[name]) for name, part in kept(one).genome.items())
        before, after = one.state_dict(), other.state_dict()
        del before["archive"], after["archive"]
        assert before == after
        # the next look is due at 192 env steps: not yet
        run(tmp_path, other, [0, 99, 99, 99])
        assert kept(other).fitness.tolist() == [10.0, 8.0]

    def test_an_empty_archive_too(self, tmp_path: Path) -> None:
        one, other = elites(), elites()
        torch.save(one.state_dict(), tmp_path / "state.pt")
        other.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
        run(tmp_path, other, [0, 1, 5, 3])
        assert kept(other).fitness.tolist() == [5.0, 3.0]


class TestRefusals:
    def test_larger_than_the_population(self, tmp_path: Path) -> None:
        words = r"ElitePreservation\.archive_size must be at most the number of followers \(3\), got 4"
        with pytest.raises(ValueError, match=words):
            run(tmp_path, elites(archive_size=4), [0, 1, 5, 3])
        archive = elites(archive_size=3)
        run(tmp_path, archive, [0, 1, 5, 3])
        assert kept(archive).fitness.tolist() == [5.0, 3.0, 1.0]

    def test_behind_the_evolution(self, tmp_path: Path) -> None:
        evolution = GeneticEvolution(64, num_elites=1)
        with pytest.raises(ValueError, match="ElitePreservation must stand before GeneticEvolution"):
            train(small_module(), paying([0, 1, 5, 3]), tmp_path, 1, evolution, elites())

    @pytest.mark.parametrize(
        ("name", "value"),
        [("archive_size", 0), ("every_n_env_steps", 0), ("restore_margin", -0.1),
         ("restore_margin", float("nan"))],
    )  # fmt: skip
    def test_out_of_range(self, name: str, value: float) -> None:
        with pytest.raises(ValueError, match=rf"trainer\.callbacks ElitePreservation\.{name} must be at least"):
            elites(**{name: value})
