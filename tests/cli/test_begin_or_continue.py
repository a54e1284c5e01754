"""One command begins a run or continues it, as a scheduler gives it again and again: `fit ... --run_dir X --resume`."""

from pathlib import Path

import pytest

from epo_lightning.run.checkpoint import read_checkpoint
from tests.support.command_line import Cli, Rows
from tests.support.sameness import assert_same, final_state

BEGIN = ("fit", "--config", "tiny.yaml", "--run_dir", "run", "--resume")


def test_it_begins_continues_and_says_when_it_is_done(cli: Cli, rows: Rows) -> None:
    assert cli("fit", "--config", "tiny.yaml", "--run_dir", "whole", "--trainer.max_epochs", 4).code == 0
    assert cli(*BEGIN, "--trainer.max_epochs", 2).code == 0
    outcome = cli(*BEGIN, "--trainer.max_epochs", 4)
    assert outcome.code == 0
    assert "iteration 3/4" in outcome.out
    assert "iteration 2/4" not in outcome.out
    assert_same(final_state("whole"), final_state("run"))
    assert rows(Path("whole")) == rows(Path("run"))
    before = {path: path.read_bytes() for path in Path("run").rglob("*") if path.is_file()}
    for iterations in (4, 3):  # the second is a command of a time when fewer were wanted
        outcome = cli(*BEGIN, "--trainer.max_epochs", iterations)
        assert (outcome.code, outcome.out.count("\n")) == (0, 1)
        assert outcome.out.startswith("Nothing to do: the run has made its 4 iterations")
    assert {path: path.read_bytes() for path in Path("run").rglob("*") if path.is_file()} == before


def test_the_configuration_of_the_checkpoint_is_enough_to_continue(cli: Cli, rows: Rows) -> None:
    assert cli(*BEGIN).code == 0
    assert cli("fit", "--run_dir", "run", "--resume", "--trainer.max_epochs", 3).code == 0
    assert len(rows(Path("run"))) == 3


def test_an_overlay_that_adds_adds_once(cli: Cli) -> None:
    Path("more.yaml").write_text("trainer: {callbacks+: [{class_path: epo_lightning.callbacks.NaNGuard}]}")
    for iterations in (1, 2, 3):
        assert cli(*BEGIN, "--config", "more.yaml", "--trainer.max_epochs", iterations).code == 0
    assert Path("run/config.yaml").read_text().count("NaNGuard") == 1


def leftovers() -> None:
    """What a run that was killed in its second iteration, before its first checkpoint, may have left."""
    Path("run/checkpoints").mkdir(parents=True)
    Path("run/config.yaml").write_text("seed_everything: 5")
    Path("run/metrics.csv").write_text("charts/env_steps,old\n64,1.0\n128,2")
    Path("run/lineage.jsonl").write_text('{"generation": 1}\n')
    for part in ("run/.config.yaml.part", "run/checkpoints/.last.ckpt.part", "run/checkpoints/best_master.ckpt"):
        Path(part).write_text("half")


def test_a_run_that_never_saved_begins_anew(cli: Cli) -> None:
    assert cli("fit", "--config", "tiny.yaml", "--run_dir", "whole").code == 0
    leftovers()
    assert cli(*BEGIN).code == 0
    assert_same(final_state("whole"), final_state("run"))

    def files(folder: str) -> list[str]:
        return sorted(str(path.relative_to(folder)) for path in Path(folder).rglob("*"))

    assert files("run") == files("whole")
    assert Path("run/config.yaml").read_text() == Path("whole/config.yaml").read_text()
    first, second = (Path(folder, "metrics.csv").read_text().splitlines() for folder in ("run", "whole"))
    assert (first[0], len(first)) == (second[0], len(second))


def test_without_the_flag_the_message_names_it(cli: Cli) -> None:
    leftovers()
    outcome = cli("fit", "--config", "tiny.yaml", "--run_dir", "run")
    assert (outcome.code, outcome.err.count("\n")) == (2, 1)
    assert "run_dir: run already holds a run that never saved" in outcome.err
    assert "--resume" in outcome.err
    outcome = cli("fit", "--ckpt_path", "run")
    assert (outcome.code, outcome.err.count("\n")) == (2, 1)
    assert "--run_dir run --resume" in outcome.err


def test_nothing_is_begun_anew_where_another_checkpoint_is_left(cli: Cli) -> None:
    assert cli(*BEGIN).code == 0
    Path("run/checkpoints/last.ckpt").unlink()
    before = Path("run/metrics.csv").read_text()
    outcome = cli(*BEGIN)
    assert (outcome.code, outcome.err.count("\n")) == (2, 1)
    assert "--ckpt_path run/checkpoints/best.ckpt" in outcome.err
    assert Path("run/metrics.csv").read_text() == before


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["fit", "--config", "tiny.yaml", "--resume"], ["--resume needs --run_dir"]),
        ([*BEGIN, "--ckpt_path", "tiny.yaml"], ["leave out --ckpt_path"]),
        (["validate", "--config", "tiny.yaml", "--run_dir", "run", "--resume"], ["belongs to fit", "--ckpt_path"]),
        (["fit", "--config", "tiny.yaml", "--config", "flag.yaml"], ["--resume needs --run_dir"]),
        (["fit", "--config", "tiny.yaml", "--resume", "--run_dir", "tiny.yaml"], ["run_dir", "tiny.yaml"]),
    ],
)
def test_what_does_not_go_with_it_is_one_line(cli: Cli, args: list[str], words: list[str]) -> None:
    Path("flag.yaml").write_text("resume: true")
    outcome = cli(*args)
    assert (outcome.code, outcome.err.count("\n")) == (2, 1)
    for word in words:
        assert word in outcome.err
    assert not Path("run").exists()


class TestBest:
    """`best.ckpt` of a run that goes on."""

    @staticmethod
    def best(folder: str) -> int:
        checkpoint = read_checkpoint(Path(folder) / "checkpoints/best.ckpt")
        assert checkpoint["callbacks"]["RunCheckpoints"]["best_iteration"] == checkpoint["epoch"] + 1
        return int(checkpoint["epoch"]) + 1

    @pytest.fixture
    def run(self, cli: Cli) -> Cli:
        """Three iterations whose best is not the last, and the same with six."""
        for folder, iterations in (("run", 3), ("whole", 6)):
            args = ("--run_dir", folder, "--trainer.max_epochs", iterations)
            assert cli("fit", "--config", "tiny.yaml", "--seed_everything", 1, *args).code == 0
        assert self.best("run") < 3
        return cli

    def test_it_is_the_same_in_another_folder(self, run: Cli) -> None:
        assert run("fit", "--ckpt_path", "run", "--run_dir", "other", "--trainer.max_epochs", 6).code == 0
        assert self.best("other") == self.best("whole")
        assert_same(final_state("other"), final_state("whole"))

    def test_where_it_is_lost_the_best_is_that_of_what_follows(
        self, run: Cli, rows: Rows, caplog: pytest.LogCaptureFixture
    ) -> None:
        Path("run/checkpoints/best.ckpt").write_bytes(b"damaged")
        assert run("fit", "--ckpt_path", "run", "--trainer.max_epochs", 6).code == 0
        assert "is gone: the best one begins anew" in caplog.text
        returns = [float(row["charts/episodic_return"]) for row in rows(Path("run"))][3:]
        assert self.best("run") == 4 + returns.index(max(returns))

    @pytest.mark.parametrize("content", [None, b"", b"half of one"])
    def test_it_is_made_where_the_last_checkpoint_says_that_it_is_the_best(
        self, cli: Cli, content: bytes | None
    ) -> None:
        """Also when the run is finished; killed between the two files."""
        last, best = Path("run/checkpoints/last.ckpt"), Path("run/checkpoints/best.ckpt")
        assert cli(*BEGIN, "--trainer.max_epochs", 1).code == 0
        first = last.read_bytes()
        assert first == best.read_bytes()
        best.unlink()
        if content is not None:
            best.write_bytes(content)
        assert cli(*BEGIN, "--trainer.max_epochs", 1).code == 0
        assert best.read_bytes() == last.read_bytes() == first
