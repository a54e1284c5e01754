"""Running mean and standard deviation of each of K networks.

Shape legend: K networks, A of them that are asked, n rows of each, F features of one sample.

Rows stand in blocks of the same length, network after network: (..., K n, F) is (..., K, n, F).
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from epo_lightning.learner.normalization import Normalizer, Pending, RunningMoments, merge_together
from epo_lightning.learner.stacked import rows_of


class BlockNormalizer(Normalizer):
    """`Normalizer` of rows in blocks: `mean` and `scale` are (A, 1, F)."""

    def __call__(self, x: Tensor, out: Tensor | None = None) -> Tensor:
        """Of x (..., A n, F); written to `out` when given (which may be `x`)."""
        if out is None:
            out = torch.empty_like(x)
        super().__call__(_in_blocks(x, self.mean), _in_blocks(out, self.mean))
        return out


class StackedMoments(RunningMoments):
    """Mean and variance of everything that each of K networks has seen; all see as many samples.

    Args:
        networks: K.
        features: F; () for a scalar.
        clip: Normalised values are clipped to +-clip; None leaves them.
        epsilon: Added to the variance.
        pixels: See `RunningMoments`.
    """

    def __init__(
        self,
        networks: int,
        features: tuple[int, ...] = (),
        clip: float | None = None,
        epsilon: float = 1e-5,
        pixels: Sequence[slice] = (),
    ) -> None:
        super().__init__((networks, *features), clip, epsilon, pixels)

    def normalizer(self, networks: Tensor | None = None) -> BlockNormalizer:
        """See `RunningMoments.normalizer`; of some `networks` (A,) where they are named."""
        mean, var = rows_of(self.mean, networks), rows_of(self.var, networks)
        return BlockNormalizer(mean.float().unsqueeze(1), (var + self.epsilon).rsqrt().float().unsqueeze(1), self.clip)

    def denormalize(self, x: Tensor) -> Tensor:
        """Undo `normalize`, but for its clipping."""
        std, mean = self.std().unsqueeze(1), self.mean.float().unsqueeze(1)
        return (_in_blocks(x, mean) * std + mean).view(x.shape)

    def of(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Count (), mean (K, F) and variance (K, F) of samples x (..., K n, F) alone, as `merge` takes them."""
        networks = len(self.mean)
        steps = x.reshape(-1, x.shape[x.dim() - self.mean.dim()], *self.mean.shape[1:])
        # `var_mean` over two axes with one between them takes fourteen times as long
        mean = steps.mean(0).unflatten(0, (networks, -1)).mean(1)
        squares = (steps.unflatten(1, (networks, -1)) - mean.unsqueeze(1)).square_()
        variance = squares.flatten(1, 2).mean(0).unflatten(0, (networks, -1)).mean(1)
        return torch.full_like(self.count, x.numel() // self.mean.numel()), mean.double(), variance.double()

    def seen(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """As `of`: `update` takes in samples x (..., K n, F)."""
        return self.of(x)


def _in_blocks(x: Tensor, blocks: Tensor) -> Tensor:
    """(..., A, n, F) of x (..., A n, F), a view; `blocks` is (A, 1, F)."""
    split: Tensor = x.unflatten(x.dim() + 1 - blocks.dim(), (len(blocks), -1))
    return split


def normalize_blocks(x: Tensor, networks: int, *beside: Pending) -> Tensor:
    """(x - mean) / std of x (..., K n), over all entries of a network and all ranks: a collective call with several.

    Args:
        x: See above.
        networks: K.
        beside: What is merged in the same call.
    """
    moments = StackedMoments(networks, epsilon=1e-8).to(x.device)
    merge_together((moments, moments.of(x)), *beside)
    return moments.normalize(x)
