"""The losses of soft actor-critic with numbers worked out by hand."""

import math
from typing import Any

import pytest
import torch

from epo_lightning.algorithm.q_values import CategoricalValues, ScalarValues
from epo_lightning.algorithm.sac import (
    SACLossSettings,
    actor_loss,
    critic_targets,
    polyak_average,
    temperature_loss,
)
from epo_lightning.limits import Mistake

OWN, MIN = SACLossSettings(gamma=0.5), SACLossSettings(gamma=0.5, bootstrap="min")
ALPHA = torch.tensor(0.2)


class TestCriticTargets:
    rewards = torch.tensor([1.0, 1.0, 1.0])
    log_probs = torch.tensor([5.0, -5.0, 5.0])
    terminated = torch.tensor([False, False, True])

    def test_scalar(self) -> None:
        values = ScalarValues(torch.tensor([[4.0, 4.0, 4.0], [2.0, 6.0, 2.0]]))
        # 1 + 0.5 (4 - 0.2 * 5) = 2.5; 1 + 0.5 (4 + 0.2 * 5) = 3.5; 1 + 0; of the other 1.5, 4.5, 1
        targets = critic_targets(values, self.log_probs, self.rewards, self.terminated, ALPHA, OWN)
        torch.testing.assert_close(targets, torch.tensor([[2.5, 3.5, 1.0], [1.5, 4.5, 1.0]]))
        smaller = critic_targets(values, self.log_probs, self.rewards, self.terminated, ALPHA, MIN)
        torch.testing.assert_close(smaller, torch.tensor([[1.5, 3.5, 1.0]]))

    def test_categorical(self) -> None:
        sure = torch.tensor([[[0.0, 0.0, 99.0]] * 3, [[99.0, 0.0, 0.0]] * 3])
        values = CategoricalValues(sure, torch.tensor([-4.0, 0.0, 4.0]))
        # of the first critic all lies on 4 and moves to 2.5, 3.5, 1: 2.5 = 3/8 * 0 + 5/8 * 4, 3.5: 1/8 and 7/8
        first = [[0, 3 / 8, 5 / 8], [0, 1 / 8, 7 / 8], [0, 3 / 4, 1 / 4]]
        # of the second on -4: 1 + 0.5 (-4 - 1) = -1.5, 1 + 0.5 (-4 + 1) = -0.5, 1
        second = [[3 / 8, 5 / 8, 0], [1 / 8, 7 / 8, 0], [0, 3 / 4, 1 / 4]]
        targets = critic_targets(values, self.log_probs, self.rewards, self.terminated, ALPHA, OWN)
        torch.testing.assert_close(targets, torch.tensor([first, second]))
        smaller = critic_targets(values, self.log_probs, self.rewards, self.terminated, ALPHA, MIN)
        torch.testing.assert_close(smaller, torch.tensor([second]))

    def test_both_kinds_have_the_same_mean(self) -> None:
        generator = torch.Generator().manual_seed(0)
        atoms = torch.linspace(-20, 20, 101, dtype=torch.float64)
        values = CategoricalValues(torch.randn(2, 32, 101, generator=generator, dtype=torch.float64), atoms)
        rewards, log_probs = torch.randn(2, 32, generator=generator, dtype=torch.float64)
        terminated = torch.arange(32) % 4 == 0
        targets = critic_targets(values, log_probs, rewards, terminated, ALPHA.double(), OWN)
        scalar = ScalarValues(values.mean())
        expected = critic_targets(scalar, log_probs, rewards, terminated, ALPHA.double(), OWN)
        torch.testing.assert_close(targets @ atoms, expected)


class TestActorLoss:
    values = ScalarValues(torch.tensor([[1.0, 4.0], [3.0, 2.0]]))
    log_probs = torch.tensor([5.0, 0.0])

    def test_by_hand(self) -> None:
        # the mean of (0.2 * 5 - 2) and (0 - 3); with the smaller critic of (1 - 1) and (0 - 2)
        assert actor_loss(self.values, self.log_probs, ALPHA, OWN).item() == pytest.approx(-2.0)
        assert actor_loss(self.values, self.log_probs, ALPHA, MIN).item() == pytest.approx(-1.0)

    def test_of_distributions_by_hand(self) -> None:
        # 3 : 1 for 2 over -2 has the mean 1
        values = CategoricalValues(torch.tensor([[[0.0, math.log(3)]], [[0.0, 0.0]]]), torch.tensor([-2.0, 2.0]))
        assert actor_loss(values, torch.tensor([5.0]), ALPHA, OWN).item() == pytest.approx(1.0 - 0.5)
        assert actor_loss(values, torch.tensor([5.0]), ALPHA, MIN).item() == pytest.approx(1.0 - 0.0)

    def test_the_gradient(self) -> None:
        values, log_probs = torch.zeros(2, 4, requires_grad=True), torch.zeros(4, requires_grad=True)
        alpha = torch.tensor(0.2, requires_grad=True)
        actor_loss(ScalarValues(values), log_probs, alpha, OWN).backward()
        torch.testing.assert_close(values.grad, torch.full((2, 4), -1 / 8))
        torch.testing.assert_close(log_probs.grad, torch.full((4,), 0.2 / 4))
        assert alpha.grad is None


class TestTemperature:
    settings = SACLossSettings(target_entropy=-0.5)

    def test_by_hand(self) -> None:
        # entropy -(1 + 3) / 2 = -2, target -0.5 * 2: 1 nat too little, times alpha
        log_alpha = torch.tensor(math.log(0.2), requires_grad=True)
        loss = temperature_loss(log_alpha, torch.tensor([1.0, 3.0]), self.settings, 2)
        assert loss.item() == pytest.approx(-0.2)
        loss.backward()
        assert log_alpha.grad is not None
        assert log_alpha.grad.item() == pytest.approx(-0.2)  # downhill alpha rises, and with it the entropy

    def test_too_much_entropy_lowers_alpha(self) -> None:
        log_alpha = torch.tensor(0.0, requires_grad=True)
        log_probs = torch.tensor([-3.0], requires_grad=True)
        temperature_loss(log_alpha, log_probs, self.settings, 2).backward()
        assert log_alpha.grad is not None
        assert log_alpha.grad.item() == pytest.approx(3.0 + 1.0)
        assert log_probs.grad is None


def test_polyak_averaging_by_hand() -> None:
    targets = [torch.tensor([0.0, 8.0]), torch.tensor([[1.0]])]
    places = [target.data_ptr() for target in targets]
    sources = [torch.nn.Parameter(torch.tensor([8.0, 0.0])), torch.nn.Parameter(torch.tensor([[9.0]]))]
    polyak_average(targets, sources, 0.125)
    assert [target.tolist() for target in targets] == [[1.0, 7.0], [[2.0]]]
    assert [target.data_ptr() for target in targets] == places
    assert [source.flatten().tolist() for source in sources] == [[8.0, 0.0], [9.0]]
    assert not any(target.requires_grad for target in targets)


class TestSettings:
    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("gamma", 1.01),
            ("gamma", -0.1),
            ("tau", 0.0),
            ("tau", 1.5),
            ("temperature", 0.0),
            ("target_entropy", 0.7),
            ("target_entropy", math.nan),
        ],
    )
    def test_out_of_range(self, name: str, value: float) -> None:
        changes: dict[str, Any] = {name: value}
        with pytest.raises(Mistake, match=rf"model\.loss\.{name}\b.* must be .*, got {value}"):
            SACLossSettings(**changes)

    def test_the_ends_of_the_ranges(self) -> None:
        SACLossSettings(gamma=1.0, tau=1.0, target_entropy=0.693)
        SACLossSettings(gamma=0.0, tau=1e-3, temperature=1e-9, target_entropy=-30.0)
