"""Values and their distributions with numbers worked out by hand. Shape legend: C critics, B samples, M atoms."""

import math

import pytest
import torch
from torch import Tensor

from epo_lightning.algorithm.q_values import CategoricalValues, ScalarValues, project

LN2 = 0.6931471805599453
ATOMS = torch.tensor([-2.0, -1.0, 0.0, 1.0, 2.0])


def certain(*places: int) -> Tensor:
    """(1, B, 5) probabilities: all of a sample's on one atom."""
    return torch.nn.functional.one_hot(torch.tensor([places]), 5).float()


class TestScalar:
    values = ScalarValues(torch.tensor([[1.0, -2.0, 4.0], [3.0, -6.0, 2.0]]))

    def test_the_smallest_of_each_sample(self) -> None:
        assert self.values.smallest().values.tolist() == [[1.0, -6.0, 2.0]]
        assert self.values.mean() is self.values.values

    def test_targets_by_hand(self) -> None:
        rewards, discount, bonus = torch.tensor([[1.0, 2.0, 3.0], [0.5, 0.0, 0.5], [1.0, 9.0, -4.0]])
        # 1 + 0.5 (1 + 1), 2 + 0, 3 + 0.5 (4 - 4); and 1 + 0.5 (3 + 1), 2 + 0, 3 + 0.5 (2 - 4)
        assert self.values.targets(rewards, discount, bonus).tolist() == [[2.0, 2.0, 3.0], [3.0, 2.0, 2.0]]

    def test_the_loss_is_the_mean_over_samples_and_the_sum_over_critics(self) -> None:
        targets = torch.tensor([[0.0, 0.0, 4.0], [3.0, -6.0, 5.0]])
        # (1 + 4 + 0) / 3 + (0 + 0 + 9) / 3
        assert self.values.loss(targets).item() == pytest.approx(14 / 3)
        # one row for both: (1 + 4 + 0) / 3 + (9 + 36 + 4) / 3
        assert self.values.loss(targets[:1]).item() == pytest.approx(54 / 3)


class TestCategorical:
    # 3 : 1 for atom 1 over atom 0, and even odds over all three
    values = CategoricalValues(
        torch.tensor([[[-99.0, 0.0, math.log(3)], [0.0, 0.0, 0.0]], [[0.0, 0.0, 0.0], [0.0, -99.0, -99.0]]]),
        torch.tensor([-4.0, 0.0, 4.0]),
    )

    def test_means_by_hand(self) -> None:
        # 3/4 * 4; 0; 0; -4
        torch.testing.assert_close(self.values.mean(), torch.tensor([[3.0, 0.0], [0.0, -4.0]]))

    def test_the_distribution_with_the_smallest_mean(self) -> None:
        smallest = self.values.smallest()
        assert smallest.logits.tolist() == [self.values.logits[1].tolist()]
        other_way = CategoricalValues(self.values.logits.flip(0), self.values.atoms).smallest()
        assert torch.equal(other_way.logits, smallest.logits)

    def test_targets_by_hand(self) -> None:
        rewards, discount, bonus = torch.tensor([1.0, 1.0]), torch.tensor([0.5, 0.0]), torch.tensor([2.0, 9.0])
        # Sample 0: -4, 0, 4 move to 1 + 0.5 (z + 2) = 0, 2, 4. Probability 1/4 at 2 goes half to 0, half to 4:
        # [0, 1/8, 7/8]. Of the other critic 1/3 each: [0, 1/3 + 1/6, 1/3 + 1/6].
        # Sample 1: nothing follows, everything lies at r = 1: [0, 3/4, 1/4].
        targets = self.values.targets(rewards, discount, bonus)
        expected = torch.tensor([[[0, 1 / 8, 7 / 8], [0, 3 / 4, 1 / 4]], [[0, 1 / 2, 1 / 2], [0, 3 / 4, 1 / 4]]])
        torch.testing.assert_close(targets, expected)

    def test_the_loss_by_hand(self) -> None:
        targets = torch.tensor([[[0.0, 0.0, 1.0], [0.0, 1.0, 0.0]], [[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]])
        # -ln 3/4 and -ln 1/3, mean; and -ln 1/3 and -ln 1, mean; the sum of both
        expected = (math.log(4 / 3) + math.log(3)) / 2 + (math.log(3) + 0.0) / 2
        assert self.values.loss(targets).item() == pytest.approx(expected)
        # one row for both: -ln 1/3 and +99 of the second critic
        both = (math.log(4 / 3) + math.log(3)) / 2 + (math.log(3) + 99.0) / 2
        assert self.values.loss(targets[:1]).item() == pytest.approx(both)

    def test_the_gradient_of_the_loss_is_probability_minus_target(self) -> None:
        logits = torch.zeros(2, 4, 3, requires_grad=True)
        target = torch.tensor([1.0, 0.0, 0.0]).expand(2, 4, 3)
        CategoricalValues(logits, self.values.atoms).loss(target).backward()
        # (1/3 - target) over 4 samples
        torch.testing.assert_close(logits.grad, (1 / 3 - target) / 4)


class TestProjection:
    @pytest.mark.parametrize(
        ("place", "expected"),
        [
            (0.0, [0, 0, 1, 0, 0]),  # on an atom
            (0.25, [0, 0, 0.75, 0.25, 0]),
            (-1.9, [0.9, 0.1, 0, 0, 0]),
            (2.0, [0, 0, 0, 0, 1]),  # on the last one
            (-2.0, [1, 0, 0, 0, 0]),
            (7.5, [0, 0, 0, 0, 1]),  # beyond the ends
            (-7.5, [1, 0, 0, 0, 0]),
        ],
    )
    def test_of_one_place(self, place: float, expected: list[float]) -> None:
        moved = torch.full((1, 5), place)  # wherever it comes from
        for atom in range(5):
            projected = project(certain(atom), moved, ATOMS)
            torch.testing.assert_close(projected, torch.tensor([[expected]], dtype=torch.float32))

    def test_what_meets_on_an_atom_adds_up(self) -> None:
        probabilities = torch.tensor([[[0.1, 0.2, 0.3, 0.4, 0.0]]])
        moved = torch.tensor([[0.5, 0.5, -9.0, 1.0, 0.0]])
        # 0.3 lies half on 0, half on 1; 0.3 on -2; 0.4 on 1
        torch.testing.assert_close(project(probabilities, moved, ATOMS), torch.tensor([[[0.3, 0, 0.15, 0.55, 0]]]))

    def test_mass_and_mean_stay(self) -> None:
        generator = torch.Generator().manual_seed(0)
        atoms = torch.linspace(-20, 20, 101, dtype=torch.float64)
        probabilities = torch.randn(2, 64, 101, generator=generator, dtype=torch.float64).softmax(-1)
        rewards = torch.randn(64, 1, generator=generator, dtype=torch.float64)
        moved = rewards + 0.5 * atoms  # nothing leaves the ends
        projected = project(probabilities, moved, atoms)
        assert projected.min() >= 0
        torch.testing.assert_close(projected.sum(-1), torch.ones(2, 64, dtype=torch.float64))
        torch.testing.assert_close(projected @ atoms, (probabilities * moved).sum(-1))

    def test_atoms_of_float32_never_point_beyond_the_last(self) -> None:
        for low, high, count in ((-20.0, 20.0, 101), (-0.3, 0.7, 51), (-1e3, 7e3, 33)):
            atoms = torch.linspace(low, high, count)
            projected = project(torch.full((1, 1, count), 1 / count), atoms[None] + 1e9, atoms)
            assert projected[0, 0, -1].item() == pytest.approx(1.0, rel=1e-5)

    def test_nan_stays_nan_and_is_no_index(self) -> None:
        moved = torch.tensor([[math.nan] * 5, [0.0] * 5])
        projected = project(certain(2, 2), moved, ATOMS)
        assert projected[0, 0].isnan().any()
        assert projected[0, 1].tolist() == [0, 0, 1, 0, 0]
