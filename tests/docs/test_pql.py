"""The page's table of PQL's published constants is what the module does when nothing is said."""

import re
from dataclasses import fields
from pathlib import Path

import pytest

from epo_lightning.modules.pql import PQLModule

PAGE = (Path(__file__).parents[2] / "docs/differences.md").read_text()
SECTION = PAGE.partition("\n## Parallel Q-Learning\n")[2].partition("\n## ")[0]
PUBLISHED = {key: value for value, key in re.findall(r"\| ([^|]+) \| `model\.([\w.]+)` \|", SECTION)}


def default(key: str) -> object:
    """What a module that is told nothing has at `key`, behind `model.`."""
    module = PQLModule()
    group, _, name = key.partition(".")
    return getattr(getattr(module, "critic_settings" if group == "network" else f"{group}_settings"), name)


@pytest.mark.parametrize("key", PUBLISHED)
def test_a_default_is_the_published_constant(key: str) -> None:
    told, value = PUBLISHED[key], default(key)
    if isinstance(value, tuple):
        assert [int(width) for width in told.split(", ")] == list(value)
    elif isinstance(value, str):
        assert told == value
    else:
        assert value == float(told)


def test_every_number_of_the_losses_and_of_the_noise_is_in_the_table() -> None:
    module = PQLModule()
    for group, settings in (("loss", module.loss_settings), ("exploration", module.exploration_settings)):
        assert {f"{group}.{field.name}" for field in fields(settings)} <= set(PUBLISHED)
    assert len(PUBLISHED) == 22


def test_five_million_transitions() -> None:
    assert 4096 * PQLModule().replay_settings.capacity_per_env == pytest.approx(5e6, rel=1e-3)


def test_pql_d_is_a_setting() -> None:
    assert default("network.atoms") is None
    assert "`model.network.atoms`" in (Path(__file__).parents[2] / "docs/running.md").read_text()
