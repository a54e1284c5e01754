"""Encoders of images of K networks that share nothing: their convolutions are groups of one.

Shape legend: K networks, A of them that are asked, M rows of each, T steps, B rows of a step, I observation entries
that are seen, F features, C channels.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from epo_lightning.learner.images import EncoderSettings, ImageEncoder, require_convolutions
from epo_lightning.learner.observations import Groups
from epo_lightning.learner.stacked import StackedLayer, StackedLinear, rows_of
from epo_lightning.learner.stacked_trunks import StackedTrunk


class StackedConvolution(nn.Module):
    """K convolutions of 3 x 3 in steps of 2, each initialised as `torch.nn.Conv2d` is.

    Args:
        networks: K.
        inputs: Channels that go in.
        outputs: Channels that come out.
    """

    def __init__(self, networks: int, inputs: int, outputs: int) -> None:
        super().__init__()
        bound = 1 / math.sqrt(9 * inputs)
        self.weight = nn.Parameter(torch.empty(networks, outputs, inputs, 3, 3).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(networks, outputs).uniform_(-bound, bound))

    def forward(self, x: Tensor, networks: Tensor | None = None) -> Tensor:
        """(M, A C, height, width) of x (M, A C, height, width), with the channels of a network side by side.

        Args:
            x: See above.
            networks: (A,) which ones; None for all.
        """
        weight, bias = rows_of(self.weight, networks), rows_of(self.bias, networks)
        return functional.conv2d(x, weight.flatten(0, 1), bias.flatten(), stride=2, padding=1, groups=len(weight))


class StackedImageEncoder(StackedLayer):
    """`ImageEncoder` of K networks.

    Args:
        networks: K.
        groups: What is seen, at least one image.
        settings: Size of the encoders.
        activation: Non-linearity.

    Attributes:
        outputs: F, as those of `ImageEncoder`.
        reuses: Of one network.
    """

    def __init__(self, networks: int, groups: Groups, settings: EncoderSettings, activation: type[nn.Module]) -> None:
        super().__init__()
        self.activation = activation()
        with torch.device("meta"):  # the shapes, without a draw
            one = ImageEncoder(groups, settings.image_channels, settings.image_features, activation)
        self.outputs, self.reuses, self._vectors, self._images = one.outputs, one.reuses, one.vectors, one.images
        self.towers = nn.ModuleList(_stacked(networks, tower) for tower in one.towers)

    def forward(self, obs: Tensor, networks: Tensor | None = None) -> Tensor:
        """(A, M, F) of normalised observations (A, M, I)."""
        parts = [obs[..., place] for place in self._vectors]
        for (place, shape), tower in zip(self._images, self.towers, strict=True):
            *convolutions, linear = tower.children()
            x = obs[..., place].unflatten(-1, shape).permute(1, 0, 4, 2, 3).flatten(1, 2)  # (M, A C, height, width)
            for convolution in convolutions:
                x = self.activation(convolution(x, networks))
            rows = x.unflatten(1, (len(obs), -1)).flatten(2).transpose(0, 1)
            parts.append(self.activation(linear(rows, networks)))
        # autocast: convolutions give what is less precise than the vectors
        return torch.cat([part.to(parts[-1].dtype) for part in parts], dim=-1)


def stacked_encoder(
    networks: int, groups: Groups, obs_dim: int, settings: EncoderSettings, activation: type[nn.Module]
) -> tuple[StackedImageEncoder | None, int]:
    """`image_encoder` of K networks.

    Args:
        networks: K.
        groups: What is seen.
        obs_dim: Its entries.
        settings: Size of the encoders.
        activation: Non-linearity.

    Raises:
        Mistake: When there are images and no convolution.
    """
    if not any(group.is_image for group in groups):
        return None, obs_dim
    require_convolutions(groups, settings)
    encoder = StackedImageEncoder(networks, groups, settings, activation)
    return encoder, encoder.outputs


class SeeingTrunk(StackedTrunk):
    """Trunks behind encoders of images.

    Args:
        encoder: Of K networks.
        trunk: Whose inputs are its features.
    """

    def __init__(self, encoder: StackedImageEncoder, trunk: StackedTrunk) -> None:
        super().__init__()
        self.encoder, self.trunk, self.outputs = encoder, trunk, trunk.outputs

    def forward(
        self, obs: Tensor, state: Tensor, resets: Tensor | None, networks: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """See `StackedTrunk`; obs is (A, B, I) or (A, T, B, I)."""
        features = self.encoder(obs.flatten(1, -2), networks).unflatten(1, obs.shape[1:-1])
        found: tuple[Tensor, Tensor] = self.trunk(features, state, resets, networks)
        return found


def _stacked(networks: int, tower: nn.Module) -> nn.ModuleList:
    """The layers with weights of K towers that are like `tower`."""
    layers = nn.ModuleList()
    for layer in tower.children():
        if isinstance(layer, nn.Conv2d):
            layers.append(StackedConvolution(networks, layer.in_channels, layer.out_channels))
        elif isinstance(layer, nn.Linear):
            layers.append(StackedLinear(networks, layer.in_features, layer.out_features))
    return layers
