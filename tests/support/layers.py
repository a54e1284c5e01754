"""Layers of a network that a test sets by hand."""

from torch import nn


def last_linear(mlp: nn.Sequential) -> nn.Linear:
    """The layer that a multi-layer perceptron ends with."""
    layer = mlp[-1]
    assert isinstance(layer, nn.Linear)
    return layer
