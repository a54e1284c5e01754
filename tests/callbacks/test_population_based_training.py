"""Population Based Training of whole networks, with returns made by hand: the environments pay what a table says.

An iteration is 16 own env steps of each of 8 agents, which have 4 environments; episodes have two steps.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor

from epo_lightning.algorithm.population_based import DexPBT, Margins
from epo_lightning.callbacks import PopulationBasedTraining
from epo_lightning.cli.arguments import CONFIGS
from epo_lightning.envs.allegro_kuka.reward import exposed
from epo_lightning.envs.base import StepResult
from epo_lightning.limits import Mistake
from epo_lightning.modules.data import RolloutDataModule
from epo_lightning.modules.pbt import PBTModule
from tests.support.apart import apart
from tests.support.payroll import Payroll
from tests.support.training import fit, small_data, small_module, train

Row = Sequence[float | None]
FALLING: Row = [8, 7, 6, 5, 4, 3, 2, 1]


class Goals(Payroll):
    """The pay of an episode is its successes, too; the reward has a price. Harder from iteration 1 on."""

    def __init__(self, num_envs: int, table: Sequence[Row]) -> None:
        super().__init__(num_envs, table)
        self.price = torch.ones(num_envs)

    def step(self, actions: Tensor) -> StepResult:
        result = super().step(actions)
        return result._replace(successes=result.reward, reward=result.reward * self.price)

    def true_objective(self, successes: Tensor) -> Tensor:
        return 0.5 + 0.01 * successes

    def reward_parameters(self) -> dict[str, float]:
        return {"price": 1.0}

    def set_reward_parameters(self, values: Mapping[str, Tensor]) -> None:
        super().set_reward_parameters(values)
        self.price = values["price"].clone()

    def state_dict(self) -> dict[str, Any]:
        return {"clock": self.clock, "price": self.price.clone()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.clock, self.price = state["clock"], state["price"].clone()


def paying(*table: Row, env: type[Payroll] = Payroll) -> RolloutDataModule:
    return small_data(4 * len(table[0]), lambda num_envs, device, seed: env(num_envs, list(table)))


def exchange(**changes: Any) -> PopulationBasedTraining:
    """A check after every iteration, from the first one on."""
    return PopulationBasedTraining(**({"interval_steps": 16, "start_after": 0, "initial_delay": 0} | changes))


def run(folder: Path, callback: PopulationBasedTraining, *table: Row, env: type[Payroll] = Payroll) -> PBTModule:
    module = apart(len(table[0]))
    train(module, paying(*table, env=env), folder, len(table), callback)
    return module


def when(callback: PopulationBasedTraining) -> list[int]:
    """In which iterations somebody acted, counted from 1."""
    return [record["env_steps"] // 128 for record in callback.lineage.records]


def test_the_clocks_are_those_of_the_released_code() -> None:
    callback = PopulationBasedTraining()
    assert (callback.interval_steps, callback.start_after, callback.initial_delay) == (10**7, 10**7, 2 * 10**7)
    assert isinstance(callback.rule, DexPBT)
    # and what its Allegro-Kuka experiments set otherwise
    (kuka, _) = yaml.safe_load((CONFIGS / "pbt_reorient.yaml").read_text())["trainer"]["callbacks"]
    given = kuka["init_args"]
    assert (given["interval_steps"], given["start_after"], given["initial_delay"]) == (2 * 10**7, 10**8, 2 * 10**8)
    assert given["rule"]["init_args"] == {"fraction_worst": 0.3}
    assert given["objective"] == "true_objective"
    assert given["reward_genome"].keys() == exposed(velocity_penalty=True).keys()


class TestBeginning:
    def test_everybody_mutates_once_and_keeps_its_weights(self, tmp_path: Path) -> None:
        rule, module = DexPBT(mutation_rate=1.0), apart()
        callback = exchange(rule=rule, genome={"clip": None, "gamma": None}, initial_delay=1000)
        train(module, paying(FALLING), tmp_path, 1, callback)
        assert callback.lineage.records == []
        before = module.initial()
        ratio = module.hyper_parameters.read()["clip"] / before["clip"]
        assert len(ratio.unique()) == 8
        assert (torch.maximum(ratio, 1 / ratio) >= 1.1).all()
        assert (torch.maximum(ratio, 1 / ratio) <= 1.5 + 1e-9).all()
        short = (1 - module.hyper_parameters.read()["gamma"]) / (1 - before["gamma"])
        assert (torch.maximum(short, 1 / short) <= 1.2 + 1e-9).all()
        # what is not in the genome is what it was
        assert (module.hyper_parameters.read()["critic"] == before["critic"]).all()


class TestWhen:
    def test_an_interval_counts_the_steps_of_one_agent(self, tmp_path: Path) -> None:
        callback = exchange(interval_steps=32)
        run(tmp_path, callback, *[FALLING] * 5)
        assert when(callback) == [2, 4]

    def test_nobody_acts_before_the_initial_delay(self, tmp_path: Path) -> None:
        callback = exchange(initial_delay=33)
        run(tmp_path, callback, *[FALLING] * 4)
        assert when(callback) == [3, 4]

    def test_who_has_acted_waits(self, tmp_path: Path) -> None:
        callback = exchange(start_after=32)
        run(tmp_path, callback, *[FALLING] * 3, [8, 7, 6, 5, 4, 3, 1, 2], *[FALLING] * 2)
        # agent 7 in iterations 2 and 5 (4 is not its turn), agent 6 in 4
        assert [
            (each, record["mutated"]) for each, record in zip(when(callback), callback.lineage.records, strict=True)
        ] == [
            (2, [7]),
            (4, [6]),
            (5, [7]),
        ]

    def test_an_agent_without_a_finished_episode_has_no_record_until_it_has_one(self, tmp_path: Path) -> None:
        unknown: Row = [8, 7, 6, 5, 4, 3, 2, None]
        callback = exchange()
        run(tmp_path, callback, unknown, unknown, FALLING)
        assert when(callback) == [3]
        rule = DexPBT(fraction_worst=0.25)  # agents 6 and 7
        callback = exchange(rule=rule)
        run(tmp_path, callback, unknown, unknown)
        assert [record["mutated"] for record in callback.lineage.records] == [[6], [6]]
        assert callback.lineage.records[0]["fitness"] == [8, 7, 6, 5, 4, 3, 2, None]

    def test_a_dip_replaces_nobody_who_was_among_the_best_since_the_last_check(self, tmp_path: Path) -> None:
        up: Row = [8, 7, 6, 5, 4, 3, 2, 6]
        callback = exchange(interval_steps=32)
        run(tmp_path, callback, up, FALLING, FALLING, FALLING)
        assert when(callback) == [4]

    def test_the_episodes_of_who_was_replaced_no_longer_count(self, tmp_path: Path) -> None:
        """Three steps of an episode of agent 7 have been made when it takes other weights."""
        callback = exchange(initial_delay=32)
        long: Row = [8, 7, 6, 5, 4, 3, 2, 1]
        module = run(tmp_path, callback, long, long, [8, 7, 6, 5, 4, 3, 2, None])
        assert when(callback) == [2]
        assert module.dataset.ledger.has_finished.tolist() == [True] * 28 + [False] * 4


Outcome = tuple[Path, PopulationBasedTraining, PBTModule]


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """Agent 7 has acted after the second of two iterations."""
    folder = tmp_path_factory.mktemp("run")
    callback = exchange(initial_delay=32, rule=DexPBT(mutation_rate=1.0))
    return folder, callback, run(folder, callback, FALLING, FALLING)


class TestWhat:
    def test_the_worst_takes_the_weights_of_one_of_the_three_best(self, outcome: Outcome) -> None:
        _, callback, module = outcome
        (record,) = callback.lineage.records
        assert record["children"] == [7]
        ((parent, other),) = record["parents"]
        assert parent == other
        assert parent in (0, 1, 2)
        same = {
            other
            for other in range(7)
            if all(torch.equal(part[7], part[other]) for part in module.policy.parameters() if part.shape[:1] == (8,))
        }
        assert same == {parent}

    def test_the_lineage_tells_it(self, outcome: Outcome) -> None:
        folder, callback, module = outcome
        (line,) = (folder / "lineage.jsonl").read_text().splitlines()
        assert json.loads(line) == callback.lineage.records[0]
        told = json.loads(line)
        assert told["elites"] == [0, 1, 2]
        assert told["fitness"] == FALLING
        assert told["champion"] == 0
        assert told["sources"] in ([7], [told["parents"][0][0]])
        now = module.hyper_parameters.read()
        assert {name: [float(now[name][7])] for name in told["hyper_parameters"]} == told["hyper_parameters"]

    def test_every_logger_gets_what_each_agent_trains_with(self, outcome: Outcome) -> None:
        _, callback, module = outcome
        now = module.hyper_parameters.read()
        for agent in range(8):
            assert module.metrics[f"hyper_parameters/clip/{agent}"] == float(now["clip"][agent])
        assert "hyper_parameters/learning_rate/0" not in module.metrics  # it is no gene
        assert module.metrics["charts/generation"] == len(callback.lineage.records) == 1

    def test_the_champion_is_the_best_on_record(self, tmp_path: Path) -> None:
        module = run(tmp_path, exchange(), [1, 2, 9, 4, 5, 6, 7, 8])
        assert module.champion == 2
        assert module.metrics["charts/episodic_return"] == 9.0
        assert module.metrics["population/objective_best"] == 9.0

    def test_by_the_margins_of_the_newer_peers(self, tmp_path: Path) -> None:
        callback = exchange(rule="margins")
        run(tmp_path, callback, FALLING)
        assert callback.lineage.records[0]["children"] == [4, 5, 6, 7]
        assert callback.lineage.records[0]["elites"] == [0, 1, 2, 3]

    def test_out_of_bounds_is_held_there_and_told(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        callback, module = exchange(rule=DexPBT(mutation_rate=1.0), genome={"clip": (0.19, 0.21)}), apart()
        with caplog.at_level("INFO"):
            train(module, paying(FALLING), tmp_path, 1, callback)
        assert module.hyper_parameters.read()["clip"].unique().tolist() == [0.19, 0.21]
        assert callback.lineage.records[0]["clamped"] == {"clip": [7]}
        assert "clip of agents [7] was mutated out of [0.19, 0.21]: held there" in caplog.text


class TestObjective:
    def test_successes(self, tmp_path: Path) -> None:
        callback = exchange(objective="successes", reward_genome={"price": None}, rule=DexPBT(mutation_rate=1.0))
        module = run(tmp_path, callback, FALLING, env=Goals)
        assert callback.lineage.records[0]["fitness"] == FALLING
        prices = module.hyper_parameters.read()["reward.price"]
        assert len(prices.unique()) == 8
        env = module.dataset.env
        assert isinstance(env, Goals)
        torch.testing.assert_close(env.price, prices.float().repeat_interleave(4))
        evaluated = module.data.evaluation_env(0, {}, module.data.eval_envs)
        assert isinstance(evaluated, Goals)
        assert (evaluated.price == 1).all()

    def test_what_the_task_says_they_are_worth(self, tmp_path: Path) -> None:
        callback = exchange(objective="true_objective")
        run(tmp_path, callback, FALLING, env=Goals)
        assert callback.lineage.records[0]["fitness"] == pytest.approx([0.5 + 0.01 * each for each in FALLING if each])


@pytest.mark.parametrize("rule", ["dexpbt", "margins"])
def test_a_resumed_run_goes_on_to_the_bit(tmp_path: Path, rule: str) -> None:
    table = [FALLING, [1, 2, 3, 4, 5, 6, 7, 8], [3, 1, 4, 1, 5, 9, 2, 6], FALLING]

    def begin(folder: Path, iterations: int, **changes: Any) -> tuple[PBTModule, PopulationBasedTraining]:
        callback, module = exchange(rule=rule, objective="successes", reward_genome={"price": None}), apart()
        settings = {"callbacks": [callback], "enable_checkpointing": False, **changes}
        trainer = fit(module, paying(*table, env=Goals), folder, iterations, **settings)
        trainer.save_checkpoint(folder / "last.ckpt")
        return module, callback

    whole, wholly = begin(tmp_path / "whole", 4)
    begin(tmp_path / "parts", 2)
    parts, partly = begin(tmp_path / "parts", 4, ckpt_path=tmp_path / "parts" / "last.ckpt")
    assert partly.lineage.records == wholly.lineage.records
    assert len(wholly.lineage.records) >= 3
    lines = [(tmp_path / name / "lineage.jsonl").read_text() for name in ("whole", "parts")]
    assert lines[0] == lines[1]
    assert parts.champion == whole.champion
    for name, value in whole.state_dict().items():
        assert torch.equal(value, parts.state_dict()[name]), name
    one, other = (module.dataset.env for module in (whole, parts))
    assert isinstance(one, Goals)
    assert isinstance(other, Goals)
    assert torch.equal(one.price, other.price)


def test_a_run_that_goes_on_with_it_counts_from_there(tmp_path: Path) -> None:
    def go_on(iterations: int, *callbacks: PopulationBasedTraining, **changes: Any) -> PBTModule:
        module = apart()
        trainer = fit(module, paying(*[FALLING] * 6), tmp_path, iterations, callbacks=[*callbacks], **changes)
        trainer.save_checkpoint(tmp_path / "last.ckpt")
        return module

    go_on(2)
    first = exchange(start_after=32)
    module = go_on(3, first, ckpt_path=tmp_path / "last.ckpt")
    assert (first.lineage.records, module.champion) == ([], 0)
    second = exchange(start_after=32, objective="successes")  # of which nobody has any: all are worth 0 now
    go_on(4, second, ckpt_path=tmp_path / "last.ckpt")
    assert second._records.tolist() == [0.0] * 8
    assert second.lineage.records == []


class TestMistakes:
    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"interval_steps": 0}, "interval_steps must be at least 1"),
            ({"start_after": -1}, "start_after must be at least 0"),
            ({"initial_delay": -1}, "initial_delay must be at least 0"),
            ({"seed": -1}, "seed must be at least 0"),
            ({"reward_genome": {"price": None}}, "select by true_objective or successes"),
            ({"rule": DexPBT(fraction_best=2)}, "rule.fraction_best must be greater than 0 and at most 1"),
            (
                {"genome": {"clpi": None}},
                r"no hyper-parameter 'clpi' \(did you mean clip\?\); it has learning_rate, clip",
            ),
            ({"genome": {"entropy": None}}, "genome.entropy: it is 0, and stays 0"),
            ({"genome": {"clip": (0.3, 0.1)}}, "two bounds, the smaller one first within 0 and inf"),
            ({"genome": {"gamma": (0.9, 1.1)}}, "two bounds, the smaller one first within 0 and 1"),
            ({"genome": {"clip": (0.01, 0.02)}}, r"the run begins with 0.2, out of its bounds \[0.01, 0.02\]"),
            ({"genome": {}}, "genome is empty"),
            ({"objective": "true_objective"}, "Payroll has no true objective"),
            (
                {"objective": "successes", "reward_genome": {"price": None}},
                "reward has no parameter 'price'; it has none; remove reward_genome",
            ),
        ],
    )
    def test_of_settings(self, tmp_path: Path, changes: dict[str, Any], words: str) -> None:
        with pytest.raises(Mistake, match=words):
            run(tmp_path, exchange(**changes), FALLING)

    def test_of_a_task_that_has_others(self, tmp_path: Path) -> None:
        with pytest.raises(Mistake, match=r"no parameter 'prise' \(did you mean price\?\); it has price"):
            run(tmp_path, exchange(objective="successes", reward_genome={"prise": None}), FALLING, env=Goals)

    def test_of_an_algorithm_whose_agents_share_a_network(self, tmp_path: Path) -> None:
        with pytest.raises(Mistake, match=r"agents of epo have none of their own: choose --algorithm pbt"):
            train(small_module(), small_data(), tmp_path, 1, exchange())

    def test_of_a_population_of_two(self, tmp_path: Path) -> None:
        with pytest.raises(Mistake, match=r"model\.num_agents must be at least 3, got 2"):
            run(tmp_path, exchange(), [1, 2])
        callback = exchange(rule=Margins())
        run(tmp_path, callback, [1, 2])
        assert callback.lineage.records[0]["children"] == [0]
