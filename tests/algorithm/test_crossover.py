"""Crossover operators: by hand where they are arithmetic, by counting where they are chance (seeds are fixed)."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor

from epo_lightning.algorithm.crossover import Average, Crossover, CrossoverName, KPoint, Uniform, by_name
from epo_lightning.run.checkpoint import read_checkpoint
from tests.support.chance import chi_square, seeded
from tests.support.command_line import Cli, Outcome, Rows


class TestCrossover:
    def test_average(self) -> None:
        first, second = torch.tensor([[0.0, 2.0], [1.0, 1.0]]), torch.tensor([[4.0, 6.0], [-1.0, 2.0]])
        child = Average()(first, second, seeded())
        assert child.tolist() == [[2.0, 4.0], [0.0, 1.5]]

    def test_uniform_takes_each_entry_from_either_parent_alike(self) -> None:
        child = Uniform()(torch.zeros(200, 50), torch.ones(200, 50), seeded())
        assert set(child.unique().tolist()) == {0.0, 1.0}
        assert child.mean().item() == pytest.approx(0.5, abs=0.025)  # 5 standard errors of 10,000 coins
        # entries are drawn one by one, neither whole rows nor whole columns
        assert 0.2 < child.mean(1).min() < child.mean(1).max() < 0.8
        assert 0.3 < child.mean(0).min() < child.mean(0).max() < 0.7

    @pytest.mark.parametrize("points", [1, 2, 5, 7])
    def test_k_point_switches_exactly_so_often(self, points: int) -> None:
        child = KPoint(points)(torch.zeros(300, 8), torch.ones(300, 8), seeded())
        switches = (child[:, 1:] != child[:, :-1]).sum(1)
        assert switches.tolist() == [points] * 300
        assert child[:, 0].unique().tolist() == [0.0]  # it begins with the elite

    def test_k_point_cuts_every_place_alike(self) -> None:
        child = KPoint(1)(torch.zeros(4000, 5), torch.ones(4000, 5), seeded())
        places = (child[:, 1:] != child[:, :-1]).sum(0).tolist()
        assert chi_square(places, [0.25] * 4) < 21.1

    @pytest.mark.parametrize("operator", [Uniform(), KPoint(2)])
    def test_entries_stay_in_their_place(self, operator: Crossover) -> None:
        first = torch.arange(6.0).repeat(20, 1)
        child = operator(first, first + 100, seeded())
        assert torch.equal(child % 100, first)

    @pytest.mark.parametrize("name", ["average", "uniform", "k_point"])
    def test_by_name_and_by_class_are_the_same(self, name: CrossoverName) -> None:
        parents = torch.zeros(50, 9), torch.ones(50, 9)
        operator = {"average": Average(), "uniform": Uniform(), "k_point": KPoint(3)}[name]
        assert torch.equal(by_name(name, 3)(*parents, seeded()), operator(*parents, seeded()))


class TestRefusals:
    def test_points(self) -> None:
        with pytest.raises(ValueError, match=r"GeneticEvolution\.crossover KPoint\.points must be at least 1, got 0"):
            KPoint(0).check(3)

    def test_more_points_than_places(self) -> None:
        KPoint(2).check(3)
        key = r"trainer\.callbacks GeneticEvolution\.crossover"
        with pytest.raises(
            ValueError, match=rf"{key} KPoint\.points must be less than model\.network\.gene_dim 3, got 3"
        ):
            KPoint(3).check(3)
        with pytest.raises(ValueError, match=rf"{key}_points must be less than model\.network\.gene_dim 3, got 3"):
            by_name("k_point", 3).check(3)

    def test_the_others_take_any_gene(self) -> None:
        for operator in (Average(), Uniform()):
            operator.check(1)


class Blend(Crossover):
    """Somebody's own: so much of the second parent."""

    def __init__(self, share: float) -> None:
        self.share = share

    def __call__(self, first: Tensor, second: Tensor, generator: torch.Generator) -> Tensor:
        return (1 - self.share) * first + self.share * second


GENES = "epo_lightning.callbacks.GeneticEvolution"


def evolving(crossover: object, **settings: Any) -> dict[str, Any]:
    settings = {"every_n_env_steps": 64, "warmup_env_steps": 0, "num_elites": 1, "spread_threshold": 0.0, **settings}
    return {"trainer": {"callbacks": [{"class_path": GENES, "init_args": {**settings, "crossover": crossover}}]}}


class TestCommandLine:
    def fit(self, cli: Cli, crossover: object, run: str = "run", **settings: Any) -> Outcome:
        Path("evolving.yaml").write_text(yaml.safe_dump(evolving(crossover, **settings)))
        return cli("fit", "--config", "tiny.yaml", "--config", "evolving.yaml", "--run_dir", run)

    def test_an_operator_of_ones_own(self, cli: Cli) -> None:
        outcome = self.fit(cli, {"class_path": f"{__name__}.Blend", "init_args": {"share": 1.0}}, mutation_sigma=0.0)
        assert outcome.code == 0, outcome.err
        record = json.loads(Path("run/lineage.jsonl").read_text().splitlines()[-1])
        (kept,) = yaml.safe_load(Path("run/config.yaml").read_text())["trainer"]["callbacks"]
        assert kept["init_args"]["crossover"]["init_args"] == {"share": 1.0}
        # a share of 1 copies the second parent: of the last generation children are equal where their parents are
        genes = read_checkpoint(Path("run/checkpoints/last.ckpt"))["state_dict"]["policy.genes"]
        for child, (_, parent) in zip(record["children"], record["parents"], strict=True):
            if parent not in record["children"]:
                assert torch.equal(genes[child], genes[parent])

    @pytest.mark.parametrize("short", ["KPoint", "epo_lightning.algorithm.crossover.KPoint"])
    def test_the_class_does_what_the_name_does(self, cli: Cli, rows: Rows, short: str) -> None:
        assert self.fit(cli, "k_point", "name", crossover_points=1).code == 0
        assert self.fit(cli, {"class_path": short, "init_args": {"points": 1}}, "class").code == 0
        assert Path("class/lineage.jsonl").read_text() == Path("name/lineage.jsonl").read_text()
        assert rows(Path("class")) == rows(Path("name"))
        resumed = cli("fit", "--ckpt_path", "class", "--trainer.max_epochs=3")
        assert resumed.code == 0, resumed.err
        assert len(rows(Path("class"))) == 3

    @pytest.mark.parametrize(
        ("crossover", "settings", "words"),
        [
            ("k_point", {"crossover_points": 3}, "GeneticEvolution.crossover_points must be less than"),
            ({"class_path": "KPoint", "init_args": {"points": 3}}, {}, "crossover KPoint.points must be less than"),
            ({"class_path": "KPoint", "init_args": {"points": 0}}, {}, "crossover KPoint.points must be at least 1"),
            ("averag", {}, "averag"),
            ({"class_path": "KPoint", "init_args": {"pints": 1}}, {}, "pints"),
            ({"class_path": f"{__name__}.Blend"}, {}, "share"),
            ({"class_path": GENES}, {}, "crossover"),
        ],
    )
    def test_mistakes_are_one_line(self, cli: Cli, crossover: object, settings: dict[str, Any], words: str) -> None:
        outcome = self.fit(cli, crossover, **settings)
        assert outcome.code == 2
        assert outcome.err.startswith("error: ")
        assert outcome.err.count("\n") == 1
        assert words in outcome.err
        assert not Path("run").exists()
