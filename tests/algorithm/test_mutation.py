"""Mutation of hyper-parameters, against the published ranges."""

import pytest
import torch

from epo_lightning.algorithm.mutation import SPECIAL, Gene, mutate


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_the_rules_of_the_released_code() -> None:
    gamma = Gene(0.0, 1.0, "complement")
    assert {"clip": Gene(0.01, 0.3), "num_epochs": Gene(1, 8, "step"), "gamma": gamma} == SPECIAL


class TestMutation:
    def many(self, value: float, gene: Gene, rate: float = 1.0, count: int = 4000) -> torch.Tensor:
        values = {"x": torch.full((count,), value, dtype=torch.float64)}
        return mutate(values, {"x": gene}, rate, (1.1, 1.5), seeded()).values["x"]

    def test_multiplied_or_divided_by_a_uniform_factor(self) -> None:
        ratio = self.many(2.0, Gene()) / 2.0
        up, down = ratio[ratio > 1], 1 / ratio[ratio < 1]
        for factors in (up, down):
            assert 1.1 <= factors.min() < 1.105
            assert 1.495 < factors.max() <= 1.5
            assert factors.mean().item() == pytest.approx(1.3, abs=0.01)
        assert abs(len(up) - 2000) < 130

    def test_each_with_the_rate(self) -> None:
        changed = (self.many(2.0, Gene(), rate=0.15) != 2.0).sum().item()
        assert abs(changed - 600) < 90
        assert (self.many(2.0, Gene(), rate=0.0) == 2.0).all()

    def test_the_mini_epochs_go_one_up_or_down_within_one_to_eight(self) -> None:
        gene = SPECIAL["num_epochs"]
        assert self.many(4.0, gene).unique().tolist() == [3.0, 5.0]
        assert self.many(1.0, gene).unique().tolist() == [1.0, 2.0]
        assert self.many(8.0, gene).unique().tolist() == [7.0, 8.0]

    def test_the_clip_stays_within_its_bounds_and_it_is_told_where_it_was_held(self) -> None:
        values = {"clip": torch.tensor([0.29, 0.0101, 0.1], dtype=torch.float64).repeat(200)}
        mutated = mutate(values, {"clip": SPECIAL["clip"]}, 1.0, (1.1, 1.5), seeded())
        told, new = mutated.clamped["clip"].view(200, 3), mutated.values["clip"].view(200, 3)
        assert new.amin().item() == 0.01
        assert new.amax().item() == 0.3
        assert torch.equal(told[:, 0], new[:, 0] == 0.3)
        assert torch.equal(told[:, 1], new[:, 1] == 0.01)
        assert not told[:, 2].any()

    def test_the_discount_by_what_it_is_short_of_one(self) -> None:
        ratio = (1 - self.many(0.99, SPECIAL["gamma"])) / 0.01
        up, down = ratio[ratio > 1], 1 / ratio[ratio < 1]
        for factors in (up, down):
            assert 1.1 - 1e-9 <= factors.min() < 1.102
            assert 1.198 < factors.max() <= 1.2 + 1e-9

    def test_agents_and_hyper_parameters_change_independently(self) -> None:
        values = {name: torch.ones(2, dtype=torch.float64) for name in ("a", "b")}
        new = mutate(values, {"a": Gene(), "b": Gene()}, 1.0, (1.1, 1.5), seeded()).values
        assert torch.cat([new["a"], new["b"]]).unique().numel() == 4

    def test_what_is_no_gene_stays(self) -> None:
        values = {"a": torch.ones(2, dtype=torch.float64), "b": torch.ones(2, dtype=torch.float64)}
        assert torch.equal(mutate(values, {"a": Gene()}, 1.0, (1.1, 1.5), seeded()).values["b"], values["b"])

    def test_a_negative_one_keeps_its_sign(self) -> None:
        new = self.many(-2.0, Gene())
        assert -3.0 <= new.min() < new.max() <= -2 / 1.5
