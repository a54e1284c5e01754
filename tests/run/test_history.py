"""What a checkpoint tells of the runs before is data of others: checked, and not needed."""

from typing import Any

import pytest

from epo_lightning.limits import Mistake
from epo_lightning.modules.contents import HISTORY
from epo_lightning.run.history import MOST, Ancestor, History, history_of

ANCESTOR: dict[str, Any] = {
    "path": "/a/last.ckpt",
    "iteration": 2,
    "env_steps": 128,
    "id": "0f",
    "when": "2026-01-02T03:04:05+00:00",
}


def test_an_older_checkpoint_has_no_history() -> None:
    assert history_of({}) == History()


def test_a_history_survives_a_checkpoint() -> None:
    history = History((Ancestor(**ANCESTOR),), 1.5, {"WandbLogger": "abc", "WandbLogger#2": "d-e.f"})
    assert history_of({HISTORY: history.as_dict()}) == history


def test_the_latest_ancestors_are_kept() -> None:
    history = History()
    for iteration in range(MOST + 5):
        history = history.continued_from(Ancestor("a", iteration, 0, "", ""))
    assert [ancestor.iteration for ancestor in history.lineage] == list(range(5, MOST + 5))
    assert history_of({HISTORY: history.as_dict()}) == history


@pytest.mark.parametrize(
    "stored",
    [
        None, [], {"lineage": {}}, {"lineage": [1]}, {"lineage": [{}]}, {"lineage": [ANCESTOR] * (MOST + 1)},
        {"lineage": [ANCESTOR | {"path": "\x1b[2J"}]}, {"lineage": [ANCESTOR | {"path": "a" * 5000}]},
        {"lineage": [ANCESTOR | {"iteration": 1.5}]}, {"lineage": [ANCESTOR | {"env_steps": -1}]},
        {"lineage": [ANCESTOR | {"iteration": 2**70}]}, {"lineage": [ANCESTOR | {"id": 5}]},
        {"seconds": -1.0}, {"seconds": float("nan")}, {"seconds": "1"},
        {"loggers": []}, {"loggers": {"WandbLogger": "../x"}}, {"loggers": {"WandbLogger": 5}},
        {"loggers": {"a" * 300: "x"}}, {"loggers": {f"L{n}": "x" for n in range(200)}},
    ],
)  # fmt: skip
def test_what_no_run_writes_is_refused(stored: Any) -> None:  # noqa: ANN401
    with pytest.raises(Mistake, match="history is not that of a run"):
        history_of({HISTORY: stored})
