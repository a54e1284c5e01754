"""Which of the followers' samples the master gets, and how they are weighted."""

import math

import pytest
import torch
from torch import Tensor

from epo_lightning.algorithm.aggregation import (
    OffPolicySource,
    effective_sample_fraction,
    effective_sample_fractions,
    log_weight_sums,
    off_policy_envs,
    relabel,
    sample_followers,
)
from epo_lightning.algorithm.losses import LOG_RATIO_MAX
from epo_lightning.algorithm.population import Population

POPULATION = Population(num_agents=4, num_envs=12)  # master 0-2, followers 3-5, 6-8, 9-11


def draw(count: int, steps: int, source: OffPolicySource = "all", seed: int = 0) -> tuple[Tensor, Tensor]:
    return sample_followers(POPULATION, count, steps, source, torch.Generator().manual_seed(seed))


class TestSampling:
    @pytest.mark.parametrize("source", ["all", "one_agent"])
    @pytest.mark.parametrize("seed", range(5))
    def test_no_sample_twice(self, source: OffPolicySource, seed: int) -> None:
        step, env = draw(12, 4, source, seed)
        assert len({*zip(step.tolist(), env.tolist(), strict=True)}) == 12

    @pytest.mark.parametrize("steps", [1, 3, 4])
    def test_everything_there_is(self, steps: int) -> None:
        step, env = draw(steps * 9, steps)
        pairs = sorted(zip(step.tolist(), env.tolist(), strict=True))
        assert pairs == [(t, e) for t in range(steps) for e in range(3, 12)]

    def test_whole_sequences(self) -> None:
        step, env = draw(9, 1)
        assert step.tolist() == [0] * 9
        assert sorted(env.tolist()) == list(range(3, 12))

    @pytest.mark.parametrize("source", ["all", "one_agent"])
    def test_never_the_master(self, source: OffPolicySource) -> None:
        for seed in range(50):
            assert draw(9, 3, source, seed)[1].min() >= 3

    @pytest.mark.parametrize("source", ["all", "one_agent"])
    def test_uniform_over_followers_steps_and_environments(self, source: OffPolicySource) -> None:
        rounds, steps, count = 4000, 4, 6
        seen = torch.zeros(steps, 12)
        generator = torch.Generator().manual_seed(0)
        for _ in range(rounds):
            step, env = sample_followers(POPULATION, count, steps, source, generator)
            seen[step, env] += 1
        # 36 equally likely cells: each is drawn with probability 6 / 36 in a round, by `one_agent` in 1/3 of the rounds
        # 6 of 12 times. The variance of a cell is below rounds / 6: five standard deviations
        expected = rounds * count / 36
        assert (seen[:, 3:] - expected).abs().max() < 5 * math.sqrt(expected)
        assert seen[:, :3].sum() == 0

    def test_every_follower_is_chosen_as_the_one_agent(self) -> None:
        chosen = {draw(2, 2, "one_agent", seed)[1].div(3, rounding_mode="floor").unique().item() for seed in range(40)}
        assert chosen == {1, 2, 3}

    def test_the_generator_decides(self) -> None:
        for one, other in zip(draw(20, 4, seed=3), draw(20, 4, seed=3), strict=True):
            assert torch.equal(one, other)
        assert not torch.equal(draw(20, 4, seed=3)[0], draw(20, 4, seed=4)[0])


class TestMasterShare:
    """The master has 5 environments, its three followers 3 each: 5 to 7, 8 to 10, 11 to 13."""

    population = Population(4, 14, 0.5)

    def test_all_that_followers_have(self) -> None:
        step, env = sample_followers(self.population, 18, 2, "all", torch.Generator().manual_seed(0))
        pairs = sorted(zip(step.tolist(), env.tolist(), strict=True))
        assert pairs == [(t, e) for t in range(2) for e in range(5, 14)]

    def test_one_agent(self) -> None:
        seen = set()
        for seed in range(40):
            _, env = sample_followers(self.population, 3, 1, "one_agent", torch.Generator().manual_seed(seed))
            seen.add(tuple(sorted(env.tolist())))
        assert seen == {(5, 6, 7), (8, 9, 10), (11, 12, 13)}

    def test_a_multiple_of_what_the_master_has(self) -> None:
        assert off_policy_envs(self.population, 1.0, "all") == 5
        assert off_policy_envs(self.population, 1.8, "all") == 9
        assert off_policy_envs(self.population, 0.6, "one_agent") == 3

    @pytest.mark.parametrize(("ratio", "source", "most"), [(1.81, "all", "1.8"), (0.61, "one_agent", "0.6")])
    def test_no_more_than_there_is(self, ratio: float, source: OffPolicySource, most: str) -> None:
        with pytest.raises(ValueError, match=rf"must be at most {most} with 4 agents .*\(model.rollout.master_share\)"):
            off_policy_envs(self.population, ratio, source)


class TestHowMany:
    @pytest.mark.parametrize(
        ("ratio", "source", "columns"),
        [
            (0, "all", 0),
            (1, "all", 3),
            (3, "all", 9),
            (1 / 3, "all", 1),
            (0.5, "one_agent", 2),
            (2.5, "all", 8),
            (1, "one_agent", 3),
        ],
    )
    def test_a_multiple_of_the_masters_environments(self, ratio: float, source: OffPolicySource, columns: int) -> None:
        assert off_policy_envs(POPULATION, ratio, source) == columns

    @pytest.mark.parametrize(
        ("ratio", "envs_per_agent", "smallest"),
        [(0.4, 1, 0.5), (0.2, 2, 0.25), (0.08, 6, 0.0834), (1e-9, 3, 0.1667), (1e-9, 100_000, 0.0001)],
    )
    def test_a_ratio_that_comes_to_nothing_is_refused(self, ratio: float, envs_per_agent: int, smallest: float) -> None:
        population = Population(4, 4 * envs_per_agent)
        with pytest.raises(ValueError, match=r"off_policy_ratio .* gives the master no sample") as caught:
            off_policy_envs(population, ratio, "all")
        assert f"use at least {smallest:g}, or 0 for none" in str(caught.value)
        assert off_policy_envs(population, smallest, "all") >= 1
        assert off_policy_envs(population, 0.0, "all") == 0

    def test_one_agent_has_no_followers(self) -> None:
        assert off_policy_envs(Population(1, 8), 1.0, "all") == 0

    def test_more_than_there_is(self) -> None:
        with pytest.raises(
            ValueError, match=r"model\.rollout\.off_policy_ratio must be at most 3 with 4 agents.*got 3\.5"
        ):
            off_policy_envs(POPULATION, 3.5, "all")
        with pytest.raises(
            ValueError, match=r"off_policy_ratio must be at most 1 with 4 agents.*'one_agent', got 1\.5"
        ):
            off_policy_envs(POPULATION, 1.5, "one_agent")


class TestRelabel:
    master = torch.tensor([[-1.0, -4.0], [-2.0, -1.0]])
    behaviour = torch.tensor([[-3.0, -1.0], [-2.0, -1.5]])

    def test_without_a_cap(self) -> None:
        log_probs, log_mu = relabel(self.master, self.behaviour, math.inf)
        assert log_mu.tolist() == [[2.0, -3.0], [0.0, 0.5]]
        assert log_probs.tolist() == self.behaviour.tolist()

    def test_a_cap_touches_only_what_is_above_it(self) -> None:
        log_probs, log_mu = relabel(self.master, self.behaviour, math.e)
        torch.testing.assert_close(log_mu, torch.tensor([[1.0, -3.0], [0.0, 0.5]]))
        # the capped sample's behaviour log-probability rises from -3 to -1 - 1
        torch.testing.assert_close(log_probs, torch.tensor([[-2.0, -1.0], [-2.0, -1.5]]))
        torch.testing.assert_close(self.master - log_probs, log_mu)

    def test_mu_never_overflows(self) -> None:
        log_probs, log_mu = relabel(torch.tensor([0.0]), torch.tensor([-500.0]), math.inf)
        assert log_mu.tolist() == [LOG_RATIO_MAX]
        assert torch.isfinite(log_mu.exp()).all()
        assert log_probs.tolist() == [-LOG_RATIO_MAX]


class TestEffectiveSampleFraction:
    def test_equal_weights_all_count(self) -> None:
        torch.testing.assert_close(effective_sample_fraction(torch.full((2, 4), -3.0)), torch.tensor(1.0))

    def test_by_hand(self) -> None:
        # weights 1, 1, 2: (1 + 1 + 2)^2 / (3 * (1 + 1 + 4)) = 16 / 18
        log_mu = torch.tensor([0.0, 0.0, math.log(2.0)])
        torch.testing.assert_close(effective_sample_fraction(log_mu), torch.tensor(16 / 18))

    def test_one_giant_counts_alone(self) -> None:
        log_mu = torch.tensor([40.0, 0.0, 0.0, 0.0])
        torch.testing.assert_close(effective_sample_fraction(log_mu), torch.tensor(0.25))

    def test_scale_does_not_matter(self) -> None:
        log_mu = torch.tensor([[0.3, -1.0], [2.0, 0.1]])
        shifted = effective_sample_fraction(log_mu - 300.0)
        torch.testing.assert_close(shifted, effective_sample_fraction(log_mu), rtol=1e-4, atol=0)


class TestEffectiveSampleFractions:
    agents = torch.tensor([1, 3, 1, 3, 3])
    log_mu = torch.tensor([0.0, 5.0, math.log(3.0), 5.0, 5.0])

    def test_of_each_agent_by_hand(self) -> None:
        # agent 1: weights 1 and 3, (1 + 3)^2 / (2 (1 + 9)); agent 3: three alike; nobody else has any
        fractions = effective_sample_fractions(log_weight_sums(self.log_mu, self.agents, 4)[None])
        assert fractions.tolist() == pytest.approx([math.nan, 0.8, math.nan, 1.0], nan_ok=True)

    def test_the_sums_themselves(self) -> None:
        sums = log_weight_sums(self.log_mu, self.agents, 4).exp()
        assert sums[:, 1].tolist() == pytest.approx([4.0, 10.0, 2.0])
        assert sums[:, 3].tolist() == pytest.approx([3 * math.exp(5), 3 * math.exp(10), 3.0])
        assert sums[:, [0, 2]].abs().max() == 0

    def test_parts_add_up(self) -> None:
        parts = [log_weight_sums(self.log_mu[part], self.agents[part], 4) for part in (slice(2), slice(2, None))]
        whole = log_weight_sums(self.log_mu, self.agents, 4)
        torch.testing.assert_close(
            effective_sample_fractions(torch.stack(parts)), effective_sample_fractions(whole[None]), equal_nan=True
        )

    @pytest.mark.parametrize("shift", [-3000.0, 3000.0])
    def test_scale_does_not_matter(self, shift: float) -> None:
        shifted = effective_sample_fractions(log_weight_sums(self.log_mu.double() + shift, self.agents, 4)[None])
        assert shifted[[1, 3]].tolist() == pytest.approx([0.8, 1.0])
