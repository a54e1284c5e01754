"""Keys with dots, and keys that mean nothing."""

import pytest

from epo_lightning.documents.keys import nested, require_known
from epo_lightning.limits import Mistake


def test_a_typo_names_the_nearest_key() -> None:
    with pytest.raises(Mistake, match=r"f: sedes means nothing here \(did you mean seeds\?\)"):
        require_known("f", ["sedes"], ["seeds", "jobs"])
    with pytest.raises(Mistake, match="known are seeds, jobs"):
        require_known("f", ["xyz"], ["seeds", "jobs"])


def test_keys_with_dots_stand_where_they_belong() -> None:
    flat = {"trainer.max_epochs": 3, "trainer": {"precision": "32"}, "model": {"loss": {"a": 1}}, "model.loss.b": 2}
    assert nested(flat, lambda _: "f: ") == {
        "trainer": {"max_epochs": 3, "precision": "32"},
        "model": {"loss": {"a": 1, "b": 2}},
    }


def test_what_is_said_with_dots_and_without_is_refused_with_its_place() -> None:
    with pytest.raises(Mistake, match=r"^at trainer\.max_epochs: the key trainer\.max_epochs stands twice"):
        nested({"trainer.max_epochs": 3, "trainer": {"max_epochs": 3}}, lambda key: f"at {key}: ")
    with pytest.raises(Mistake, match="the key model stands twice"):
        nested({"model": 3, "model.num_agents": 4}, lambda _: "")


@pytest.mark.parametrize("key", [1, "a..b", ""])
def test_what_is_no_name_is_no_key(key: object) -> None:
    with pytest.raises(Mistake, match="is not a key"):
        nested({key: 1}, lambda _: "")
