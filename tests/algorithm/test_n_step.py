"""Windows of n steps by hand. Shape legend: n steps, the oldest first; N environments."""

import pytest
import torch
from torch import Tensor

from epo_lightning.algorithm.n_step import Windows, n_step_windows

GAMMA = 0.5
REWARDS = (8.0, 4.0, 2.0)


def windows(terminated: tuple[int, ...] = (), truncated: tuple[int, ...] = (), steps: int = 3) -> Windows:
    """Of one environment that pays 8, 4, 2, and whose episodes end at these steps."""
    dead, cut = torch.zeros(2, steps, 1, dtype=torch.bool)
    dead[list(terminated)] = True
    cut[list(truncated)] = True
    return n_step_windows(torch.tensor(REWARDS[:steps])[:, None], dead, dead | cut, GAMMA)


@pytest.mark.parametrize(
    ("terminated", "truncated", "returns", "discount", "last"),
    [
        ((), (), 8 + 2 + 0.5, 0.125, 2),  # 8 + 0.5 x 4 + 0.25 x 2, and 0.5^3 of what follows
        ((2,), (), 10.5, 0.0, 2),
        ((), (2,), 10.5, 0.125, 2),
        ((1,), (), 10.0, 0.0, 1),
        ((), (1,), 10.0, 0.25, 1),
        ((0,), (), 8.0, 0.0, 0),
        ((), (0,), 8.0, 0.5, 0),
        ((1,), (0,), 8.0, 0.5, 0),  # the first end counts
        ((0,), (1,), 8.0, 0.0, 0),
        ((0, 1, 2), (), 8.0, 0.0, 0),
        ((2,), (1,), 10.0, 0.25, 1),
    ],
)
def test_an_episode_ends_the_sum_and_a_time_limit_goes_on_behind_that_step(
    terminated: tuple[int, ...], truncated: tuple[int, ...], returns: float, discount: float, last: int
) -> None:
    found = windows(terminated, truncated)
    assert (found.returns.item(), found.discount.item(), found.last.item()) == (returns, discount, last)


@pytest.mark.parametrize(("ends", "discount"), [((), 0.5), ((0,), 0.0)])
def test_a_window_of_one_step_is_that_step(ends: tuple[int, ...], discount: float) -> None:
    found = windows(ends, steps=1)
    assert (found.returns.item(), found.discount.item(), found.last.item()) == (8.0, discount, 0)


def test_as_a_plain_loop_over_environments() -> None:
    generator = torch.Generator().manual_seed(0)
    rewards = torch.randn(4, 500, generator=generator)
    dead, cut = torch.rand(2, 4, 500, generator=generator) < 0.2
    found = n_step_windows(rewards, dead, dead | cut, 0.9)
    for env in range(500):
        total, steps, ended = 0.0, 0, False
        while steps < 4 and not ended:
            total += 0.9**steps * rewards[steps, env].item()
            ended = bool(dead[steps, env] | cut[steps, env])
            steps += 1
        follows = 0.0 if dead[steps - 1, env] else 0.9**steps
        wanted: Tensor = torch.tensor([total, follows, steps - 1])
        told = torch.stack([found.returns[env], found.discount[env], found.last[env].float()])
        torch.testing.assert_close(told, wanted)


def test_what_another_episode_pays_is_not_read() -> None:
    rewards, ended = torch.tensor([[1.0], [torch.nan]]), torch.tensor([[True], [False]])
    assert n_step_windows(rewards, ended, ended, GAMMA).returns.item() == 1.0
