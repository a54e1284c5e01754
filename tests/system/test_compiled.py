"""A compiled run: it resumes to the bit, says when it is compiled no longer, and goes on where compiling fails."""

import shutil
from pathlib import Path

import pytest
import torch

from epo_lightning.modules.contents import SIGNATURE
from epo_lightning.run.checkpoint import read_checkpoint
from tests.support.command_line import Cli
from tests.support.sameness import assert_same, final_state

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="compiles with g++")
FIT = ("fit", "--config", "tiny.yaml", "--checkpoint.every_n_iterations", 1)


def test_a_compiled_run_that_was_cut_goes_on_to_the_bit_and_says_when_it_is_compiled_no_longer(
    cli: Cli, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "lightning.pytorch.utilities.rank_zero")
    compiled = ("--model.compile", "always")
    assert cli(*FIT, *compiled, "--run_dir", "whole", "--trainer.max_epochs", 3).code == 0
    assert cli(*FIT, *compiled, "--run_dir", "parts", "--trainer.max_epochs", 2).code == 0
    torch.manual_seed(99)  # whatever the new process starts with
    outcome = cli("fit", "--ckpt_path", "parts", "--trainer.max_epochs", 3, "--model.compile", "auto")
    assert outcome.code == 0  # `auto` goes on as the run was, however short it is
    assert "compiled" not in caplog.text
    whole, parts = final_state("whole"), final_state("parts")
    del whole[SIGNATURE], parts[SIGNATURE]  # of configurations that differ in `auto`
    assert_same(whole, parts)
    assert read_checkpoint(Path("parts/checkpoints/last.ckpt"))["compiled"] is True

    outcome = cli("fit", "--ckpt_path", "parts", "--trainer.max_epochs", 4, "--model.compile", "never")
    assert outcome.code == 0
    assert "model.compile never: the run was compiled and is not compiled from here on" in caplog.text
    assert read_checkpoint(Path("parts/checkpoints/last.ckpt"))["compiled"] is False


def test_a_run_whose_compiler_fails_goes_on_without_and_says_why_in_one_line(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "empty"))
    monkeypatch.setattr("torch._inductor.config.cpp.cxx", ("/bin/false",))
    torch._dynamo.reset()
    with pytest.warns(UserWarning, match="could not be compiled") as said:
        assert cli(*FIT, "--run_dir", "runs/a", "--trainer.max_epochs", 1, "--model.compile", "always").code == 0
    lines = [str(each.message) for each in said]
    for part in ("the update", "the policy's step"):
        (line,) = [line for line in lines if line.startswith(f"model.compile: {part} could not be compiled")]
        assert line.endswith("model.compile never does not try")
        assert "\n" not in line
    assert read_checkpoint(Path("runs/a/checkpoints/last.ckpt"))["compiled"] is False
    assert cli(*FIT, "--run_dir", "runs/b", "--trainer.max_epochs", 1, "--model.compile", "never").code == 0
    failed, never = final_state("runs/a"), final_state("runs/b")
    del failed[SIGNATURE], never[SIGNATURE]
    assert_same(failed, never)
