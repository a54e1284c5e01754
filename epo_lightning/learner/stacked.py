"""Layers of K networks of the same shape that share nothing: one batched product does the work of all.

Shape legend: K networks, A of them that are asked, B rows of each, I inputs, O outputs.
"""

import copy
import math
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

Stacked = TypeVar("Stacked", bound=nn.Module)


class StackedLayer(nn.Module):
    """What K networks have, each with weights of its own; called with rows, and with the networks asked or None."""


class StackedLinear(StackedLayer):
    """K linear layers, each initialised as `torch.nn.Linear` is.

    Args:
        networks: K.
        inputs: I.
        outputs: O.
    """

    def __init__(self, networks: int, inputs: int, outputs: int) -> None:
        super().__init__()
        bound = 1 / math.sqrt(inputs) if inputs else 0.0
        self.weight = nn.Parameter(torch.empty(networks, outputs, inputs).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(networks, outputs).uniform_(-bound, bound))

    def forward(self, x: Tensor, networks: Tensor | None = None) -> Tensor:
        """(K, B, O) of x (K, B, I): the rows of network k go through its own layer.

        Args:
            x: (K, B, I); (A, B, I) where some networks are named.
            networks: (A,) which ones; None for all.
        """
        return torch.baddbmm(
            rows_of(self.bias, networks).unsqueeze(1), x, rows_of(self.weight, networks).transpose(1, 2)
        )


class StackedLayerNorm(StackedLayer):
    """K layer normalisations, each as `torch.nn.LayerNorm` is.

    Args:
        networks: K.
        features: I.
    """

    def __init__(self, networks: int, features: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(networks, features))
        self.bias = nn.Parameter(torch.zeros(networks, features))

    def forward(self, x: Tensor, networks: Tensor | None = None) -> Tensor:
        """(K, B, I) of x (K, B, I); arguments as those of `StackedLinear`."""
        normal = functional.layer_norm(x, x.shape[-1:])
        return torch.addcmul(
            rows_of(self.bias, networks).unsqueeze(1), normal, rows_of(self.weight, networks).unsqueeze(1)
        )


def rows_of(table: Tensor, networks: Tensor | None) -> Tensor:
    """(A, ...) of the networks that are asked, out of (K, ...); all where none are named."""
    return table if networks is None else table.index_select(0, networks)


def some_of(module: Stacked, networks: Tensor) -> Stacked:
    """A copy of stacked layers that holds the weights of the networks (A,) alone."""
    copied = copy.deepcopy(module)
    for parameter in copied.parameters():
        parameter.data = parameter.data.index_select(0, networks)
    return copied


def side_by_side(x: Tensor, layers: Sequence[StackedLinear], networks: Tensor | None = None) -> Tensor:
    """(A, B, O) the outputs of several layers of the same inputs x (A, B, I), one behind the other."""
    weight = rows_of(torch.cat([layer.weight for layer in layers], 1), networks)
    bias = rows_of(torch.cat([layer.bias for layer in layers], 1), networks)
    return torch.baddbmm(bias.unsqueeze(1), x, weight.transpose(1, 2))


def through(layers: Iterable[nn.Module], x: Tensor, networks: Tensor | None = None) -> Tensor:
    """(A, B, O) of x (A, B, I): what comes out of stacked layers and non-linearities, of all networks or of some."""
    for layer in layers:
        x = layer(x, networks) if isinstance(layer, StackedLayer) else layer(x)
    return x


def stacked_layers(networks: int, widths: Sequence[int], activation: type[nn.Module]) -> nn.Sequential:
    """Linear layers of K networks with a non-linearity behind each; the first of `widths` is the input's."""
    return nn.Sequential(
        *(
            layer
            for width, next_width in pairwise(widths)
            for layer in (StackedLinear(networks, width, next_width), activation())
        )
    )


def stacked_mlp(
    networks: int, inputs: int, widths: Sequence[int], outputs: int, activation: type[nn.Module]
) -> nn.Sequential:
    """K networks of linear layers with a non-linearity behind each of `widths`, and a linear head, the last module."""
    layers = stacked_layers(networks, [inputs, *widths], activation)
    return layers.append(StackedLinear(networks, widths[-1] if widths else inputs, outputs))
