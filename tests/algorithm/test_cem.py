"""The cross-entropy method, by hand. Shape legend: D parameters, P members, M parents."""

import math

import pytest
import torch
from torch import Tensor

from epo_lightning.algorithm.cem import CEMSettings, Distribution, draw, parent_weights, update
from epo_lightning.limits import Mistake

MEMBERS = torch.tensor([[1.0, 0.0], [3.0, 2.0], [-1.0, 4.0], [0.0, 0.0]])
FITNESS = torch.tensor([1.0, 3.0, 2.0, 0.0], dtype=torch.float64)


def before(damping: float = 1e-3) -> Distribution:
    return Distribution(torch.tensor([0.0, 1.0]), torch.tensor([9.0, 9.0]), torch.tensor(damping, dtype=torch.float64))


def test_weights_fall_with_the_logarithm_of_the_rank() -> None:
    # ln 4, ln 2, ln 4/3 over their sum
    torch.testing.assert_close(
        parent_weights(3), torch.tensor([0.585645, 0.292823, 0.121532], dtype=torch.float64), atol=1e-6, rtol=0
    )
    five = torch.tensor([0.429544, 0.263374, 0.166170, 0.097204, 0.043709], dtype=torch.float64)
    torch.testing.assert_close(parent_weights(5), five, atol=1e-6, rtol=0)
    assert parent_weights(1).tolist() == [1.0]
    assert parent_weights(7).sum() == pytest.approx(1.0)


@pytest.mark.parametrize(("divide", "spread"), [(True, (3.421691, 1.578309)), (False, (6.843382, 3.156618))])
def test_the_two_best_of_four_move_mean_and_variance(divide: bool, spread: tuple[float, float]) -> None:
    # w = ln 3, ln 1.5 over ln 4.5 = 0.730423, 0.269577 of the second and the third member
    # mean: 0.730423 * (3, 2) + 0.269577 * (-1, 4)
    # variance: 0.730423 * (3, 1)^2 + 0.269577 * (-1, 3)^2 about the OLD mean (0, 1), in the released code over M = 2
    after, parents = update(before(), MEMBERS, FITNESS, CEMSettings(parents=2, divide_by_parents=divide))
    assert parents.tolist() == [1, 2]
    torch.testing.assert_close(after.mean, torch.tensor([1.921691, 2.539155]), atol=1e-5, rtol=0)
    damping = 0.95 * 1e-3 + 0.05 * 1e-5  # it falls before it is added
    torch.testing.assert_close(after.variance, torch.tensor(spread) + damping, atol=1e-5, rtol=0)
    assert float(after.damping) == pytest.approx(damping)


def test_only_the_ranks_of_fitness_count() -> None:
    one, _ = update(before(), MEMBERS, FITNESS, CEMSettings(parents=3))
    other, _ = update(before(), MEMBERS, torch.exp(5 * FITNESS) - 100, CEMSettings(parents=3))
    assert all(map(torch.equal, one, other))


def test_equal_members_leave_the_damping_as_variance() -> None:
    same = before().mean.expand(4, 2)
    after, parents = update(before(), same, torch.zeros(4), CEMSettings(parents=2))
    assert parents.tolist() == [0, 1]
    torch.testing.assert_close(after.variance, torch.full((2,), 0.95e-3 + 0.05e-5))


def test_the_damping_approaches_its_limit() -> None:
    distribution, settings = before(), CEMSettings(parents=1)
    for _ in range(40):
        distribution, _ = update(distribution, MEMBERS, FITNESS, settings)
    assert float(distribution.damping) == pytest.approx(1e-5 + (1e-3 - 1e-5) * 0.95**40)


def drawn(antithetic: bool, members: int = 4, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return draw(torch.tensor([1.0, -2.0, 0.0]), torch.tensor([4.0, 1.0, 0.0]), members, antithetic, generator)


def test_members_are_the_mean_plus_the_root_of_the_variance_times_noise() -> None:
    noise = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    wanted = torch.stack([1 + 2 * noise[:, 0], -2 + noise[:, 1], torch.zeros(4)], dim=1)
    torch.testing.assert_close(drawn(antithetic=False), wanted)
    many = drawn(antithetic=False, members=20_000)
    torch.testing.assert_close(many.mean(0), torch.tensor([1.0, -2.0, 0.0]), atol=0.05, rtol=0)
    torch.testing.assert_close(many.var(0), torch.tensor([4.0, 1.0, 0.0]), atol=0.1, rtol=0)


def test_antithetic_members_mirror_each_other_about_the_mean() -> None:
    members = drawn(antithetic=True)
    noise = torch.randn(2, 3, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(members[:2, 0], 1 + 2 * noise[:, 0])
    torch.testing.assert_close(members[:2] + members[2:], torch.tensor([2.0, -4.0, 0.0]).expand(2, 3))
    assert not torch.equal(members[0], members[1])
    assert not torch.equal(members, drawn(antithetic=True, seed=1))


def test_it_climbs_a_hill() -> None:
    # f(x) = -|x - 3|^2 in 10 dimensions, from 0 with standard deviation 1
    settings = CEMSettings(parents=10, damping_init=1e-2, damping_limit=1e-4, divide_by_parents=False)
    distribution = Distribution(torch.zeros(10), torch.ones(10), torch.tensor(1e-2, dtype=torch.float64))
    generator = torch.Generator().manual_seed(0)
    for _ in range(60):
        members = draw(distribution.mean, distribution.variance, 40, True, generator)
        distribution, _ = update(distribution, members, -(members - 3).square().sum(1), settings)
    torch.testing.assert_close(distribution.mean, torch.full((10,), 3.0), atol=0.1, rtol=0)
    assert math.sqrt(distribution.variance.mean()) < 0.1


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"parents": 0}, "model.evolution.parents must be at least 1"),
        ({"gradient_members": -1}, "model.evolution.gradient_members must be at least 0"),
        ({"damping_decay": 1.5}, "model.evolution.damping_decay must be"),
        ({"damping_limit": -1.0}, "model.evolution.damping_limit must be at least 0"),
    ],
)
def test_numbers_out_of_range(change: dict[str, float], told: str) -> None:
    with pytest.raises(Mistake, match=told):
        CEMSettings(**change)  # type: ignore[arg-type]
