"""Whether a training compiles: by setting, by length, and as the run did before."""

import logging
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from epo_lightning.algorithm.batch import RolloutBatch
from epo_lightning.algorithm.losses import HybridLoss
from epo_lightning.learner.compiled import Compilation
from epo_lightning.learner.networks import NetworkSettings
from epo_lightning.modules import compilation
from epo_lightning.modules.compilation import LearnerCompilation


def loss(_: RolloutBatch) -> HybridLoss:
    raise NotImplementedError


def begun(
    setting: Compilation, iterations: int, before: bool | None = None, device: str = "cpu", precision: str = "32-true"
) -> bool:
    """Whether a run of 64 environments x 16 steps in 4 x 4 minibatches of [64, 64] compiles."""
    learner = LearnerCompilation(setting)
    learner.before = before
    dataset: Any = SimpleNamespace(
        device=torch.device(device),
        num_minibatches=4,
        settings=SimpleNamespace(num_epochs=4, horizon=16, passes=1),
        buffer=SimpleNamespace(shape=SimpleNamespace(columns=64)),
        policy=torch.nn.Linear(1, 1),
        ask=len,
    )
    trainer: Any = SimpleNamespace(precision=precision, max_epochs=iterations, current_epoch=0)
    learner.begin(trainer, dataset, loss, NetworkSettings(hidden=(64, 64)))
    assert (learner.loss is not None) is (dataset.ask is not cast(Any, len))
    return learner.loss is not None


# a step of 256 samples saves 0.5 + 256 * 128 * 1.5e-6 = 0.55 ms: 90 s are 164,000 steps, 10,240 iterations of 16


def test_auto_compiles_a_run_of_twice_the_break_even_on_a_cpu_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compilation, "has_compiler", lambda: True)
    assert not begun("auto", 20_000)
    assert begun("auto", 22_000)
    assert begun("auto", -1)  # without an end
    assert not begun("auto", 22_000, device="meta")
    assert not begun("auto", 22_000, precision="bf16-mixed")


def test_without_a_compiler_auto_says_what_would_be_gained_where_something_would(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(compilation, "has_compiler", lambda: False)
    with caplog.at_level(logging.INFO):
        assert not begun("auto", 100)
        assert not caplog.text
        assert not begun("auto", 22_000)
    assert "no C++ compiler here (CXX or g++)" in caplog.text


@pytest.mark.parametrize("before", [True, False])
def test_auto_goes_on_as_the_run_was_and_another_choice_is_told(before: bool, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        assert begun("auto", 100, before) is before
        assert begun("always" if before else "never", 100, before) is before
        assert not caplog.text
        assert begun("never" if before else "always", 100, before) is not before
    assert "is not compiled from here on" in caplog.text if before else "is compiled from here on" in caplog.text
