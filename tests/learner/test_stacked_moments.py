"""Normalisers of K networks are K normalisers. Shape legend: K networks, n rows of each, T steps, F features."""

import pytest
import torch

from epo_lightning.learner.normalization import RunningMoments, normalize_across_ranks
from epo_lightning.learner.stacked_moments import StackedMoments, normalize_blocks

K, n, T, F = 3, 4, 5, 2


def batches(*shape: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    scale = torch.arange(1, K + 1).repeat_interleave(n).view(K * n, *[1] * (len(shape) - 2))
    return [scale * torch.randn(shape, generator=generator) + 10 * scale for _ in range(3)]


@pytest.mark.parametrize("features", [(), (F,)])
def test_each_network_has_the_moments_of_its_own_rows(features: tuple[int, ...]) -> None:
    stacked, alone = StackedMoments(K, features, clip=1.5), [RunningMoments(features, clip=1.5) for _ in range(K)]
    for x in batches(T, K * n, *features):
        news = stacked.of(x)
        stacked.update(x)
        for k in range(K):
            own = x[:, k * n : (k + 1) * n]
            torch.testing.assert_close(news[1][k], own.double().mean((0, 1)), rtol=1e-6, atol=1e-6)
            torch.testing.assert_close(news[2][k], own.double().var((0, 1), correction=0), rtol=1e-5, atol=1e-6)
            alone[k].update(own)
    assert stacked.count == alone[0].count == 3 * T * n
    x = batches(T, K * n, *features)[0]
    out, plain = torch.empty_like(x), stacked.denormalize(x)
    for told in (stacked.normalize(x), stacked.normalize(x, out=out), out):
        for k in range(K):
            block = slice(k * n, (k + 1) * n)
            torch.testing.assert_close(told[:, block], alone[k].normalize(x[:, block]), rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(plain[:, block], alone[k].denormalize(x[:, block]), rtol=1e-5, atol=1e-4)
    assert out.abs().max() == 1.5, "something was clipped"


def test_it_normalises_in_place_also_a_part_of_a_tensor() -> None:
    stacked, x = StackedMoments(K, (F,)), batches(T, K * n, F)[0]
    stacked.update(x)
    wide = torch.cat([x, x], dim=1)
    expected, part = stacked.normalize(x), wide[:, : K * n]
    stacked.normalize(part, out=part)
    assert torch.equal(wide[:, : K * n], expected)
    assert torch.equal(wide[:, K * n :], x)


def test_some_networks_are_asked() -> None:
    stacked, x = StackedMoments(K, (F,)), batches(T, K * n, F)[0]
    stacked.update(x)
    told = stacked.normalizer(torch.tensor([2, 0]))(torch.cat([x[0, 2 * n :], x[0, :n]]))
    expected = stacked.normalize(x[0])
    torch.testing.assert_close(told, torch.cat([expected[2 * n :], expected[:n]]))


def test_advantages_are_normalised_for_each_network() -> None:
    x = batches(T, K * n)[0]
    told = normalize_blocks(x, K)
    for k in range(K):
        own = slice(k * n, (k + 1) * n)
        torch.testing.assert_close(told[:, own], normalize_across_ranks(x[:, own]), rtol=1e-5, atol=1e-5)
