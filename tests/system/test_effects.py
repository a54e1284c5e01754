"""The table of a study of combinations."""

from pathlib import Path

import pytest

from benchmarks.effects import effect, options, tail


def test_keys_that_always_come_together_are_one_option() -> None:
    study: dict[str, dict[str, object]] = {
        "methods": {"a": {"x": 1, "y": True}, "b": {"z": 2, "x": 1, "y": True}, "c": {}}
    }
    assert options(study) == {"x 1, y true": {"a", "b"}, "z 2": {"b"}}


def test_an_effect_and_its_error_by_hand() -> None:
    # means 2 and 5; variances 2 and 8, of two and of two runs: sqrt(2 / 2 + 8 / 2)
    assert effect([1.0, 3.0], [3.0, 7.0]) == pytest.approx((-3.0, 5**0.5))


def test_the_last_tenth_of_a_run(tmp_path: Path) -> None:
    rows = "".join(f"{at},{at * at}.0\n" for at in range(1, 21))
    (tmp_path / "metrics.csv").write_text(f"charts/iteration,a\n{rows}")
    assert tail(tmp_path, "a") == (19 * 19 + 20 * 20) / 2
