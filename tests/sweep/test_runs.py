"""One run of a study: its commands, how far it is, whether it is done, and what it complains of."""

import json
from pathlib import Path

import pytest

from epo_lightning.sweep.runs import StudyRun, printed


@pytest.fixture
def run(tmp_path: Path) -> StudyRun:
    run = StudyRun("epo", tmp_path / "epo", 3, 40, tmp_path / "epo" / "method.yaml", "test")
    run.run.last.parent.mkdir(parents=True)
    return run


def test_its_commands_begin_or_continue_it_and_evaluate_it(run: StudyRun, tmp_path: Path) -> None:
    folder = tmp_path / "epo"
    assert run.name == "epo/seed3"
    assert run.training[1:] == [
        "-m", "epo_lightning", "fit", "--config", f"{folder}/method.yaml", "--run_dir", f"{folder}/seed3",
        "--seed_everything=3", "--resume",
    ]  # fmt: skip
    assert run.evaluation is not None
    assert run.evaluation[2:] == ["epo_lightning", "test", "--ckpt_path", f"{folder}/seed3"]
    assert printed(["/usr/bin/python3", "-m", "a b"], 2) == "OMP_NUM_THREADS=2 python -m 'a b'"
    assert StudyRun("epo", folder, 3, 40, folder / "method.yaml", None).evaluation is None


def test_it_is_done_when_it_has_ended_as_long_as_asked_and_evaluated_as_asked(run: StudyRun, tmp_path: Path) -> None:
    assert not run.is_done()
    run.run.last.touch()
    run.finish()
    assert run.is_done()
    folder, config = tmp_path / "epo", tmp_path / "epo" / "method.yaml"
    assert not StudyRun("epo", folder, 3, 80, config, "test").is_done()
    assert not StudyRun("epo", folder, 3, 40, config, "validate").is_done()
    (run.run.path / "finished.json").write_text(json.dumps({"iterations": 40})[:-3])
    assert not run.is_done()
    run.finish()
    run.run.last.unlink()
    assert not run.is_done()


def test_how_far_it_is_stands_in_the_last_whole_line(run: StudyRun) -> None:
    assert run.done_iterations() == 0
    header = "charts/env_steps,charts/iteration,note\n"
    for text, done in (
        ("", 0),
        (header, 0),
        (header[:9], 0),
        (f"{header}10,1,x\n20,2,x\n", 2),
        (f"{header}10,1,x\n20,2,x\n30,3", 2),
        (f"{header}" + "".join(f"{10 * i},{i},{'x' * 90}\n" for i in range(1, 2001)), 2000),
        ("a,b\n1,2\n", 0),
    ):
        run.run.metrics.write_text(text)
        assert run.done_iterations() == done
    run.run.metrics.write_text(f"{header}10,10,x\n")
    assert run.share() == 0.25


@pytest.mark.parametrize(
    ("log", "complaint"),
    [
        ("$ fit\niteration 1\nerror: model.x: bad\nContinue: ...\n", "model.x: bad"),
        ("$ fit\nTraceback (most recent call last):\n  File x\nValueError: no\n\n", "ValueError: no"),
        ("$ fit\nerror: old\n$ fit\nMemoryError\n", "MemoryError"),
        ("$ fit\n[rank 1] error: model.y: bad\n", "[rank 1] error: model.y: bad"),
        ("$ fit\n", ""),
    ],
)
def test_its_complaint_is_the_error_of_its_last_start(run: StudyRun, log: str, complaint: str) -> None:
    run.log.write_text(log)
    assert run.complaint() == complaint
