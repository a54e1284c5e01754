"""The text of a study: numbers, texts, and what is refused with file and line."""

from pathlib import Path

import pytest
import yaml

from epo_lightning.limits import Mistake
from epo_lightning.sweep.document import as_text, nested, read_document, require_known


def read(tmp_path: Path, text: str) -> dict[str, object]:
    file = tmp_path / "study.yaml"
    file.write_text(text)
    return read_document(file)


def test_a_number_with_an_exponent_is_a_number_and_a_quoted_one_a_text(tmp_path: Path) -> None:
    content = read(tmp_path, "a: 1e-3\nb: '1e-3'\nc: '007'\nd: 'no'\ne: 2E+2\nf: 1_0\ng: 2024-05-06\nh: .5e1")
    assert content == {
        "a": 0.001, "b": "1e-3", "c": "007", "d": "no", "e": 200.0, "f": 10, "g": "2024-05-06", "h": 5.0,
    }  # fmt: skip


def test_what_is_written_is_read_as_it_was() -> None:
    settings = {"a": "1e-3", "b": "no", "c": 0.001, "d": None, "e": ["007", 7, "2024-05-06"], "f": "null", "g": ".5e1"}
    assert yaml.safe_load(as_text(settings)) == settings


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ("- a", "not a mapping"),
        ("a: 1\nb: [", "line 2: "),
        ("a: 1\nb: 2\na: 3", "line 3: the key a comes twice"),
        ("a:\n  b: 1\n  b: 2", "line 3: the key b comes twice"),
        ("[1, 2]: 3", "line 1: a key must be a text"),
    ],
)
def test_what_is_no_study_is_told_with_its_file(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(Mistake, match=r"study\.yaml") as caught:
        read(tmp_path, text)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_text_or_not_there_is_told(tmp_path: Path) -> None:
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe")
    with pytest.raises(Mistake, match=r"binary\.yaml: not UTF-8"):
        read_document(tmp_path / "binary.yaml")
    with pytest.raises(Mistake, match=r"none\.yaml: No such file"):
        read_document(tmp_path / "none.yaml")


def test_a_typo_names_the_nearest_key() -> None:
    with pytest.raises(Mistake, match=r"f: sedes means nothing here; did you mean seeds\?"):
        require_known("f", ["sedes"], ["seeds", "jobs"])
    with pytest.raises(Mistake, match="known are seeds, jobs"):
        require_known("f", ["xyz"], ["seeds", "jobs"])


def test_keys_with_dots_stand_where_they_belong() -> None:
    flat = {"trainer.max_epochs": 3, "trainer": {"precision": "32"}, "model": {"loss": {"a": 1}}, "model.loss.b": 2}
    assert nested("f", flat) == {
        "trainer": {"max_epochs": 3, "precision": "32"},
        "model": {"loss": {"a": 1, "b": 2}},
    }
    with pytest.raises(Mistake, match=r"trainer\.max_epochs is said twice"):
        nested("f", {"trainer.max_epochs": 3, "trainer": {"max_epochs": 3}})
    for key in (1, "a..b", ""):
        with pytest.raises(Mistake, match="is not a key"):
            nested("f", {key: 1})
