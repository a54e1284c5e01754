"""The page's table of CEM-RL's published constants is what the module does when nothing is said."""

import re
from dataclasses import fields
from pathlib import Path

import pytest

from epo_lightning.modules.cem_rl import CEMRLModule

PAGE = (Path(__file__).parents[2] / "docs/differences.md").read_text()
SECTION = PAGE.partition("\n## CEM-RL\n")[2].partition("\n## ")[0]
PUBLISHED = {key: value for value, key in re.findall(r"\| ([^|]+) \| `model\.([\w.]+)` \|", SECTION)}


def default(key: str) -> object:
    """What a module that is told nothing has at `key`, behind `model.`."""
    group, _, name = key.rpartition(".")
    return getattr(getattr(CEMRLModule(), f"{group}_settings") if group else CEMRLModule(), name)


@pytest.mark.parametrize("key", PUBLISHED)
def test_a_default_is_the_published_constant(key: str) -> None:
    told, value = PUBLISHED[key], default(key)
    if isinstance(value, tuple):
        assert [int(width) for width in told.split(", ")] == list(value)
    elif isinstance(value, bool | str):
        assert told == str(value).lower()
    else:
        assert value == float(told)


def test_every_number_of_the_losses_and_of_the_distribution_is_in_the_table() -> None:
    module = CEMRLModule()
    for group, settings in (("loss", module.loss_settings), ("evolution", module.evolution_settings)):
        assert {f"{group}.{field.name}" for field in fields(settings)} <= set(PUBLISHED)
    assert len(PUBLISHED) == 27


def test_ten_members_of_one_environment_have_a_million_transitions_and_ten_thousand_steps_of_warm_up() -> None:
    module = CEMRLModule()
    members = module.num_agents - 1
    assert members * module.replay_settings.capacity_per_env == 1e6
    assert members * module.replay_settings.warmup == 1e4
