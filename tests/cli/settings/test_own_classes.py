"""Short names: exactly this package's own classes, all of them, and what anybody's checkpoint may name."""

from importlib import import_module
from typing import Any

import pytest

from epo_lightning import callbacks
from epo_lightning.algorithm import crossover
from epo_lightning.cli.settings.own_classes import CALLBACKS, CROSSOVERS, ENVIRONMENTS, RULES, expand
from epo_lightning.cli.trust import embedded_config
from epo_lightning.cli.trust.allowlist import findings
from epo_lightning.envs import classic


def test_they_are_the_classes_of_the_package() -> None:
    for name, path in {**ENVIRONMENTS, **CALLBACKS, **CROSSOVERS}.items():
        module, _, last = path.rpartition(".")
        assert last == name == getattr(import_module(module), last).__name__
    assert {*CALLBACKS} == {*callbacks.__all__} - {"PopulationCallback"}
    assert {*classic.__all__} - {"ClassicEnv", "Transition"} < {*ENVIRONMENTS}
    operators = [each for each in vars(crossover).values() if isinstance(each, type)]
    assert {*CROSSOVERS} == {each.__name__ for each in operators if each.__base__ is crossover.Crossover}


@pytest.mark.parametrize("name", [*ENVIRONMENTS])
def test_anybodys_checkpoint_may_name_the_environments_but_for_the_worker(name: str) -> None:
    config = embedded_config.parse(f"data: {{env: {{class_path: {name}}}}}", limited=True)
    assert config["data"]["env"]["class_path"] == ENVIRONMENTS[name]
    assert [each.key for each in findings(config)] == (["data.env"] if name == "WorkerEnv" else [])


def test_a_checkpoint_with_short_names_means_ours() -> None:
    evolution = {"class_path": "GeneticEvolution", "init_args": {"crossover": {"class_path": "KPoint"}}}
    others = [{"class_path": name} for name in CALLBACKS]
    config: dict[str, Any] = {"trainer": {"callbacks": [evolution, *others]}}
    assert findings(expand(config)) == []
    assert expand(config)["trainer"]["callbacks"][0]["init_args"]["crossover"]["class_path"] == CROSSOVERS["KPoint"]
    exchange = {"class_path": "PopulationBasedTraining", "init_args": {"rule": {"class_path": "Margins"}}}
    config = expand({"trainer": {"callbacks": [exchange]}})
    assert findings(config) == []
    assert config["trainer"]["callbacks"][0]["init_args"]["rule"]["class_path"] == RULES["Margins"]
    (finding,) = findings(expand({"trainer": {"callbacks": [{"class_path": "Lambda"}]}}))
    assert finding.what == "import Lambda"
