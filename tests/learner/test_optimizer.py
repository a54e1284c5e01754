"""The adaptive step size, the gradient's norm, and what Adam forgets."""

import math
from typing import Any

import pytest
import torch
from torch import nn

from epo_lightning.learner.optimizer import (
    GeneOptimizerSettings,
    OptimizerSettings,
    adapt_learning_rate,
    build_adam,
    clip_gradients,
    restart_adam,
    slowed,
    take_step,
)
from epo_lightning.limits import Mistake


def adapted(kl: float, rate: float = 3e-4, **settings: Any) -> float:
    learning_rate = torch.tensor(rate)
    adapt_learning_rate(learning_rate, torch.tensor(kl), OptimizerSettings(**({"target_kl": 0.016} | settings)))
    return learning_rate.item()


class TestAdaptiveRule:
    @pytest.mark.parametrize(
        ("kl", "factor"),
        [
            (0.0321, 1 / 1.5),  # above twice the target
            (0.0319, 1.0),  # just inside
            (0.016, 1.0),
            (0.0081, 1.0),  # just above half of it
            (0.0079, 1.5),
            (0.0, 1.5),
            (math.inf, 1 / 1.5),
        ],
    )
    def test_by_hand(self, kl: float, factor: float) -> None:
        assert adapted(kl) == pytest.approx(3e-4 * factor, rel=1e-6)

    def test_exactly_at_a_threshold_it_stays(self) -> None:
        # 0.25 and its double and half are exact in float32
        assert adapted(0.5, target_kl=0.25) == pytest.approx(3e-4)
        assert adapted(0.125, target_kl=0.25) == pytest.approx(3e-4)

    def test_bounds(self) -> None:
        assert adapted(0.0, rate=9e-3) == pytest.approx(1e-2)
        assert adapted(1.0, rate=1.2e-6) == pytest.approx(1e-6)
        assert adapted(0.0, rate=1e-4, learning_rate=1e-4, learning_rate_max=1.2e-4) == pytest.approx(1.2e-4)

    def test_without_a_target_it_is_constant(self) -> None:
        assert adapted(1.0, rate=0.5, target_kl=None) == 0.5

    def test_nan_changes_nothing(self) -> None:
        assert adapted(math.nan) == pytest.approx(3e-4)

    def test_in_place(self) -> None:
        learning_rate = torch.tensor(1e-3)
        alias = learning_rate
        adapt_learning_rate(learning_rate, torch.tensor(1.0), OptimizerSettings())
        assert alias.item() == pytest.approx(1e-3 / 1.5)


class TestSettings:
    @pytest.mark.parametrize("name", ["learning_rate", "learning_rate_min", "learning_rate_max", "max_grad_norm"])
    @pytest.mark.parametrize("value", [0.0, -1.0, math.nan])
    def test_must_be_positive(self, name: str, value: float) -> None:
        with pytest.raises(ValueError, match=rf"model\.optimizer\.{name} must be greater than 0"):
            OptimizerSettings(**{name: value})

    def test_the_initial_rate_must_lie_between_the_bounds(self) -> None:
        with pytest.raises(ValueError, match=r"model\.optimizer\.learning_rate must be .* at most 0\.01, got 0\.02"):
            OptimizerSettings(learning_rate=2e-2)
        assert OptimizerSettings(learning_rate=2e-2, target_kl=None).learning_rate == 2e-2

    def test_target_kl(self) -> None:
        with pytest.raises(ValueError, match=r"model\.optimizer\.target_kl"):
            OptimizerSettings(target_kl=0.0)


class TestClipGradients:
    @staticmethod
    def parameters(scale: float) -> list[nn.Parameter]:
        generator = torch.Generator().manual_seed(0)
        parameters = [nn.Parameter(torch.zeros(shape)) for shape in ((3, 2), (4,), (1, 0), ())]
        for parameter in parameters:
            parameter.grad = scale * torch.randn(parameter.shape, generator=generator)
        return [*parameters, nn.Parameter(torch.zeros(2))]  # the last one has no gradient

    @pytest.mark.parametrize("scale", [1e-3, 0.2, 1.0, 100.0])
    def test_equals_torchs(self, scale: float) -> None:
        mine, torchs = self.parameters(scale), self.parameters(scale)
        norm = clip_gradients(mine, 1.0)
        torch.testing.assert_close(norm, nn.utils.clip_grad_norm_(torchs, 1.0))
        for one, other in zip(mine[:-1], torchs[:-1], strict=True):
            torch.testing.assert_close(one.grad, other.grad)
        assert mine[-1].grad is None

    def test_by_hand(self) -> None:
        first, second = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(2))
        first.grad, second.grad = torch.tensor([3.0]), torch.tensor([0.0, 4.0])
        assert clip_gradients([first, second], 1.0).item() == 5.0
        torch.testing.assert_close(first.grad, torch.tensor([0.6]))
        torch.testing.assert_close(second.grad, torch.tensor([0.0, 0.8]))

    def test_a_short_gradient_is_left_alone(self) -> None:
        parameter = nn.Parameter(torch.zeros(2))
        parameter.grad = torch.tensor([0.3, 0.4])
        assert clip_gradients([parameter], 1.0).item() == pytest.approx(0.5)
        assert parameter.grad.tolist() == torch.tensor([0.3, 0.4]).tolist()

    def test_nan_shows_in_the_norm(self) -> None:
        parameter = nn.Parameter(torch.zeros(2))
        parameter.grad = torch.tensor([0.3, math.nan])
        assert clip_gradients([parameter], 1.0).isnan()


class TestAdam:
    def test_the_tensor_learning_rate_is_the_size_of_the_step(self) -> None:
        parameter = nn.Parameter(torch.zeros(3))
        adam = build_adam([parameter], OptimizerSettings(learning_rate=1e-3), fused=True)
        rate = adam.param_groups[0]["lr"]
        steps = []
        for kl in (0.016, 1.0, 1.0, 0.0):  # keep, / 1.5, / 1.5, * 1.5
            before = parameter.detach().clone()
            adapt_learning_rate(rate, torch.tensor(kl), OptimizerSettings())
            parameter.grad = torch.ones(3)
            adam.step()
            steps.append((before - parameter.detach())[0].item())
        # Adam's step under a constant gradient is the learning rate
        expected = [1e-3, 1e-3 / 1.5, 1e-3 / 1.5**2, 1e-3 / 1.5]
        assert steps == pytest.approx(expected, rel=1e-3)

    def test_the_rate_lives_beside_the_parameters(self) -> None:
        adam = build_adam([nn.Parameter(torch.zeros(1))], OptimizerSettings(), fused=True)
        rate = adam.param_groups[0]["lr"]
        assert isinstance(rate, torch.Tensor)
        assert rate.device == torch.device("cpu")
        assert adam.param_groups[0]["fused"]


class TestRestart:
    """An Adam at a rate of 2e-3, saved under other settings."""

    @staticmethod
    def restarted(*, fused: bool = True, **settings: Any) -> dict[str, Any]:
        parameter = nn.Parameter(torch.ones(3))
        saved = build_adam([parameter], OptimizerSettings(learning_rate=1e-3), fused=True)
        saved.param_groups[0]["lr"].fill_(2e-3)
        now = OptimizerSettings(**({"learning_rate": 1e-3} | settings))
        adam = build_adam([parameter], now, fused=fused)
        adam.load_state_dict(saved.state_dict())
        restart_adam(adam, now)
        return adam.param_groups[0]

    def test_what_was_adapted_stays(self) -> None:
        assert self.restarted()["lr"].item() == pytest.approx(2e-3)

    def test_a_new_rate_is_the_rate_and_what_is_saved_next(self) -> None:
        group = self.restarted(learning_rate=1e-5)
        assert group["lr"].item() == pytest.approx(1e-5)
        assert group["initial_lr"] == 1e-5

    def test_bounds_hold_where_the_rate_is_adapted(self) -> None:
        assert self.restarted(learning_rate_max=1.5e-3)["lr"].item() == pytest.approx(1.5e-3)
        assert self.restarted(learning_rate_max=1.5e-3, target_kl=None)["lr"].item() == pytest.approx(2e-3)

    @pytest.mark.parametrize("fused", [False, True])
    def test_the_kind_of_kernel_is_that_of_the_present_precision(self, fused: bool) -> None:
        group = self.restarted(fused=fused)
        assert (group["fused"], group["capturable"]) == (fused, not fused)


def test_a_step_of_the_kernels_alone_is_adams_own_to_the_bit_and_skips_who_has_no_gradient() -> None:
    found = []
    for step in (take_step, torch.optim.Adam.step):
        torch.manual_seed(0)
        first, second, idle = (nn.Parameter(torch.randn(3, 2)) for _ in range(3))
        adam = build_adam([first, idle, second], OptimizerSettings(learning_rate=0.01), fused=True)
        for _ in range(4):
            first.grad, second.grad = torch.randn(3, 2), torch.randn(3, 2)
            step(adam)
            adam.param_groups[0]["lr"].mul_(0.5)
        assert not adam.state[idle]
        found.append([first, second, idle, *adam.state[first].values(), *adam.state[second].values()])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
    assert found[0][3].item() == 4.0


class TestSlowed:
    def make(self) -> tuple[nn.Parameter, nn.Parameter, torch.optim.Adam]:
        own, shared = nn.Parameter(torch.zeros(3)), nn.Parameter(torch.zeros(3))
        own.grad, shared.grad = torch.tensor([1.0, -1e-3, 5.0]), torch.tensor([1.0, -1e-3, 5.0])
        adam = build_adam([own, shared], OptimizerSettings(learning_rate=0.1, learning_rate_max=0.1), fused=True)
        return own, shared, adam

    def test_a_step_by_hand(self) -> None:
        """Adam's first step is the learning rate in the direction of the gradient, whatever its size."""
        own, shared, adam = self.make()
        with slowed([own], 0.25):
            take_step(adam)
        torch.testing.assert_close(shared.detach(), torch.tensor([-0.1, 0.1, -0.1]), rtol=1e-4, atol=0)
        torch.testing.assert_close(own.detach(), torch.tensor([-0.025, 0.025, -0.025]), rtol=1e-4, atol=0)

    def test_it_is_adam_with_another_learning_rate(self) -> None:
        torch.manual_seed(0)
        slow, fast = nn.Parameter(torch.randn(4, 3)), nn.Parameter(torch.randn(4, 3))
        with torch.no_grad():
            fast.copy_(slow)
        one = build_adam([slow], OptimizerSettings(learning_rate=0.008), fused=True)
        other = build_adam([fast], OptimizerSettings(learning_rate=0.002), fused=True)
        for _ in range(5):
            slow.grad = torch.randn(4, 3)
            fast.grad = slow.grad.clone()
            with slowed([slow], 0.25):
                take_step(one)
            take_step(other)
        torch.testing.assert_close(slow, fast)

    def test_at_zero_they_stay_and_at_one_nothing_is_different_to_the_bit(self) -> None:
        for rate in (0.0, 1.0):
            own, shared, adam = self.make()
            with slowed([own], rate):
                take_step(adam)
            assert torch.equal(own, torch.zeros(3) if rate == 0 else shared)

    @pytest.mark.parametrize("rate", [-0.1, 1.5])
    def test_a_rate_out_of_range_is_named(self, rate: float) -> None:
        with pytest.raises(Mistake, match=r"model\.optimizer\.gene_rate"):
            GeneOptimizerSettings(gene_rate=rate)
