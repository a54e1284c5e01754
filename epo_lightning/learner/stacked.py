"""Layers of K networks of the same shape that share nothing: one batched product does the work of all.

Shape legend: K networks, B rows of each, I inputs, O outputs.
"""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn


class StackedLinear(nn.Module):
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

    def forward(self, x: Tensor) -> Tensor:
        """(K, B, O) of x (K, B, I): the rows of network k go through its own layer."""
        return torch.baddbmm(self.bias.unsqueeze(1), x, self.weight.transpose(1, 2))


def stacked_mlp(
    networks: int, inputs: int, widths: Sequence[int], outputs: int, activation: type[nn.Module]
) -> nn.Sequential:
    """K networks of linear layers with a non-linearity behind each of `widths`, and a linear head, the last module."""
    layers: list[nn.Module] = []
    for width, next_width in pairwise((inputs, *widths)):
        layers += [StackedLinear(networks, width, next_width), activation()]
    return nn.Sequential(*layers, StackedLinear(networks, widths[-1] if widths else inputs, outputs))
