"""Functions that torch compiles, and what happens where it cannot; nothing is compiled here."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from epo_lightning.learner.compiled import Compiled, break_even, reason, saved_seconds


def double(x: Tensor) -> Tensor:
    return 2 * x


def compiler(monkeypatch: pytest.MonkeyPatch, make: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
    monkeypatch.setattr(torch, "compile", lambda function, **_: make(function))


def test_a_function_that_compiles_is_called_in_its_compiled_form(monkeypatch: pytest.MonkeyPatch) -> None:
    compiler(monkeypatch, lambda function: lambda x: function(x) + 1)
    compiled = Compiled(double, "doubling")
    assert compiled.works is None
    assert compiled(torch.tensor(3.0)).item() == 7.0
    assert compiled.works is True


def test_a_forward_pass_that_cannot_be_compiled_is_told_once_and_computed_as_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(_: Tensor) -> Tensor:
        raise RuntimeError("no compiler\nand much more")

    compiler(monkeypatch, lambda _: fail)
    compiled = Compiled(double, "doubling")
    with pytest.warns(UserWarning, match=r"doubling could not be compiled .*\(RuntimeError: no compiler\)") as said:
        assert compiled(torch.tensor(3.0)).item() == 6.0
    assert compiled(torch.tensor(4.0)).item() == 8.0
    assert len(said) == 1
    assert "\n" not in str(said[0].message)
    assert compiled.works is False


class _NoWayBack(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:  # noqa: ANN401, ARG004
        return 2 * x

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:  # noqa: ANN401, ARG004
        raise OSError("no room for the code")


def test_a_backward_pass_that_cannot_be_compiled_is_found_before_the_first_step(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    compiler(monkeypatch, lambda _: lambda x: _NoWayBack.apply(x * weight))  # type: ignore[no-untyped-call]
    weight = nn.Parameter(torch.tensor(5.0))
    compiled = Compiled(lambda x: x * weight, "the update", lambda result: result, [weight])
    with pytest.warns(UserWarning, match="no room for the code"):
        compiled(torch.tensor(3.0)).backward()
    assert weight.grad is not None
    assert weight.grad.item() == 3.0  # of the one real pass


def test_the_cause_is_told_and_not_what_was_made_of_it() -> None:
    error = RuntimeError("backend failed")
    error.__cause__ = FileNotFoundError("g++ is missing")
    assert reason(error) == "FileNotFoundError: g++ is missing"
    assert len(reason(ValueError("x" * 1000))) == 200
    assert reason(ValueError()) == "ValueError"


def test_compiling_is_paid_back_after_fewer_steps_the_larger_the_network() -> None:
    assert saved_seconds(0, [64]) == pytest.approx(0.5e-3)
    assert saved_seconds(10_000, [512, 256, 232]) == pytest.approx(0.5e-3 + 15e-3)
    assert break_even(10_000, [1000]) == pytest.approx(90 / 15.5e-3)
