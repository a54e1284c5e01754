"""The section `search`: parameters, metric, and what is refused."""

import pytest

from epo_lightning.limits import Mistake
from epo_lightning.sweep.space import Parameter, Space, read_space


def parameters(**ranges: object) -> tuple[Parameter, ...]:
    return read_space("search", {"parameters": ranges}).parameters


def test_parameters_are_floats_ints_or_values() -> None:
    assert parameters(a={"low": 1e-4, "high": 0.1, "log": True}) == (Parameter("a", (), 1e-4, 0.1, True),)
    assert parameters(a={"low": 4, "high": 8, "step": 2}) == (Parameter("a", (), 4, 8, False, 2, True),)
    assert parameters(a={"low": 0, "high": 1, "type": "float"}) == (Parameter("a", (), 0, 1),)
    assert parameters(a=[True, None, [8, 8]], b={"values": ["x"]}) == (
        Parameter("a", (True, None, [8, 8])),
        Parameter("b", ("x",)),
    )
    assert parameters(a=[1, 1.0, True]) == (Parameter("a", (1, 1.0, True)),)


def test_what_is_left_out_has_a_default() -> None:
    space = read_space("search", {"parameters": {"a": [1, 2]}})
    assert space == Space((Parameter("a", (1, 2)),), "charts/episodic_return", "tail", True, 20, "median", 0)
    assert not read_space("search", {"parameters": {"a": [1]}, "direction": "minimize"}).maximize


@pytest.mark.parametrize(
    ("section", "words"),
    [
        (None, "search must hold parameters"),
        ({}, "search.parameters must be keys with ranges"),
        ({"parameters": {"a": [1]}, "trails": 3}, "did you mean trials?"),
        ({"parameters": {"a": [1]}, "trials": 0}, "search.trials"),
        ({"parameters": {"a": [1]}, "trials": True}, "search.trials"),
        ({"parameters": {"a": [1]}, "metric": 3}, "search.metric"),
        ({"parameters": {"a": [1]}, "value": "max"}, "one of last, tail"),
        ({"parameters": {"a": [1]}, "direction": "up"}, "one of maximize, minimize"),
        ({"parameters": {"a": [1]}, "pruner": "medina"}, "one of median, asha, none"),
        ({"parameters": {"a": [1]}, "seed": -1}, "search.seed"),
        ({"parameters": {"a": 3}}, "search.parameters.a must be {low: ..., high: ...}"),
        ({"parameters": {"a": []}}, "must be a list"),
        ({"parameters": {"a": [1, 1]}}, "has 1 twice"),
        ({"parameters": {"a": {"values": [1], "low": 3}}}, "stand alone"),
        ({"parameters": {"a": {"low": 1}}}, "a.high must be a number; got nothing"),
        ({"parameters": {"a": {"low": "x", "high": 2}}}, "a.low must be a number; got 'x'"),
        ({"parameters": {"a": {"low": 2, "high": 1}}}, "low must be less than high"),
        ({"parameters": {"a": {"low": 0, "high": 1, "log": True}}}, "low must be greater than 0"),
        ({"parameters": {"a": {"low": 1, "high": 2, "log": "yes"}}}, "a.log must be true or false"),
        ({"parameters": {"a": {"low": 1, "high": 2, "step": 5}}}, "a.step"),
        ({"parameters": {"a": {"low": 1, "high": 2.5, "type": "int"}}}, "type int needs whole numbers"),
        ({"parameters": {"a": {"low": 1, "high": float("inf")}}}, "a.high must be a number"),
        ({"parameters": {"seed_everything": [1]}}, "cannot be searched"),
        ({"parameters": {"a": {"low": 1, "hihg": 2}}}, "did you mean high?"),
    ],
)
def test_a_mistake_names_the_key(section: object, words: str) -> None:
    with pytest.raises(Mistake) as caught:
        read_space("search", section)
    assert words in str(caught.value)
