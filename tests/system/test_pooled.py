"""`benchmarks/pooled.py`: runs of two reports as one table, by hand."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.pooled import ahead, pooled, read_reports, row


def report(**methods: list[tuple[int, float, float | None]]) -> dict[str, Any]:
    """A report.json of one task with runs (seed, return, drawn return); who returns more than 5 succeeds always."""
    told = [
        {
            "method": name,
            "runs": [
                {"seed": seed, "return": value, "successes": float(value > 5), "drawn_return": drawn}
                for seed, value, drawn in runs
            ],
        }
        for name, runs in methods.items()
    ]
    return {"layout": 1, "tasks": [{"task": "hill", "methods": told}]}


def test_seeds_and_methods_of_both_are_together() -> None:
    first = report(ours=[(0, 1.0, 1.0), (1, 9.0, 8.0)], ppo=[(0, 2.0, None)])
    second = report(ours=[(3, 8.0, 7.0), (2, 6.0, 5.0)], sapg=[(0, 3.0, 3.0)])
    (task,) = pooled([first, second]).items()
    assert task[0] == "hill"
    assert {method: sorted(runs) for method, runs in task[1].items()} == {"ours": [0, 1, 2, 3], "ppo": [0], "sapg": [0]}
    # of 1, 6, 8, 9 the middle two are 6 and 8; drawn 1, 5, 7, 8
    assert row("ours", task[1]["ours"]).startswith("| `ours` | 3 of 4 | 7 [")
    assert "] | 6 [" in row("ours", task[1]["ours"])
    assert row("ours", task[1]["ours"]).endswith("| 1 9 6 8 |")


def test_what_not_all_tell_is_left_out_and_one_run_has_no_interval() -> None:
    runs = pooled([report(ppo=[(0, 2.0, None)])])["hill"]["ppo"]
    assert row("ppo", runs) == "| `ppo` | 0 of 1 | 2 [-inf, inf] |  | 2 |"


def test_of_the_same_run_the_last_counts() -> None:
    runs = pooled([report(ours=[(0, 1.0, None)]), report(ours=[(0, 4.0, None)])])["hill"]["ours"]
    assert [run["return"] for run in runs.values()] == [4.0]


def test_who_is_ahead() -> None:
    runs = pooled([report(ours=[(0, 1.0, None), (1, 3.0, None)], ppo=[(0, 1.0, None), (1, 2.0, None)])])["hill"]
    # 1 = 1, 1 < 2, 3 > 1, 3 > 2: (1/2 + 0 + 1 + 1) / 4
    assert ahead(runs["ours"], runs["ppo"]).startswith("0.62 [")


def test_reports_are_read(tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    file.write_text(json.dumps(report(ppo=[(0, 2.0, None)])))
    assert read_reports([file, file]) == [report(ppo=[(0, 2.0, None)])] * 2


@pytest.mark.parametrize(
    ("text", "told"), [("{", "no JSON"), ("[1]", "it has no layout"), ('{"tasks": 3}', "it has no layout")]
)
def test_what_is_no_report_is_named(tmp_path: Path, text: str, told: str) -> None:
    file = tmp_path / "other.json"
    file.write_text(text)
    with pytest.raises(ValueError, match=f"other.json: .*{told}"):
        read_reports([file])
