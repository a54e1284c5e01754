"""Products by oneDNN are those of torch, but for rounding; shape legend: N rows, I inputs, O outputs."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from epo_lightning.learner import products

pytestmark = pytest.mark.skipif(not hasattr(torch.ops.mkldnn, "_linear_pointwise"), reason="torch without oneDNN")


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Everything goes to oneDNN; rows of the products that did."""
    monkeypatch.setattr(products, "LEAST", 0)
    monkeypatch.setattr(products, "ONEDNN", True)
    rows: list[int] = []
    product = products._product

    def counted(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        rows.append(len(x))
        result: Tensor = product(x, weight, bias)
        return result

    monkeypatch.setattr(products, "_product", counted)
    return rows


def results(linear: Callable[..., Tensor], x: Tensor, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, ...]:
    y = linear(x, weight, bias)
    learns = [each for each in (x, weight, bias) if each is not None]
    return y.detach(), *torch.autograd.grad((y * torch.arange(1.0, 1.0 + y.shape[1])).square().sum(), learns)


@pytest.mark.parametrize("with_bias", [True, False])
def test_values_and_gradients_are_those_of_torch(calls: list[int], with_bias: bool) -> None:
    torch.manual_seed(0)
    x, wide = torch.randn(7, 5, requires_grad=True), torch.randn(3, 9, requires_grad=True)
    weight = wide[:, :5]  # as the part of a first layer that is the observation's
    bias = torch.randn(3, requires_grad=True) if with_bias else None
    for got, expected in zip(
        results(products.linear, x, weight, bias), results(functional.linear, x, weight, bias), strict=True
    ):
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)
    assert calls[0] == 7


def test_a_sequence_and_offsets_of_the_rows_go_the_same_way(calls: list[int]) -> None:
    torch.manual_seed(0)
    weight, offsets = torch.randn(3, 5), torch.randn(7, 3)
    for x in (torch.randn(7, 5), torch.randn(2, 7, 5)):
        torch.testing.assert_close(products.linear_with(offsets, x, weight), x @ weight.t() + offsets)
    assert calls == [7, 14]


def test_small_products_and_other_precisions_stay_with_torch(calls: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    weight = torch.randn(3, 5)
    products.linear(torch.randn(7, 5).double(), weight.double())
    with torch.autocast("cpu", torch.bfloat16):
        products.linear(torch.randn(7, 5), weight)
    monkeypatch.setattr(products, "LEAST", 7 * 15 + 1)
    products.linear(torch.randn(7, 5), weight)
    assert not calls
    products.linear(torch.randn(8, 5), weight)
    assert calls == [8]
