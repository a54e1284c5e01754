"""The runner of the variants, and the processor that does not exist."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.support.last_bits import LastBits

ROOT = Path(__file__).parents[2]


def test_a_variant_that_fails_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    test = tmp_path / "test_threads.py"
    test.write_text("import os\n\ndef test_two():\n    assert os.environ['OMP_NUM_THREADS'] == '2'\n")
    monkeypatch.setenv("PYTEST_ADDOPTS", f"-p no:cacheprovider {test}")
    command = [sys.executable, "-m", "tests.support.portable"]
    done = subprocess.run([*command, "thread"], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1
    assert done.stdout.splitlines()[-2:] == ["FAILED  one thread", "passed  two threads"]
    done = subprocess.run([*command, "two"], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0
    unknown = subprocess.run([*command, "nothing"], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert unknown.returncode == 1  # no test ran


class TestLastBits:
    def test_equal_rows_differ_in_the_last_bit_and_no_more(self) -> None:
        x = torch.full((64, 3), 0.3)
        with LastBits():  # type: ignore[no-untyped-call]  # torch has no annotations here
            y = x.tanh()
            again = x.tanh()
            half = x[:33].tanh()
        assert len(y.unique()) == 2
        torch.testing.assert_close(y, torch.full_like(y, y[0, 0].item()))
        assert torch.equal(y, again)
        assert not torch.equal(half, y[:33])

    def test_what_float32_holds_exactly_stays(self) -> None:
        x = torch.arange(64.0)
        with LastBits():  # type: ignore[no-untyped-call]  # torch has no annotations here
            assert torch.equal(x.view(8, 8) @ torch.eye(8), x.view(8, 8))
            assert x.sum() == 2016
            assert torch.zeros(64).exp().unique().tolist() == [1.0]

    def test_gradients_and_in_place_functions(self) -> None:
        x = torch.full((64, 1), 0.3, requires_grad=True)
        with LastBits():  # type: ignore[no-untyped-call]  # torch has no annotations here
            (x.exp() * 2).sum().backward()
            y = torch.full((64,), 0.3).exp_()
        assert x.grad is not None
        assert len(x.grad.unique()) == 2
        assert len(y.unique()) == 2
