"""The non-linearities that a network can have, by the name that they have in configurations."""

from typing import Literal

from torch import nn

Activation = Literal["elu", "relu", "tanh", "silu", "leaky_relu"]
ACTIVATIONS: dict[str, type[nn.Module]] = {
    "elu": nn.ELU,
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "silu": nn.SiLU,
    "leaky_relu": nn.LeakyReLU,
}
