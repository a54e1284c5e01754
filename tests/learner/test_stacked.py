"""K networks in one. Shape legend: K networks, B rows, I inputs, O outputs."""

import torch
from torch import nn

from epo_lightning.learner.stacked import StackedLinear, stacked_mlp

K, B, I, O = 3, 5, 4, 2


def test_a_stacked_layer_is_k_linear_layers() -> None:
    torch.manual_seed(0)
    stacked, x = StackedLinear(K, I, O), torch.randn(K, B, I)
    expected = torch.stack([x[k] @ stacked.weight[k].T + stacked.bias[k] for k in range(K)])
    torch.testing.assert_close(stacked(x), expected)


def test_networks_share_nothing() -> None:
    torch.manual_seed(0)
    network, x = stacked_mlp(K, I, (6, 7), O, nn.ELU), torch.randn(K, B, I)
    network(x)[1].sum().backward()
    for parameter in network.parameters():
        assert parameter.grad is not None
        assert [bool(parameter.grad[k].any()) for k in range(K)] == [False, True, False]


def test_it_is_initialised_as_torch_initialises_a_linear_layer() -> None:
    torch.manual_seed(0)
    stacked, linear = StackedLinear(64, 25, 40), nn.Linear(25, 40)
    assert float(stacked.weight.detach().abs().max()) <= 0.2
    assert float(stacked.bias.detach().abs().max()) <= 0.2
    assert abs(float(stacked.weight.detach().std()) - float(linear.weight.detach().std())) < 0.01


def test_layers_of_an_mlp() -> None:
    kinds = [type(layer) for layer in stacked_mlp(K, I, (6, 7), O, nn.Tanh)]
    assert kinds == [StackedLinear, nn.Tanh, StackedLinear, nn.Tanh, StackedLinear]
    assert [type(layer) for layer in stacked_mlp(K, I, (), O, nn.Tanh)] == [StackedLinear]
