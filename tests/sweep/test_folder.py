"""The folder of a study: what its runs have begun with stays."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from epo_lightning.limits import Mistake
from epo_lightning.run.code import Code
from epo_lightning.run.folder import RunFolder
from epo_lightning.sweep.folder import iterations_of, keep_config, keep_space, other_code
from epo_lightning.sweep.space import Parameter, Space


def text(clip: float = 0.2, max_epochs: int | None = 10, **more: Any) -> str:
    return yaml.safe_dump({"model": {"loss": {"clip_eps": clip}}, "trainer": {"max_epochs": max_epochs, **more}})


@pytest.fixture
def runs(tmp_path: Path) -> list[RunFolder]:
    """One has begun, one has not."""
    begun = RunFolder(tmp_path / "a" / "seed0")
    begun.create()
    begun.metrics.touch()
    return [RunFolder(tmp_path / "a" / "seed1"), begun]


def test_a_configuration_changes_freely_until_a_run_has_begun(tmp_path: Path, runs: list[RunFolder]) -> None:
    file = tmp_path / "a" / "method.yaml"
    keep_config("f: methods.a", file, text(0.1), runs[:1])
    keep_config("f: methods.a", file, text(0.2), runs[:1])
    assert file.read_text() == text(0.2)
    with pytest.raises(Mistake, match=r"f: methods\.a: model\.loss\.clip_eps 0\.2 -> 0\.3, but .*seed0 has begun"):
        keep_config("f: methods.a", file, text(0.3), runs)
    assert file.read_text() == text(0.2)


def test_a_run_that_somebody_has_begun_by_hand_tells_its_configuration(tmp_path: Path, runs: list[RunFolder]) -> None:
    runs[1].config.write_text(text(0.1))
    with pytest.raises(Mistake, match=r"model\.loss\.clip_eps 0\.1 -> 0\.2"):
        keep_config("f", tmp_path / "a" / "method.yaml", text(0.2), runs)
    keep_config("f", tmp_path / "a" / "method.yaml", text(0.1), runs)


def test_what_changes_no_training_may_change(tmp_path: Path, runs: list[RunFolder]) -> None:
    file = tmp_path / "a" / "method.yaml"
    for max_epochs, more in ((10, {}), (10, {"logger": True}), (20, {}), (None, {"max_time": "1:0"})):
        keep_config("f", file, text(max_epochs=max_epochs, **more), runs)
    keep_config("f", file, text(max_epochs=None, new_key=3), runs)
    file.write_text(text(max_epochs=20))
    with pytest.raises(Mistake, match="max_epochs 20 -> 10"):
        keep_config("f", file, text(max_epochs=10), runs)
    with pytest.raises(Mistake, match="max_epochs 20 -> 30"):
        keep_config("f", file, text(max_epochs=30), runs, may_grow=False)


def test_trials_have_the_search_in_common(tmp_path: Path) -> None:
    space = Space((Parameter("a", (1, [2])),))
    keep_space("f", tmp_path, space, [0, 1], has_begun=True)
    keep_space("f", tmp_path, Space((Parameter("a", (1, [2])),), trials=50, pruner="none"), [0, 1], has_begun=True)
    for other, seeds, key in (
        (Space((Parameter("a", (1, 3)),)), [0, 1], "parameters"),
        (Space((Parameter("a", (1, [2])),), "charts/sps"), [0, 1], "metric"),
        (space, [0], "seeds"),
    ):
        with pytest.raises(Mistake, match=f"f: {key} of the search changed"):
            keep_space("f", tmp_path, other, seeds, has_begun=True)
    keep_space("f", tmp_path, space, [0], has_begun=False)


def test_a_run_must_have_an_end() -> None:
    assert iterations_of("f", {"trainer": {"max_epochs": 7}}) == 7
    assert iterations_of("f", {"trainer": {"max_epochs": -1, "max_time": "00:01:00:00"}}) is None
    for trainer in ({"max_epochs": -1}, {"max_epochs": None}, None):
        with pytest.raises(Mistake, match=r"f: trainer\.max_epochs is without an end"):
            iterations_of("f", {"trainer": trainer})


def made(folder: Path, name: str, commit: str, *, dirty: bool = False) -> RunFolder:
    (folder / name).mkdir(parents=True)
    git = {"package": {"commit": commit, "dirty": dirty}}
    (folder / name / "run.json").write_text(json.dumps({"versions": {"epo_lightning": "0.1.0"}, "git": git}))
    return RunFolder(folder / name)


def test_runs_of_other_code_are_told_in_one_line(tmp_path: Path) -> None:
    here = Code("0.1.0", "b" * 40, dirty=False)
    same, old, older = made(tmp_path, "a", "b" * 40), made(tmp_path, "b", "a" * 40), made(tmp_path, "c", "a" * 40)
    changed, silent = made(tmp_path, "d", "b" * 40, dirty=True), RunFolder(tmp_path / "e")
    assert other_code([same, silent], here) is None
    line = other_code([same, old, older, changed], here)
    assert line == (
        f"notice: 3 run(s) here, such as {old.path}, were made by other code (epo_lightning 0.1.0, commit aaaaaaaa;"
        " epo_lightning 0.1.0, commit bbbbbbbb with uncommitted changes); what is done now is by epo_lightning 0.1.0,"
        " commit bbbbbbbb: the report tells them apart"
    )
