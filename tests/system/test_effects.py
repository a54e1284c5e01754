"""The table of a study of combinations."""

import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.effects import effects, main, options, table


def test_keys_that_always_come_together_are_one_option() -> None:
    methods = {"a": {"x": 1, "y": True}, "b": {"z": 2, "x": 1, "y": True}, "c": {}}
    assert options(methods) == {"x 1, y true": {"a", "b"}, "z 2": {"b"}}


def test_one_option_is_the_difference_of_two_means_by_hand() -> None:
    # means 2 and 5; squares about them 2 and 8 over two degrees of freedom: 5 (1 / 2 + 1 / 2)
    found = effects({"x": [True, True, False, False]}, [1.0, 3.0, 3.0, 7.0])
    assert found["x"] == pytest.approx((-3.0, 5**0.5))


def test_what_another_option_does_is_no_noise_by_hand() -> None:
    # y = 10 + 2 a + 6 b + 4 (a and b): evenly crossed, so that effects are 4 and 8, and what is left is -1, 1, 1, -1 of
    # them: 4 over one degree of freedom, times 1 / 2 + 1 / 2
    found = effects({"a": [False, True, False, True], "b": [False, False, True, True]}, [10.0, 12.0, 16.0, 22.0])
    assert found["a"] == pytest.approx((4.0, 2.0))
    assert found["b"] == pytest.approx((8.0, 2.0))


def test_unevenly_crossed_options_keep_their_own() -> None:
    # exactly y = 1 + 2 a + 5 b, with `b` mostly where `a` is
    found = effects(
        {"a": [True, True, True, False, False], "b": [True, True, False, False, True]}, [8.0, 8.0, 3.0, 1.0, 6.0]
    )
    assert found["a"] == pytest.approx((2.0, 0.0), abs=1e-9)
    assert found["b"] == pytest.approx((5.0, 0.0), abs=1e-9)


@pytest.mark.parametrize("having", [[True, True, True], [False, True, True]])
def test_too_little_to_tell(having: list[bool]) -> None:
    with pytest.raises(ValueError, match="3 runs do not tell 2 options apart"):
        effects({"x": having, "y": [True, False, False]}, [1.0, 2.0, 3.0])


def report(**methods: float) -> dict[str, Any]:
    """Two runs of each method, one above and one below."""
    return {
        "tasks": [
            {
                "task": "hill",
                "methods": [
                    {
                        "method": method,
                        "runs": [
                            {"seed": at, "return": value + off, "successes": None} for at, off in enumerate((-1.0, 1.0))
                        ],
                    }
                    for method, value in methods.items()
                ],
            }
        ]
    }


def test_the_table_has_the_numbers_that_all_runs_have() -> None:
    assert table({"with": {"x": 1}, "without": {}}, [report(**{"with": 5.0, "without": 2.0})]).splitlines() == [
        "| option (4 runs) | return |",
        "|---|---|",
        "| x 1 | +3 +- 1.4 |",
    ]


@pytest.mark.parametrize(
    ("methods", "told"), [({"without": {}}, "no method with"), ({"with": {"x": 1}, "without": {"x": 1}}, "do not tell")]
)
def test_another_study_is_named(methods: dict[str, dict[str, object]], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        table(methods, [report(**{"with": 5.0, "without": 2.0})])


@pytest.mark.parametrize("methods", ["", "methods: [1]", "methods: {a: 3}", "search: {trials: 3}"])
def test_what_is_no_study_of_methods_is_one_line(
    methods: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    study = tmp_path / "study.yaml"
    study.write_text(methods + "\n")
    monkeypatch.setattr(sys, "argv", ["effects", "none.json", "--study", str(study)])
    with pytest.raises(SystemExit):
        main()
    assert "error: --study: " in capsys.readouterr().err.splitlines()[-1]
