"""Adam of K networks is K Adams."""

import copy

import pytest
import torch
from torch import Tensor, nn

from epo_lightning.learner.stacked_adam import Pace, StackedAdam, adapted_rates

K = 3


def pace(rates: list[float], norms: list[float]) -> Pace:
    return Pace(torch.tensor(rates, dtype=torch.float64), torch.tensor(norms, dtype=torch.float64))


def test_a_step_by_hand() -> None:
    weight = nn.Parameter(torch.zeros(2, 1, 2))
    adam = StackedAdam([weight])
    weight.grad = torch.tensor([[[3.0, -4.0]], [[3.0, -4.0]]])
    norms = adam.advance(pace([0.1, 0.01], [1.0, 10.0]))
    assert norms.tolist() == [5.0, 5.0]
    # the first step is the learning rate, against the sign of the gradient, whatever its size
    torch.testing.assert_close(weight.data, torch.tensor([[[-0.1, 0.1]], [[-0.01, 0.01]]]))
    # m = 0.1 g, v = 0.001 g^2; the first network's gradient was scaled down from norm 5 to norm 1
    torch.testing.assert_close(adam.moments["exp_avg"], torch.tensor([[0.06, -0.08], [0.3, -0.4]]))
    torch.testing.assert_close(adam.moments["exp_avg_sq"], torch.tensor([[0.00036, 0.00064], [0.009, 0.016]]))


def weights() -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    return [nn.Parameter(torch.randn(K, *shape, generator=generator)) for shape in ((4, 2), (4,), (1, 4))]


def test_many_steps_are_those_of_torch_where_some_are_left_out() -> None:
    together, generator = weights(), torch.Generator().manual_seed(1)
    alone = [[nn.Parameter(each[k].detach().clone()) for each in together] for k in range(K)]
    rates, norms = [1e-2, 3e-3, 1e-1], [1.0, 0.1, 100.0]
    adam, adams = StackedAdam(together), [torch.optim.Adam(alone[k], lr=rates[k]) for k in range(K)]
    for learn in ([0, 1, 2], [0, 2], [1], [0, 1, 2], [2, 0]):
        before = held(adam, together)
        for each in together:
            each.grad = 3 * torch.randn(each.shape, generator=generator)
        given = pace([rates[k] for k in learn], [norms[k] for k in learn])
        told = adam.advance(given, None if learn == [0, 1, 2] else torch.tensor(learn))
        for place, k in enumerate(learn):
            for mine, theirs in zip(alone[k], together, strict=True):
                assert theirs.grad is not None
                mine.grad = theirs.grad[k].clone()
            torch.testing.assert_close(told[place], nn.utils.clip_grad_norm_(alone[k], norms[k]))
            adams[k].step()
        for k in range(K):
            for mine, theirs in zip(alone[k], together, strict=True):
                torch.testing.assert_close(theirs[k], mine, rtol=1e-5, atol=1e-6)
        for k in set(range(K)) - set(learn):
            assert all(torch.equal(now[k], then[k]) for now, then in zip(held(adam, together), before, strict=True))
    assert adam.moments["step"].tolist() == [4, 3, 4]


def held(adam: StackedAdam, parameters: list[nn.Parameter]) -> list[Tensor]:
    return [each.detach().clone() for each in (*parameters, *adam.moments.values())]


def test_its_state_goes_on_from_a_checkpoint_to_the_bit() -> None:
    first, second = weights(), weights()
    adam, other = StackedAdam(first), StackedAdam(second)
    for steps, (one, parameters) in enumerate([(adam, first)] * 3):
        for each in parameters:
            each.grad = torch.full_like(each, 0.1 * (1 + steps))
        one.advance(pace([1e-2] * K, [1.0] * K))
    with torch.no_grad():
        for mine, theirs in zip(second, first, strict=True):
            mine.copy_(theirs)
    other.load_state_dict(copy.deepcopy(adam.state_dict()))
    for one, parameters in ((adam, first), (other, second)):
        for each in parameters:
            each.grad = torch.ones_like(each)
        one.advance(pace([1e-2] * K, [1.0] * K))
    assert all(torch.equal(a, b) for a, b in zip(held(adam, first), held(other, second), strict=True))


def test_without_learning_rates_there_is_no_step() -> None:
    with pytest.raises(NotImplementedError, match="advance"):
        StackedAdam(weights()).step()


def test_learning_rates_follow_their_own_targets() -> None:
    rate = torch.tensor([1e-3, 1e-3, 1e-3, 1e-3, 1e-3, 9e-3], dtype=torch.float64)
    kl = torch.tensor([0.021, 0.004, 0.01, 0.02, 5.0, 0.0], dtype=torch.float64)
    target = torch.tensor([0.01, 0.01, 0.01, 0.01, float("nan"), 0.01], dtype=torch.float64)
    told = adapted_rates(rate, kl, target, (1e-6, 1e-2)).tolist()
    # above twice the target; below half of it; between; exactly twice; constant; held at the bound
    assert told == pytest.approx([1e-3 / 1.5, 1.5e-3, 1e-3, 1e-3, 1e-3, 1e-2], rel=1e-12)
