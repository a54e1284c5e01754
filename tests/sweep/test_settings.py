"""Settings by name in a whole configuration."""

from typing import Any

import pytest

from epo_lightning.limits import Mistake
from epo_lightning.sweep.settings import assign


def config() -> dict[str, Any]:
    callbacks = [
        {"class_path": "mine.Guard"},
        {"class_path": "epo_lightning.callbacks.GeneticEvolution", "init_args": {"num_elites": 4, "seed": None}},
    ]
    return {"model": {"loss": {"clip_eps": 0.2}}, "trainer": {"callbacks": callbacks, "logger": None}}


def test_a_setting_is_found_below_keys_and_classes() -> None:
    changed = config()
    assign(changed, "model.loss.clip_eps", 0.1)
    assign(changed, "model.network.hidden", [8])
    assign(changed, "trainer.callbacks.GeneticEvolution.num_elites", 2)
    assign(changed, "trainer.callbacks.Guard.every", 3)
    assert changed["model"] == {"loss": {"clip_eps": 0.1}, "network": {"hidden": [8]}}
    assert changed["trainer"]["callbacks"] == [
        {"class_path": "mine.Guard", "init_args": {"every": 3}},
        {"class_path": "epo_lightning.callbacks.GeneticEvolution", "init_args": {"num_elites": 2, "seed": None}},
    ]


def test_a_class_that_is_not_there_is_told() -> None:
    with pytest.raises(Mistake, match=r"callbacks\.Elites: there is none .* which has Guard, GeneticEvolution"):
        assign(config(), "trainer.callbacks.Elites.size", 1)
    with pytest.raises(Mistake, match=r"logger\.Wandb: there is none .* which has none"):
        assign(config(), "trainer.logger.Wandb.project", "x")
    with pytest.raises(Mistake, match="needs the name of an argument"):
        assign(config(), "trainer.callbacks.Guard", 1)
