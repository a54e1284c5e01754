"""An encoder of images: convolutions in front of a trunk.

Shape legend: N rows, T steps, I observation entries that are seen, F features.

Images are columns like all others, height by height, width by width, with the channels last, in [0, 1] once normalised.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor, nn

from epo_lightning.learner.observations import Groups, columns, refuse_images
from epo_lightning.limits import require_range


class EncoderSettings(Protocol):
    """What an encoder must know; see `ImageSettings`."""

    @property
    def image_channels(self) -> tuple[int, ...]:
        """Of each convolution."""

    @property
    def image_features(self) -> int:
        """Of each image."""


@dataclass(frozen=True, kw_only=True)
class ImageSettings:
    """Size of the encoders of images.

    Args:
        image_channels: Of each convolution (3 x 3, in steps of 2) that an image goes through, where a task has some.
        image_features: Of each image, beside the vectors.
    """

    image_channels: tuple[int, ...] = (16, 32, 32)
    image_features: int = 64

    def __post_init__(self) -> None:
        for channels in self.image_channels:
            require_range("model.network.image_channels", channels, 1)
        require_range("model.network.image_features", self.image_features, 1)


class ImageEncoder(nn.Module):
    """Makes features of the images of an observation, and leaves its vectors as they are.

    For each image: convolutions of 3 x 3 in steps of 2 with a non-linearity behind each, then one linear layer.

    Args:
        groups: What is seen, at least one image.
        channels: Of each convolution.
        features: Of each image.
        activation: Non-linearity.

    Attributes:
        vectors: Columns of what is no image.
        images: Columns and shape of each image.
        outputs: F: the entries of all vectors, then the features of all images.
        reuses: How many multiplications a row takes beyond one a weight.
    """

    def __init__(self, groups: Groups, channels: Sequence[int], features: int, activation: type[nn.Module]) -> None:
        super().__init__()
        self.vectors = [place for group, place in columns(groups) if not group.is_image]
        self.images, towers, self.reuses = [], [], 0
        for group, place in columns(groups):
            if not isinstance(group.shape, int):
                tower, reuses = _tower(group.shape, channels, features, activation)
                self.images.append((place, group.shape))
                towers.append(tower)
                self.reuses += reuses
        self.towers = nn.ModuleList(towers)
        self.outputs = sum(place.stop - place.start for place in self.vectors) + features * len(towers)

    def forward(self, obs: Tensor) -> Tensor:
        """(N, F) of normalised observations (N, I); (T, N, F) of (T, N, I)."""
        parts = [obs[..., place] for place in self.vectors]
        for (place, shape), tower in zip(self.images, self.towers, strict=True):
            pixels = obs[..., place].reshape(-1, *shape).permute(0, 3, 1, 2)
            parts.append(tower(pixels).unflatten(0, obs.shape[:-1]))
        # autocast: convolutions give what is less precise than the vectors
        return torch.cat([part.to(parts[-1].dtype) for part in parts], dim=-1)


def image_encoder(
    groups: Groups, obs_dim: int, settings: EncoderSettings, activation: type[nn.Module]
) -> tuple[ImageEncoder | None, int]:
    """What looks at the images of an observation, where it has some, and the number of entries that come out.

    Args:
        groups: What is seen.
        obs_dim: Its entries.
        settings: Size of the encoder.
        activation: Non-linearity.

    Raises:
        Mistake: When there are images and no convolution.
    """
    if not any(group.is_image for group in groups):
        return None, obs_dim
    require_convolutions(groups, settings)
    encoder = ImageEncoder(groups, settings.image_channels, settings.image_features, activation)
    return encoder, encoder.outputs


def require_convolutions(groups: Groups, settings: EncoderSettings) -> None:
    """Refuse images where nothing would look at them.

    Raises:
        Mistake: Naming the first.
    """
    if not settings.image_channels:
        refuse_images(groups, "model.network.image_channels []", "give it a number of channels or more")


def _tower(
    shape: tuple[int, int, int], channels: Sequence[int], features: int, activation: type[nn.Module]
) -> tuple[nn.Sequential, int]:
    """The layers of one image, and the multiplications that convolutions take beyond one a weight."""
    height, width, depth = shape
    layers: list[nn.Module] = []
    reuses = 0
    for inputs, outputs in pairwise((depth, *channels)):
        layers += [nn.Conv2d(inputs, outputs, 3, stride=2, padding=1), activation()]
        height, width = (height + 1) // 2, (width + 1) // 2
        reuses += 9 * inputs * outputs * (height * width - 1)
    flat = height * width * (channels[-1] if channels else depth)
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(flat, features), activation()), reuses
