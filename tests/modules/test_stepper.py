"""Optimizer steps between our update loop and Lightning: each name of Lightning's that it uses has a test here."""

import math
from pathlib import Path

import lightning as L
import pytest
import torch
from lightning.pytorch.plugins.precision.amp import MixedPrecision
from lightning.pytorch.strategies import SingleDeviceStrategy
from torch import nn

from epo_lightning.modules.stepper import Stepper
from tests.support.training import fit, small_data, small_module

RATE, MAX_NORM = 0.1, 1.0


def trainer_with(scaler: torch.amp.GradScaler | None = None) -> L.Trainer:
    """What `Stepper` takes of a trainer, on one rank."""
    trainer = L.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    trainer.precision_plugin.scaler = scaler  # type: ignore[attr-defined]
    return trainer


def two() -> tuple[nn.Parameter, nn.Parameter, torch.optim.SGD]:
    first, second = nn.Parameter(torch.tensor([3.0, 0.0])), nn.Parameter(torch.tensor(2.0))
    return first, second, torch.optim.SGD([first, second], RATE)


@pytest.mark.parametrize("scaler", [None, torch.amp.GradScaler("cpu", init_scale=1024.0)])
def test_a_step_by_hand(scaler: torch.amp.GradScaler | None) -> None:
    first, second, optimizer = two()
    stepper = Stepper(trainer_with(scaler), optimizer, MAX_NORM)
    first.grad = torch.full((2,), 100.0)  # of before: dropped
    norm = stepper.step(3 * first[0] + 4 * second)
    # gradients 3, 0 and 4 have the norm 5 and are scaled to 0.6, 0 and 0.8
    assert norm.item() == pytest.approx(5.0)
    torch.testing.assert_close(first.detach(), torch.tensor([3.0 - RATE * 0.6, 0.0]))
    torch.testing.assert_close(second.detach(), torch.tensor(2.0 - RATE * 0.8))


def test_a_gradient_that_overflows_under_scaling_is_no_step_and_halves_the_scale() -> None:
    first, second, optimizer = two()
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    norm = Stepper(trainer_with(scaler), optimizer, MAX_NORM).step(first[0] * math.inf + second)
    assert not math.isfinite(norm.item())
    assert (first.tolist(), second.item()) == ([3.0, 0.0], 2.0)
    assert scaler.get_scale() == 512.0


def test_a_step_for_some_leaves_the_others() -> None:
    first, second, optimizer = two()
    stepper = Stepper(trainer_with(), optimizer, MAX_NORM)
    norm = stepper.step_for([second], 3 * first[0] + 4 * second)
    assert norm.item() == pytest.approx(4.0)
    assert first.tolist() == [3.0, 0.0]
    assert second.item() == pytest.approx(2.0 - RATE * 1.0)
    assert (first.grad, second.grad) == (None, None)


def test_lightning_counts_the_steps(tmp_path: Path) -> None:
    trainer = fit(small_module(rollout={"num_epochs": 3}), small_data(), tmp_path, 2)
    assert trainer.global_step == 2 * 3 * 2  # iterations, passes, minibatches
    assert trainer.current_epoch == 2


def test_mixed_precision_keeps_its_scaler_under_this_name() -> None:
    scaler = torch.amp.GradScaler("cpu")
    assert MixedPrecision("16-mixed", "cpu", scaler).scaler is scaler


def test_a_strategy_prepares_every_backward_pass_under_this_name() -> None:
    assert callable(SingleDeviceStrategy("cpu").pre_backward)


@pytest.mark.parametrize("fused", [False, True])
def test_a_gradient_that_lies_otherwise_in_memory_than_its_parameter(fused: bool) -> None:
    # of a batched product the gradient comes transposed; a fused optimizer reads it as the parameter lies
    weight, inputs = nn.Parameter(torch.zeros(2, 3, 2)), torch.tensor([1.0, -2.0]).expand(2, 1, 2)
    optimizer = torch.optim.Adam([weight], RATE, fused=fused)
    Stepper(trainer_with(), optimizer, math.inf).step_for([weight], torch.bmm(inputs, weight.transpose(1, 2)).sum())
    torch.testing.assert_close(weight.detach(), torch.tensor([-RATE, RATE]).expand(2, 3, 2))
