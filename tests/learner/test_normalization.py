"""Running moments: by hand, against all data at once, and over two processes."""

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor
from torch.multiprocessing.spawn import spawn

from epo_lightning.learner.normalization import RunningMoments, normalize_across_ranks


def test_before_any_data_normalisation_changes_nothing() -> None:
    moments = RunningMoments((2,), epsilon=0.0)
    x = torch.tensor([[3.0, -4.0]])
    assert torch.equal(moments.normalize(x), x)
    assert torch.equal(moments.denormalize(x), x)


def test_updates_by_hand() -> None:
    moments = RunningMoments((1,))
    moments.update(torch.tensor([[1.0], [3.0]]))  # mean 2, variance (1 + 1) / 2
    assert (moments.count.item(), moments.mean.item(), moments.var.item()) == (2.0, 2.0, 1.0)
    moments.update(torch.tensor([[5.0], [7.0], [9.0]]))  # 1, 3, 5, 7, 9: mean 5, variance (16 + 4 + 0 + 4 + 16) / 5
    assert moments.count.item() == 5.0
    assert moments.mean.item() == pytest.approx(5.0)
    assert moments.var.item() == pytest.approx(8.0)


def test_merge_by_hand() -> None:
    moments = RunningMoments()
    moments.update(torch.tensor([1.0, 3.0]))
    moments.merge(torch.tensor(3.0).double(), torch.tensor(7.0).double(), torch.tensor(8 / 3).double())  # 5, 7, 9
    assert moments.count.item() == 5.0
    assert moments.mean.item() == pytest.approx(5.0)
    assert moments.var.item() == pytest.approx(8.0)


def data(*sizes: int, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """Chunks of unequal size and drifting distribution, two features of very different scale."""
    generator = torch.Generator().manual_seed(11)
    scale, shift = torch.tensor([1.0, 1e-3]), torch.tensor([100.0, -1.0])
    chunks = [torch.randn(n, 2, generator=generator, dtype=torch.float64) for n in sizes]
    return [(chunk * scale * (i + 1) + shift * i).to(dtype) for i, chunk in enumerate(chunks)]


def assert_moments_of(moments: RunningMoments, everything: Tensor, rtol: float) -> None:
    """Mean and population variance as the definition has them, in float64."""
    everything = everything.double()
    mean = everything.sum(0) / len(everything)
    variance = (everything - mean).square().sum(0) / len(everything)
    assert moments.count.item() == len(everything)
    torch.testing.assert_close(moments.mean, mean, rtol=rtol, atol=0)
    torch.testing.assert_close(moments.var, variance, rtol=rtol, atol=0)


@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_many_updates_equal_all_data_at_once(dtype: torch.dtype, rtol: float) -> None:
    chunks = data(1, 50, 7, 1000, 2, dtype=dtype)
    moments = RunningMoments((2,))
    for chunk in chunks:
        moments.update(chunk)
    assert_moments_of(moments, torch.cat(chunks), rtol)


def test_leading_dimensions_are_all_samples() -> None:
    x = torch.arange(24.0).view(3, 4, 2)
    moments = RunningMoments((2,))
    moments.update(x)
    assert_moments_of(moments, x.reshape(12, 2), 1e-6)
    scalar = RunningMoments()
    scalar.update(x[..., 0])
    assert scalar.mean.shape == scalar.var.shape == ()
    assert scalar.count.item() == 12
    assert scalar.mean.item() == pytest.approx(11.0)  # of 0, 2, ..., 22


def test_update_leaves_no_graph_behind() -> None:
    moments = RunningMoments((2,))
    moments.update(torch.ones(3, 2, requires_grad=True))
    assert not moments.mean.requires_grad
    assert list(moments.parameters()) == []


class TestNormalize:
    @pytest.fixture
    def moments(self) -> RunningMoments:
        moments = RunningMoments((1,), clip=1.0, epsilon=0.0)
        moments.update(torch.tensor([[0.0], [4.0]]))  # mean 2, standard deviation 2
        return moments

    def test_by_hand_with_clip(self, moments: RunningMoments) -> None:
        x = torch.tensor([[2.0], [3.0], [4.0], [9.0], [-9.0]])
        assert moments.normalize(x).squeeze(1).tolist() == [0.0, 0.5, 1.0, 1.0, -1.0]
        assert x.squeeze(1).tolist() == [2.0, 3.0, 4.0, 9.0, -9.0]

    def test_without_clip(self, moments: RunningMoments) -> None:
        moments.clip = None
        assert moments.normalize(torch.tensor([[9.0]])).item() == 3.5

    def test_in_place(self, moments: RunningMoments) -> None:
        x = torch.tensor([[3.0], [9.0]])
        assert moments.normalize(x, out=x) is x
        assert x.squeeze(1).tolist() == [0.5, 1.0]

    def test_into_another_tensor(self, moments: RunningMoments) -> None:
        x, out = torch.tensor([[3.0], [9.0]]), torch.zeros(2, 1)
        moments.normalize(x, out=out)
        assert out.squeeze(1).tolist() == [0.5, 1.0]
        assert x.squeeze(1).tolist() == [3.0, 9.0]

    def test_std_and_denormalize_by_hand(self, moments: RunningMoments) -> None:
        assert moments.std().item() == 2.0
        assert moments.denormalize(torch.tensor([[0.5], [-2.0]])).squeeze(1).tolist() == [3.0, -2.0]

    def test_epsilon_is_added_to_the_variance(self) -> None:
        moments = RunningMoments((1,), epsilon=5.0)
        moments.update(torch.tensor([[0.0], [4.0]]))  # variance 4, and 4 + 5 = 3^2
        assert moments.std().item() == 3.0
        assert moments.normalize(torch.tensor([[8.0]])).item() == pytest.approx(2.0)
        assert moments.denormalize(torch.tensor([[2.0]])).item() == pytest.approx(8.0)

    def test_results_are_float32(self, moments: RunningMoments) -> None:
        assert moments.normalize(torch.ones(1, 1)).dtype == torch.float32
        assert moments.denormalize(torch.ones(1, 1)).dtype == torch.float32
        assert moments.mean.dtype == moments.var.dtype == moments.count.dtype == torch.float64


def test_a_constant_feature_is_normalised_to_nothing() -> None:
    moments = RunningMoments((1,))
    x = torch.full((100, 1), 1000.0)
    moments.update(x)
    # (x - mean) / sqrt(epsilon): rounding of x is magnified by 1 / sqrt(1e-5) = 316, rounding of x * 316 would be too
    assert moments.normalize(x).abs().max().item() < 1e-3


def test_variance_never_becomes_negative() -> None:
    # E[x^2] - mean^2 of a large constant loses all its digits, and may end up below zero by more than epsilon
    moments = RunningMoments((1,))
    x = torch.full((1398, 1), 941178.375)
    moments.update(x)
    assert moments.var.item() >= 0
    assert torch.isfinite(moments.normalize(x)).all()


def test_save_and_load(tmp_path: Path) -> None:
    saved = RunningMoments((2,), clip=5.0)
    chunks = data(20, 30)
    saved.update(chunks[0])
    torch.save(saved.state_dict(), tmp_path / "moments.pt")
    loaded = RunningMoments((2,), clip=5.0)
    loaded.load_state_dict(torch.load(tmp_path / "moments.pt", weights_only=True))
    for moments in (saved, loaded):
        moments.update(chunks[1])
    for name, value in saved.state_dict().items():
        assert torch.equal(value, loaded.state_dict()[name]), name
    assert_moments_of(loaded, torch.cat(chunks), 1e-12)


def test_normalize_across_ranks_by_hand_on_one_rank() -> None:
    # mean 4, variance ((3^2 + 1 + 1 + 3^2) / 4) = 5; the shape is kept
    x = torch.tensor([[1.0, 3.0], [5.0, 7.0]])
    expected = torch.tensor([[-3.0, -1.0], [1.0, 3.0]]) / 5**0.5
    torch.testing.assert_close(normalize_across_ranks(x), expected)
    assert x.tolist() == [[1.0, 3.0], [5.0, 7.0]]


def _collect_on(rank: int, folder: str) -> None:
    """One of two ranks: two updates with unequal numbers of samples, then pooled advantages."""
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    chunks = data(5, 60, 200, 3)
    moments = RunningMoments((2,))
    moments.update(chunks[rank])  # rank 0 has 5 samples, rank 1 has 60
    moments.update(chunks[2 + rank])  # then 200 and 3
    advantages = normalize_across_ranks(torch.tensor([1.0, 3.0] if rank == 0 else [5.0, 7.0]))
    torch.save((moments.state_dict(), advantages), f"{folder}/rank_{rank}.pt")
    dist.destroy_process_group()


def test_two_ranks_agree_with_each_other_and_with_all_data_at_once(tmp_path: Path) -> None:
    spawn(_collect_on, args=(str(tmp_path),), nprocs=2)
    (first, first_advantages), (second, second_advantages) = (
        torch.load(tmp_path / f"rank_{rank}.pt", weights_only=True) for rank in (0, 1)
    )
    for name in ("count", "mean", "var"):
        assert torch.equal(first[name], second[name]), name
    merged = RunningMoments((2,))
    merged.load_state_dict(first)
    assert_moments_of(merged, torch.cat(data(5, 60, 200, 3)), 1e-12)
    # 1, 3 | 5, 7: mean 4, variance 5 over both ranks
    torch.testing.assert_close(first_advantages, torch.tensor([-3.0, -1.0]) / 5**0.5)
    torch.testing.assert_close(second_advantages, torch.tensor([1.0, 3.0]) / 5**0.5)


def test_rescaled_moments_are_those_of_rescaled_samples() -> None:
    samples = torch.randn(50, 3, dtype=torch.float64)
    moments, expected = RunningMoments((3,)), RunningMoments((3,))
    moments.update(samples)
    moments.rescale(0.01)
    expected.update(0.01 * samples)
    torch.testing.assert_close((moments.mean, moments.var), (expected.mean, expected.var))
    assert moments.count == 50
