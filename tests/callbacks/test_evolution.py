"""The evolution as a callback: what it refuses, when it happens, and what it leaves behind in the run folder.

An iteration is 64 env steps: 4 agents with 4 environments, 4 steps; every episode has two steps.
"""

import copy
import json
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from torch import Tensor

from epo_lightning.algorithm.genome import Genome
from epo_lightning.callbacks import ElitePreservation
from epo_lightning.callbacks.gene_history import GeneHistory
from epo_lightning.envs.base import StepResult
from epo_lightning.run.notices import against
from tests.support.agent_reward import AgentReward
from tests.support.gene_witness import Witness
from tests.support.training import Recorder, evolution, fit, small_data, small_module, train


class SlowLast(AgentReward):
    """The last agent finishes its first episode with step 18, in the fifth iteration."""

    def step(self, actions: Tensor) -> StepResult:
        result = super().step(actions)
        return result._replace(terminated=result.terminated & ((self.reward < 3) | (self.clock >= 18)))


class EndlessLast(AgentReward):
    """The last agent's episodes never end."""

    def step(self, actions: Tensor) -> StepResult:
        result = super().step(actions)
        return result._replace(terminated=result.terminated & (self.reward < 3))


class Widen(AgentReward):
    """From the third step on everybody is paid ten times as much."""

    def step(self, actions: Tensor) -> StepResult:
        result = super().step(actions)
        return result._replace(reward=result.reward * (10.0 if self.clock > 2 else 1.0))


class Raise(AgentReward):
    """From the third step on everybody is paid 100 more: a window that is not emptied would still know the old pay."""

    def step(self, actions: Tensor) -> StepResult:
        result = super().step(actions)
        return result._replace(reward=result.reward + (100.0 if self.clock > 4 else 0.0))


def strict_json(line: str) -> dict[str, Any]:
    """JSON as every reader understands it: without NaN."""

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is not JSON")

    read: dict[str, Any] = json.loads(line, parse_constant=refuse)
    return read


def lineage_file(folder: Path) -> list[dict[str, Any]]:
    return [strict_json(line) for line in (folder / "lineage.jsonl").read_text().splitlines()]


class TestRefusals:
    @pytest.mark.parametrize(
        ("settings", "words"),
        [
            ({"num_elites": 3}, r"num_elites must be less than .* followers \(3 with model\.num_agents 4\), got 3"),
            ({"num_elites": 2, "num_offspring": 2}, r"num_offspring must be at most 1 \(followers that .*\), got 2"),
            (
                {"crossover": "k_point", "crossover_points": 3},
                r"crossover_points must be less than model\.network\.gene_dim 3",
            ),
        ],
    )
    def test_does_not_fit_the_population(self, tmp_path: Path, settings: dict[str, Any], words: str) -> None:
        with pytest.raises(ValueError, match=rf"trainer\.callbacks GeneticEvolution\.{words}"):
            train(small_module(), small_data(), tmp_path, 1, evolution(**settings))
        assert not (tmp_path / "lineage.jsonl").exists()

    def test_just_fits(self, tmp_path: Path) -> None:
        callback = evolution(num_elites=2, num_offspring=1, crossover="k_point", crossover_points=2)
        train(small_module(), small_data(16, AgentReward), tmp_path, 1, callback)
        assert callback.lineage.records[0]["children"] == [1]
        # points of other crossovers do not matter
        train(small_module(), small_data(16, AgentReward), tmp_path, 1, evolution(crossover_points=50))

    def test_one_agent_has_nobody_to_evolve(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match=r"num_elites must be less than the number of followers \(0"):
            train(small_module(1), small_data(), tmp_path, 1, evolution())

    @pytest.mark.parametrize(
        "name",
        ["every_n_env_steps", "num_elites", "num_offspring", "crossover_points", "episodes_per_env"],
    )
    def test_at_least_one(self, name: str) -> None:
        with pytest.raises(ValueError, match=rf"GeneticEvolution\.{name} must be at least 1, got 0"):
            evolution(**{name: 0})

    @pytest.mark.parametrize("name", ["warmup_env_steps", "spread_threshold", "mutation_sigma"])
    @pytest.mark.parametrize("value", [-1.0, float("nan")])
    def test_not_negative(self, name: str, value: float) -> None:
        with pytest.raises(ValueError, match=rf"GeneticEvolution\.{name} must be at least 0"):
            evolution(**{name: value})


class TestGenerations:
    def test_each_window_starts_empty(self, tmp_path: Path) -> None:
        callback = evolution()
        train(small_module(), small_data(16, Raise), tmp_path, 3, callback)
        # two steps pay 2 k, from the second iteration on 200 + 2 k; no mean of old and new
        assert [record["fitness"] for record in callback.lineage.records] == [
            [0.0, 2.0, 4.0, 6.0],
            [200.0, 202.0, 204.0, 206.0],
            [200.0, 202.0, 204.0, 206.0],
        ]

    def test_a_look_below_the_threshold_begins_a_new_window_too(self, tmp_path: Path) -> None:
        callback = evolution(spread_threshold=1e9)
        module, data = small_module(), small_data(16, Widen)
        train(module, data, tmp_path, 2, callback)
        assert callback.lineage.records == []
        assert module.dataset.fitness.opened_at == 128
        # followers got 2, 4, 6 in the first window and 20, 40, 60 in the second: no mean of old and new
        assert module.metrics["population/fitness_spread"] == 40.0
        assert module.metrics["charts/generation"] == 0

    def test_windows_close_during_the_warmup_too(self, tmp_path: Path) -> None:
        """Else the first generation would judge the very first episodes of the training."""
        callback = evolution(warmup_env_steps=128)
        train(small_module(), small_data(16, Widen), tmp_path, 2, callback)
        assert [(record["env_steps"], record["fitness"]) for record in callback.lineage.records] == [
            (128, [0, 20, 40, 60])
        ]

    @pytest.mark.parametrize(("episodes", "wanted"), [(1, [0, 2, 4, 6]), (2, [0, 11, 22, 33])])
    def test_the_first_episodes_of_each_environment_count(
        self, tmp_path: Path, episodes: int, wanted: list[float]
    ) -> None:
        callback = evolution(episodes_per_env=episodes)
        train(small_module(), small_data(16, Widen), tmp_path, 1, callback)
        assert callback.lineage.records[0]["fitness"] == wanted

    def test_waits_until_every_environment_has_begun_an_episode(self, tmp_path: Path) -> None:
        callback = evolution(every_n_env_steps=128)
        train(small_module(), small_data(16, SlowLast), tmp_path, 5, callback)
        # at first everybody has; then the last agent's first episode runs on from before until the fifth iteration
        assert [record["env_steps"] for record in callback.lineage.records] == [128, 320]
        # it is paid 3 a step, and had not finished in the first window
        assert [record["fitness"][3] for record in callback.lineage.records] == [8 * 3.0, 2 * 3.0]

    def test_nobody_waits_for_an_endless_episode(self, tmp_path: Path) -> None:
        callback = evolution(every_n_env_steps=128)
        train(small_module(), small_data(16, EndlessLast), tmp_path, 10, callback)
        # one window more is waited; 8 and then 16 steps have paid 3 each
        assert [record["env_steps"] for record in callback.lineage.records] == [128, 384, 640]
        assert [record["fitness"][3] for record in callback.lineage.records] == [24.0, 48.0, 48.0]

    def test_children_by_hand(self, tmp_path: Path) -> None:
        """Without noise a child of the elite and itself or another is the mean of their genes."""
        before, after, callback = Witness(), Witness(), evolution(mutation_sigma=0.0)
        train(small_module(), small_data(16, AgentReward), tmp_path, 1, before, callback, after)
        record, old, new = callback.lineage.records[0], before.genes[0], after.genes[0]
        assert record["children"] == [2, 1]  # best first
        assert [pair[0] for pair in record["parents"]] == [3, 3]
        for child, parents in zip(record["children"], record["parents"], strict=True):
            assert parents[1] in (2, 3)  # the worst, agent 1, has the probability 0
            torch.testing.assert_close(new[child], old[parents].mean(0))
        assert torch.equal(new[[0, 3]], old[[0, 3]])

    def test_the_seed_decides(self, tmp_path: Path) -> None:
        genes = []
        for seed in (1, 1, 2):
            witness = Witness()
            train(small_module(), small_data(16, AgentReward), tmp_path, 1, evolution(seed=seed), witness)
            genes.append(witness.genes[0])
        assert torch.equal(genes[0], genes[1])
        assert not torch.equal(genes[0], genes[2])

    def test_without_one_that_of_the_run_decides(self, tmp_path: Path) -> None:
        genes = []
        for seed in (1, 1, 2):
            data, witness, module = small_data(16, AgentReward), Witness(), small_module()
            data.seed = seed
            before = Witness()
            train(module, data, tmp_path, 1, before, evolution(crossover="uniform"), witness)
            genes.append(witness.genes[0] - before.genes[0])
        assert torch.equal(genes[0], genes[1])
        assert not torch.equal(genes[0], genes[2])


class TestLineage:
    def test_a_line_for_every_generation(self, tmp_path: Path) -> None:
        callback = evolution()
        train(small_module(), small_data(16, AgentReward), tmp_path, 3, callback)
        records = lineage_file(tmp_path)
        assert records == callback.lineage.records
        assert [record["generation"] for record in records] == [1, 2, 3]
        assert [record["env_steps"] for record in records] == [64, 128, 192]
        for record in records:
            assert set(record) == {"generation", "env_steps", "children", "parents", "elites", "fitness"}
            assert record["fitness"] == [0.0, 2.0, 4.0, 6.0]
            assert record["elites"] == [3]
            assert record["children"] == [2, 1]
            assert [len(pair) for pair in record["parents"]] == [2, 2]

    def test_written_as_it_happens(self, tmp_path: Path) -> None:
        lengths = []

        class Look(L.Callback):
            def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
                lengths.append(len(lineage_file(tmp_path)))

        train(small_module(), small_data(16, AgentReward), tmp_path, 3, evolution(), Look())
        assert lengths == [1, 2, 3]

    def test_no_generation_no_file(self, tmp_path: Path) -> None:
        train(small_module(), small_data(16, AgentReward), tmp_path, 1, evolution(warmup_env_steps=1000))
        assert not (tmp_path / "lineage.jsonl").exists()

    @pytest.mark.parametrize("known", [0, 1])
    def test_what_a_killed_run_wrote_after_its_checkpoint_is_told_once(self, tmp_path: Path, known: int) -> None:
        """The file holds two generations, the checkpoint knew `known` of them: it goes on from there."""
        first = evolution()
        train(small_module(), small_data(16, AgentReward), tmp_path, 2, first)
        assert len(lineage_file(tmp_path)) == 2
        second = evolution()
        second.load_state_dict(first.state_dict() | {"generations": known})
        train(small_module(), small_data(16, AgentReward), tmp_path, 1, second)
        assert lineage_file(tmp_path) == second.lineage.records
        assert [record["generation"] for record in lineage_file(tmp_path)] == list(range(1, known + 2))


class TestGenes:
    def test_the_population_before_the_first_generation_and_every_generation_as_it_begins(self, tmp_path: Path) -> None:
        before, after, callback = Witness(), Witness(), evolution()
        train(small_module(), small_data(16, AgentReward), tmp_path, 3, before, callback, after)
        kept = np.load(tmp_path / "genes.npy", allow_pickle=False)
        assert (kept.shape, kept.dtype) == ((4, 4, 3), np.float16)
        wanted = torch.stack([before.genes[0], *after.genes]).half().numpy()
        assert np.array_equal(kept, wanted)
        assert not np.array_equal(kept[1], kept[2])
        assert not list(tmp_path.glob(".*.part"))

    def test_no_generation_no_file(self, tmp_path: Path) -> None:
        train(small_module(), small_data(16, AgentReward), tmp_path, 1, evolution(warmup_env_steps=1000))
        assert not (tmp_path / "genes.npy").exists()

    @pytest.mark.parametrize("known", [0, 1])
    def test_what_a_killed_run_wrote_after_its_checkpoint_is_dropped(self, tmp_path: Path, known: int) -> None:
        first = evolution()
        train(small_module(), small_data(16, AgentReward), tmp_path, 2, first)
        state, whole = first.state_dict(), np.load(tmp_path / "genes.npy")
        state |= {"generations": known}
        second, lengths = evolution(every_n_env_steps=128), []

        class Look(L.Callback):
            def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
                path = tmp_path / "genes.npy"
                lengths.append(len(np.load(path)) if path.exists() else 0)

        second.load_state_dict(state)
        train(small_module(), small_data(16, AgentReward), tmp_path, 2, second, Look())
        assert lengths == [[0, 0], [2, 2]][known]
        kept = np.load(tmp_path / "genes.npy")
        assert len(kept) == known + 2
        assert np.array_equal(kept[: known + 1], whole[: known + 1]) or not known

    def test_a_run_from_before_they_were_kept_goes_on_with_gaps(self, tmp_path: Path) -> None:
        first, second = evolution(), evolution()
        train(small_module(), small_data(16, AgentReward), tmp_path, 2, first)
        (tmp_path / "genes.npy").unlink()
        second.load_state_dict(first.state_dict())
        train(small_module(), small_data(16, AgentReward), tmp_path, 1, second)
        kept = np.load(tmp_path / "genes.npy")
        assert np.isnan(kept).all((1, 2)).tolist() == [True, True, True, False]

    def test_sixty_four_agents_and_three_hundred_generations_are_small(self, tmp_path: Path) -> None:
        genome = Genome({"genes": torch.randn(64, 32), "log_std": torch.zeros(64, 23)}, None, ["log_std"])
        history = GeneHistory()
        history.begin(genome, 0)
        for _ in range(300):
            history.add(genome)
        history.write(tmp_path / "genes.npy")
        assert (tmp_path / "genes.npy").stat().st_size == 301 * 64 * 32 * 2 + 128

    def test_whole_networks_are_no_genes(self, tmp_path: Path) -> None:
        genome, history = Genome({"weights": torch.zeros(4, 30, 30)}), GeneHistory()
        history.begin(genome, 0)
        history.add(genome)
        history.write(tmp_path / "genes.npy")
        assert not (tmp_path / "genes.npy").exists()


class TestState:
    def test_round_trip_through_a_file(self, tmp_path: Path) -> None:
        one, other = evolution(), evolution(seed=9)
        train(small_module(), small_data(16, AgentReward), tmp_path, 2, one)
        torch.save(one.state_dict(), tmp_path / "state.pt")
        other.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
        assert other.lineage.count == one.lineage.count == 2
        mine, theirs = one.state_dict(), other.state_dict()
        assert torch.equal(mine.pop("generator"), theirs.pop("generator"))
        assert mine == theirs

    def test_the_next_generation_is_that_of_the_uninterrupted_run(self, tmp_path: Path) -> None:
        genes = []
        for interrupted in (False, True):
            callback, witness = evolution(), Witness()
            # a first generation, so that the generator has moved
            train(small_module(), small_data(16, AgentReward), tmp_path, 1, callback)
            state = copy.deepcopy(callback.state_dict())
            callback = evolution(seed=5) if interrupted else callback
            callback.load_state_dict(state)
            train(small_module(), small_data(16, AgentReward), tmp_path, 1, callback, witness)
            assert [record["generation"] for record in callback.lineage.records] == [1, 2]
            genes.append(witness.genes[0])
        assert torch.equal(*genes)

    def test_a_resumed_run_logs_what_the_uninterrupted_one_does(self, tmp_path: Path) -> None:
        """Looks happen every second iteration; what they found is logged in the third, too, resumed or not."""

        def run(iterations: int, ckpt_path: Path | None = None) -> tuple[L.Trainer, list[dict[str, float]]]:
            logger = Recorder()
            callbacks = [ElitePreservation(1, 128, save_best_master=False), evolution(every_n_env_steps=128)]
            changes = {"logger": logger, "callbacks": callbacks, "ckpt_path": ckpt_path}
            trainer = fit(small_module(), small_data(16, AgentReward), tmp_path, iterations, **changes)
            clocks = ("time/", "charts/sps")
            return trainer, [{k: v for k, v in row.items() if not k.startswith(clocks)} for row, _ in logger.calls]

        _, whole = run(4)
        trainer, first = run(2)
        trainer.save_checkpoint(tmp_path / "two.ckpt", weights_only=False)
        _, second = run(4, tmp_path / "two.ckpt")
        assert first + second == whole


class TestReasons:
    """Why there is no generation: once, with number and threshold."""

    def reasons(self, caplog: pytest.LogCaptureFixture) -> list[str]:
        return [record.message for record in caplog.records if "no generation" in record.message]

    def test_the_spread_is_below_the_threshold(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        # followers return 2, 4 and 6: (6 - 2) / 4 = 1
        train(small_module(), small_data(16, AgentReward), tmp_path, 4, evolution(spread_threshold=1.5))
        assert self.reasons(caplog) == ["64 env steps, spread 1 below the threshold 1.5: no generation"]

    def test_the_warmup_comes_first(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        callback = evolution(spread_threshold=1.5, warmup_env_steps=192)
        train(small_module(), small_data(16, AgentReward), tmp_path, 4, callback)
        assert self.reasons(caplog) == [
            "64 env steps, below warmup_env_steps 192: no generation",
            "192 env steps, spread 1 below the threshold 1.5: no generation",
        ]

    def test_a_window_waits_for_episodes(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        train(small_module(), small_data(16, SlowLast), tmp_path, 4, evolution(every_n_env_steps=64))
        line = "env steps, 4 envs have begun no episode in the last 64: no generation yet"
        assert self.reasons(caplog)[0].endswith(line)

    def test_a_generation_makes_the_next_reason_news(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        class Drowse(L.Callback):
            """Evolution in the third iteration only."""

            def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
                callback.spread_threshold = 0.5 if trainer.current_epoch == 2 else 9.0

        callback = evolution()
        train(small_module(), small_data(16, AgentReward), tmp_path, 5, Drowse(), callback)
        assert [line.split()[0] for line in self.reasons(caplog)] == ["64", "256"]


@pytest.mark.parametrize(
    ("value", "bound", "text"),
    [
        (0.08, 0.1, "0.08 below the threshold 0.1"),
        (0.0996, 0.1, "0.0996 below the threshold 0.1"),
        (0.1, 0.1, "0.1 not above the threshold 0.1"),
        (0.0, 0.0, "0 not above the threshold 0"),
    ],
)
def test_a_number_is_told_so_that_it_is_below(value: float, bound: float, text: str) -> None:
    assert against(value, bound, "the threshold") == text
