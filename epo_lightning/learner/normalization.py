"""Running mean and standard deviation, the same on every rank.

Shape legend: F features of one sample.

Moments are float64 and are merged once per rollout, so that the result equals that of all data concatenated, however
many ranks collected it (Chan et al. 1979, parallel variance).
"""

from collections.abc import Sequence
from typing import NamedTuple, Self

import torch
import torch.distributed as dist
from torch import Tensor, nn

_WHITE = 255.0
"""The brightest pixel."""


class Normalizer(NamedTuple):
    """(x - mean) * scale, clipped to +-clip: `mean` and `scale` are (F,) float32."""

    mean: Tensor
    scale: Tensor
    clip: float | None

    def __call__(self, x: Tensor, out: Tensor | None = None) -> Tensor:
        """Of x (..., F); written to `out` when given (which may be `x`)."""
        out = torch.sub(x, self.mean, out=out).mul_(self.scale)
        return out if self.clip is None else out.clamp_(-self.clip, self.clip)

    def first(self, count: int) -> Self:
        """Of the first `count` features."""
        return self._replace(mean=self.mean[..., :count], scale=self.scale[..., :count])


class RunningMoments(nn.Module):
    """Mean and variance of everything seen so far; 0 and 1 before the first update.

    Args:
        features: F; () for a scalar.
        clip: Normalised values are clipped to +-clip; None leaves them.
        epsilon: Added to the variance.
        pixels: Features that are no statistics: they are divided by 255, whatever was seen.
    """

    count: Tensor
    mean: Tensor
    var: Tensor

    def __init__(
        self,
        features: tuple[int, ...] = (),
        clip: float | None = None,
        epsilon: float = 1e-5,
        pixels: Sequence[slice] = (),
    ) -> None:
        super().__init__()
        self.clip, self.pixels = clip, list(pixels)
        self.epsilon = epsilon
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))
        self.register_buffer("mean", torch.zeros(features, dtype=torch.float64))
        self.register_buffer("var", torch.ones(features, dtype=torch.float64))
        self._hold_pixels()

    def std(self) -> Tensor:
        """(F,) float32 standard deviation by which `normalize` divides."""
        return (self.var + self.epsilon).sqrt().float()

    def normalizer(self) -> "Normalizer":
        """`normalize` with the present moments, for callers that normalise often before they change."""
        return Normalizer(self.mean.float(), (self.var + self.epsilon).rsqrt().float(), self.clip)

    def normalize(self, x: Tensor, out: Tensor | None = None) -> Tensor:
        """(x - mean) / std, clipped; written to `out` when given (which may be `x`)."""
        return self.normalizer()(x, out)

    def of(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Count (), mean (F,) and variance (F,) of samples x (..., F) alone, as `merge` takes them."""
        variance, mean = torch.var_mean(x, dim=tuple(range(x.dim() - self.mean.dim())), correction=0)
        count = torch.full_like(self.count, x.numel() // self.mean.numel())
        return count, mean.double(), variance.double()

    def denormalize(self, x: Tensor) -> Tensor:
        """Undo `normalize`, but for its clipping: x * std + mean."""
        return x * self.std() + self.mean.float()

    def seen(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """As `of`, of samples that `update` takes in."""
        rows = x.reshape(-1, *self.mean.shape)
        variance, mean = torch.var_mean(rows, dim=0, correction=0)
        return torch.full_like(self.count, len(rows)), mean.double(), variance.double()

    @torch.no_grad()
    def update(self, x: Tensor) -> None:
        """Take in samples x (..., F); with several ranks a collective call, made by all of them."""
        self.merge(*self.seen(x))

    def merge(self, count: Tensor, mean: Tensor, var: Tensor) -> None:
        """Merge the moments of new samples (this rank's; the ranks' are summed here) into the running ones."""
        merge_together((self, (count, mean, var)))

    @torch.no_grad()
    def sums(self, count: Tensor, mean: Tensor, var: Tensor) -> Tensor:
        """(3, F) what can be added up over the ranks, of the moments of new samples."""
        # Sums relative to the running mean, which all ranks share: they can simply be added
        delta = mean - self.mean
        return torch.stack([delta * count, (var + delta.square()) * count, count.expand_as(delta)])

    @torch.no_grad()
    def take(self, sums: Tensor) -> None:
        """Merge `sums` (3, F) of all ranks into the running moments."""
        first, second, new = sums[0], sums[1], sums[2].flatten()[0]
        total = self.count + new
        # mean <- mean + n/N delta;  M2 <- M2 + M2_new + delta^2 n (N - n) / N
        shift = first / total
        self.var.copy_(((self.var * self.count + second) / total - shift.square()).clamp(min=0))
        self.mean.add_(shift)
        self.count.copy_(total)
        self._hold_pixels()

    def _hold_pixels(self) -> None:
        for place in self.pixels:
            self.mean[..., place] = 0.0
            self.var[..., place] = _WHITE**2 - self.epsilon

    @torch.no_grad()
    def rescale(self, factor: float) -> None:
        """As if everything seen so far had been multiplied by `factor`."""
        self.mean.mul_(factor)
        self.var.mul_(factor**2)


Pending = tuple[RunningMoments, tuple[Tensor, Tensor, Tensor]]
"""Running moments, and those of this rank's new samples (see `RunningMoments.of`), which are not merged yet."""


def merge_together(*pending: Pending) -> None:
    """Merge the new samples of all ranks into each of several running moments: with several ranks one collective call.

    Sums are float64, whatever they are of, so that they travel as one tensor.
    """
    sums = [moments.sums(*news) for moments, news in pending]
    if dist.is_available() and dist.is_initialized():
        flat = torch.cat([each.flatten() for each in sums])
        dist.all_reduce(flat)
        parts = flat.split([each.numel() for each in sums])
        sums = [part.view_as(each) for part, each in zip(parts, sums, strict=True)]
    for (moments, _), each in zip(pending, sums, strict=True):
        moments.take(each)


def normalize_across_ranks(x: Tensor, *beside: Pending) -> Tensor:
    """(x - mean) / std over all entries of all ranks; a collective call when there are several ranks.

    Args:
        x: Of any shape.
        beside: What is merged in the same call.
    """
    with x.device:  # made elsewhere they would be copied, and a GPU waited for
        moments = RunningMoments(epsilon=1e-8)
    merge_together((moments, moments.seen(x)), *beside)
    return moments.normalize(x)
