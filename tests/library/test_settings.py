"""Settings of a caller in Python: dotted keys and Python values, which stay what they are."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from epo_lightning.library.settings import as_nested, write_settings
from epo_lightning.limits import Mistake


def test_dotted_keys_and_nested_mappings_mean_the_same() -> None:
    dotted = {"model.num_agents": 8, "model.network.hidden": (8, 4), "trainer.max_epochs": 3}
    mixed = {"model": {"num_agents": 8, "network.hidden": (8, 4)}, "trainer": {"max_epochs": 3}}
    assert as_nested(dotted) == as_nested(mixed)
    assert as_nested(dotted) == {
        "model": {"num_agents": 8, "network": {"hidden": [8, 4]}},
        "trainer": {"max_epochs": 3},
    }


def test_values_are_read_as_they_were_given(tmp_path: Path) -> None:
    values: dict[str, Any] = {
        "texts": ["007", "1e-3", "no", "null", "~", "2026-01-01", "a: b\nc # d", "ü"],
        "numbers": [1e-5, 1.0, -3, 2**40, float("inf")],
        "others": [True, None, [], {}],
        "class": {"class_path": "a.B", "init_args": {"name": "0x1"}},
    }
    shared = [1, 2]
    write_settings({**values, "one": shared, "two": shared}, tmp_path / "settings.yaml")
    read = yaml.safe_load((tmp_path / "settings.yaml").read_text(encoding="utf-8"))
    assert read == {**values, "one": shared, "two": shared}
    assert [type(each) for each in read["numbers"]] == [float, float, int, int, float]


def test_numpy_and_paths_become_plain() -> None:
    given = {"a": np.float32(0.5), "b": np.arange(3), "c": np.int64(4), "d": Path("x/y"), "e": range(2)}
    assert as_nested(given) == {"a": 0.5, "b": [0, 1, 2], "c": 4, "d": "x/y", "e": [0, 1]}


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        ({"model.num_agents": object()}, "model.num_agents must be data .* got object"),
        ({"model": {"loss": {"clip_eps": float("nan")}}}, "model.loss.clip_eps must be data .* got nan"),
        ({"trainer.callbacks": [{"class_path": int}]}, "trainer.callbacks.class_path must be data .* got type"),
        ({"model.num_agents": 3, "model": {"num_agents": 4}}, "model.num_agents stands twice"),
        ({"model": 3, "model.num_agents": 4}, "settings: the key model stands twice"),
        ({3: 4}, "is not a key"),
        ({"model..num_agents": 4}, "is not a key"),
        ("model.num_agents=4", "must be a dictionary"),
    ],
)
def test_what_is_no_setting_is_refused_by_its_key(settings: Any, fault: str) -> None:  # noqa: ANN401
    with pytest.raises(Mistake, match=fault):
        as_nested(settings)
