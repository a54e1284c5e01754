"""Where the released code of EPO differs from the paper or is wrong: what this project does, pinned by name.

One test for each row of the table in `docs/differences.md`.
"""

from pathlib import Path
from typing import Any, Literal

import lightning as L
import pytest
import torch
from torch import Tensor

from epo_lightning.algorithm.aggregation import OffPolicySource, off_policy_envs, relabel, sample_followers
from epo_lightning.algorithm.batch import RolloutBatch
from epo_lightning.algorithm.crossover import Average
from epo_lightning.algorithm.distributions import Gaussian
from epo_lightning.algorithm.genetics import Inheritance, Offspring, evolve
from epo_lightning.algorithm.losses import LossSettings, hybrid_loss
from epo_lightning.algorithm.population import MASTER, Population
from epo_lightning.envs.base import StepResult
from epo_lightning.experience.episodes import QUANTITIES
from epo_lightning.experience.settings import RolloutSettings
from epo_lightning.modules.epo import EPOModule
from tests.support.agent_reward import AgentReward
from tests.support.training import evolution, small_data, small_module, train

RETURN = QUANTITIES.index("return")


class Recorder(L.Callback):
    """Keeps a copy of the genes at the end of every iteration; stands behind the evolution in the list."""

    def __init__(self) -> None:
        self.genes: list[Tensor] = []

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, EPOModule)
        self.genes.append(pl_module.policy.genes.detach().clone())


class TestFitness:
    """Released: 64 slices of the master's environments, so that followers never enter."""

    def test_fitness_is_the_return_of_each_agents_own_episodes(self, tmp_path: Path) -> None:
        module, data = small_module(num_agents=4), small_data(16, AgentReward)
        train(module, data, tmp_path, 3)
        # an episode pays twice the agent's number
        means = module.dataset.fitness.measure(module.dataset.ledger.running)
        assert means[RETURN].tolist() == [0.0, 2.0, 4.0, 6.0]

    def test_episodes_begun_before_a_generation_count_for_nobody(self, tmp_path: Path) -> None:
        class Lower(AgentReward):
            """The first three steps pay 100 more."""

            def step(self, actions: Tensor) -> StepResult:
                result = super().step(actions)
                return result._replace(reward=result.reward + (100.0 if self.clock <= 3 else 0.0))

        module, data = small_module(num_agents=4, rollout={"horizon": 3}), small_data(16, Lower)
        callback = evolution(every_n_env_steps=48, num_offspring=1)
        # 48 env steps an iteration: the generation at the end of the first finds every environment, those of the elites
        # too, in the middle of an episode of which one step paid 100 more
        train(module, data, tmp_path, 2, callback)
        assert [record["fitness"] for record in callback.lineage.records] == [[200, 202, 204, 206], [0, 2, 4, 6]]


class TestReplacement:
    """Released: the single worst becomes the mean of the best two, without noise."""

    genes = torch.arange(12.0).view(6, 2)
    fitness = torch.tensor([9.0, 1.0, 5.0, 2.0, 4.0, 3.0])

    def offspring(self, **changes: Any) -> Offspring:
        rules = {"genes": Inheritance(Average(), changes.pop("mutation_sigma", 0.1))}
        settings: dict[str, Any] = {
            "num_elites": 2,
            "num_offspring": None,
            "generator": torch.Generator().manual_seed(0),
        }
        return evolve({"genes": self.genes}, self.fitness, rules, **(settings | changes))

    def test_every_follower_that_is_no_elite_is_replaced_and_mutated(self) -> None:
        offspring = self.offspring()
        assert sorted(offspring.children.tolist()) == [1, 3, 5]  # elites 2 and 4 stay
        parents = self.genes[offspring.parents]
        assert torch.all((offspring.genome["genes"] - parents.mean(1)).abs() > 1e-4)

    def test_one_offspring_without_noise_is_a_mean_of_two_in_place_of_the_worst(self) -> None:
        offspring = self.offspring(num_offspring=1, mutation_sigma=0.0)
        assert offspring.children.tolist() == [1]
        torch.testing.assert_close(offspring.genome["genes"], self.genes[offspring.parents].mean(1))


class TestTrigger:
    """Released: a fixed period. Paper: the spread of fitness. Here both must be met."""

    def generations(self, tmp_path: Path, **changes: Any) -> int:
        callback = evolution(**changes)
        train(small_module(num_agents=4), small_data(16, AgentReward), tmp_path, 4, callback)
        return len(callback.lineage.records)

    def test_period_alone(self, tmp_path: Path) -> None:
        assert self.generations(tmp_path) == 4  # 64 env steps an iteration

    def test_no_generation_before_the_warm_up(self, tmp_path: Path) -> None:
        assert self.generations(tmp_path, warmup_env_steps=192) == 2

    def test_no_generation_while_followers_are_alike(self, tmp_path: Path) -> None:
        # fitness 2, 4, 6: spread 4, median 4
        assert self.generations(tmp_path, spread_threshold=0.99) == 4
        assert self.generations(tmp_path, spread_threshold=1.0) == 0


class TestGenesAfterAGeneration:
    """Released: the Parameter is rebound, Adam keeps the old tensor, genes are never trained again."""

    def test_genes_are_still_trained_after_a_generation(self, tmp_path: Path) -> None:
        module, recorder = small_module(num_agents=4), Recorder()
        # one generation, after the first iteration of 64 env steps
        trainer = train(module, small_data(16), tmp_path, 4, evolution(every_n_env_steps=64 * 3), recorder)
        assert module.policy.genes is trainer.optimizers[0].param_groups[0]["params"][0]
        assert all(torch.all(recorder.genes[3][agent] != recorder.genes[2][agent]) for agent in range(4))

    def test_adam_forgets_the_replaced_rows_only(self, tmp_path: Path) -> None:
        module, callback = small_module(num_agents=4), evolution(every_n_env_steps=64 * 2)
        trainer = train(module, small_data(16, AgentReward), tmp_path, 2, callback)
        children = callback.lineage.records[0]["children"]
        survivors = [agent for agent in range(4) if agent not in children]
        state = trainer.optimizers[0].state
        assert sorted(children) == [1, 2]
        for parameter in (module.policy.genes, module.policy.log_std):
            for moment in ("exp_avg", "exp_avg_sq"):
                rows = state[parameter][moment]
                assert torch.all(rows[children] == 0)
                assert torch.all(rows[survivors].abs().sum(1) > 0)


class TestMaster:
    """Released: selection ranks all agents, so that the master can be overwritten."""

    def test_the_worst_master_is_never_replaced(self, tmp_path: Path) -> None:
        callback = evolution()  # AgentReward pays the master nothing
        train(small_module(num_agents=4), small_data(16, AgentReward), tmp_path, 5, callback)
        assert len(callback.lineage.records) == 5
        assert all(MASTER not in record["children"] for record in callback.lineage.records)
        assert all(MASTER not in pair for record in callback.lineage.records for pair in record["parents"])


class TestOffPolicyData:
    """Released: the block of one random follower. Paper: the whole population."""

    population = Population(num_agents=8, num_envs=32)

    def sampled_agents(self, source: OffPolicySource) -> set[int]:
        generator = torch.Generator().manual_seed(0)
        _, envs = sample_followers(self.population, 4 * 16, 16, source, generator)
        return set((envs // 4).tolist())

    def test_the_masters_extra_data_come_from_every_follower(self) -> None:
        assert RolloutSettings().off_policy_source == "all"
        assert self.sampled_agents("all") == {1, 2, 3, 4, 5, 6, 7}

    def test_one_agent_takes_exactly_one_followers_block(self) -> None:
        assert len(self.sampled_agents("one_agent")) == 1
        generator = torch.Generator().manual_seed(0)
        step, env = sample_followers(self.population, 4 * 16, 16, "one_agent", generator)
        assert len({*zip(step.tolist(), env.tolist(), strict=True)}) == 64
        with pytest.raises(ValueError, match="off_policy_ratio must be at most 1"):
            off_policy_envs(self.population, 2.0, "one_agent")


class TestOffPolicyClip:
    """Released: the clip stays around 1. Paper: it is centred on mu."""

    def test_the_clip_is_centred_on_mu_by_default(self) -> None:
        assert LossSettings().off_policy_clip == "centered"
        # a sample the master finds four times likelier still teaches it: d loss / d mean = -r A (a - mean) / sigma^2
        assert self.slope("centered") == pytest.approx(-4.0)

    def test_unit_clip_is_the_released_variant(self) -> None:
        assert self.slope("unit") == 0.0

    @staticmethod
    def slope(off_policy_clip: Literal["centered", "unit"]) -> float:
        """By the mean, of one off-policy sample with r = mu = 4, A = 1 and an action one sigma above the mean."""
        mean, zero = torch.zeros(1, 1, requires_grad=True), torch.zeros(1)
        policy, action = Gaussian(mean, torch.zeros(1, 1)), torch.ones(1, 1)
        log_mu = torch.tensor([4.0]).log()
        batch = RolloutBatch(
            obs=torch.zeros(1, 1), actions=action, agent_ids=torch.tensor([MASTER]),
            log_probs=policy.log_prob(action).detach() - log_mu, log_mu=log_mu, values=zero, targets=zero,
            advantages=torch.ones(1), off_policy=torch.ones(1, dtype=torch.bool), states=torch.zeros(0, 1, 0),
            resets=torch.zeros(1, dtype=torch.bool),
        )  # fmt: skip
        hybrid_loss(policy, zero, batch, LossSettings(off_policy_clip=off_policy_clip), zero).total.backward()
        assert mean.grad is not None
        return mean.grad.item()

    def test_mu_is_the_ratio_before_the_first_update(self) -> None:
        relabelled = relabel(torch.tensor([-1.0]), torch.tensor([-3.0]), float("inf"))
        assert relabelled.log_mu.tolist() == [2.0]
        assert relabelled.log_probs.tolist() == [-3.0]
        capped = relabel(torch.tensor([-1.0]), torch.tensor([-3.0]), 1.0)
        assert capped.log_mu.tolist() == [0.0]
        assert capped.log_probs.tolist() == [-1.0]


class TestCriticTarget:
    """Released: GAE(0.95). Paper: three-step returns. Both are here."""

    @pytest.mark.parametrize("estimator", ["gae", "n_step"])
    def test_both_estimators_train(self, tmp_path: Path, estimator: str) -> None:
        module, data = small_module(rollout={"estimator": estimator}), small_data()
        train(module, data, tmp_path, 2)
        assert module.metrics["charts/env_steps"] == 128

    def test_they_differ(self, tmp_path: Path) -> None:
        targets = []
        for estimator in ("gae", "n_step"):
            module, data = small_module(rollout={"estimator": estimator}), small_data()
            train(module, data, tmp_path, 1)
            targets.append(module.dataset.buffer.targets[:, :16].clone())
        assert not torch.allclose(targets[0], targets[1])
