"""YAML in one meaning: what is quoted is a text, what looks like a number is one, a key stands once."""

import pytest
import yaml

from epo_lightning.cli.trust import embedded_config
from epo_lightning.documents.plain_yaml import dump, load, marked, plain, transport

TEXTS = [
    "1e-3",
    "007",
    "no",
    "null",
    "0x10",
    "1_000",
    "2020-01-01",
    "~",
    "1:30",
    "",
    " a",
    "a: b",
    "[1]",
    "#",
    "1.",
    "-",
]
NUMBERS = {
    "1e-3": 0.001, "-1.5E3": -1500.0, "007": 7, "010": 10, "0x10": 16, "1_000": 1000, ".5": 0.5, "5.": 5.0, "+3": 3,
    "0b11": 3, ".inf": float("inf"),
}  # fmt: skip


def test_what_is_quoted_is_a_text_for_every_reader() -> None:
    for text in TEXTS:
        for quote in ('"', "'"):
            assert plain(load(f"a: [{quote}{text}{quote}]")) == {"a": [text]}
    written = dump({"a": TEXTS, "b": {"007": "no"}})
    assert plain(load(written)) == yaml.safe_load(written) == {"a": TEXTS, "b": {"007": "no"}}
    assert embedded_config.parse(dump({"data": {"a": TEXTS}}), limited=True) == {"data": {"a": TEXTS}}


@pytest.mark.parametrize("text", NUMBERS)
def test_what_is_not_quoted_may_be_a_number(text: str) -> None:
    value = load(f"a: {text}")["a"]
    assert (value, type(value)) == (NUMBERS[text], type(NUMBERS[text]))


def test_times_and_dates_are_texts_also_without_quotes() -> None:
    assert load("[1:30, 10:00:00:00, 2020-01-01]") == ["1:30", "10:00:00:00", "2020-01-01"]


def test_a_quoted_text_is_marked_until_it_is_used() -> None:
    value = load('{a: "007", b: [x, "x"], c: "wide word"}')
    assert value != plain(value) == {"a": "007", "b": ["x", "x"], "c": "wide word"}
    assert load(transport(value)) == value
    assert load(transport({"a": "007"})) == {"a": "007"}  # as written: the type of the key decides
    assert marked({"a": ["007", "x", 7]}) == {"a": [value["a"], "x", 7]}


@pytest.mark.parametrize(
    "text", ["a: 1\nb: 2\na: 3", "a:\n  b: 1\n  b: 2", "[{a: 1, a: 1}]", "{<<: {a: 1}, b: 1, b: 2}"]
)
def test_a_key_stands_once(text: str) -> None:
    with pytest.raises(yaml.YAMLError, match="stands twice"):
        load(text)


def test_a_merge_gives_way_to_the_keys_beside_it() -> None:
    text = "x: &x {a: 1, b: 1}\ny: &y {b: 2, c: 2}\nz: {c: 3, <<: [*x, *y]}"
    assert load(text)["z"] == {"a": 1, "b": 1, "c": 3}


@pytest.mark.parametrize("text", ["a: &x [*x]", "a: !!python/name:os.system", "{", "? [1]\n: 2"])
def test_what_is_not_plain_is_refused(text: str) -> None:
    with pytest.raises(yaml.YAMLError):
        load(text)


def test_a_word_with_a_colon_is_a_word() -> None:
    assert load("word:") == "word:"
    assert load("{word}") == "{word}"
    assert load("{word: }") == {"word": None}
