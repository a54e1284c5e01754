"""The master takes over a clearly better follower: when, what it becomes, and whose episodes are told of it.

An iteration is 64 env steps: 4 agents with 4 environments, 4 steps.
"""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from epo_lightning.envs.base import StepResult
from epo_lightning.modules.epo import EPOModule
from tests.support.agent_reward import AgentReward
from tests.support.gene_witness import Witness
from tests.support.training import Recorder, evolution, fit, small_data, small_module, train


class OfThreeSteps(AgentReward):
    """Episodes have three steps, so that they run on over the end of an iteration."""

    def step(self, actions: Tensor) -> StepResult:
        result = super().step(actions)
        return result._replace(terminated=torch.full_like(result.terminated, self.clock % 3 == 0))


class TestAdoption:
    """Agent k returns 2 k: the best follower, 3, is 6 ahead of the master, all of its own fitness."""

    def adopt(self, folder: Path, **settings: Any) -> tuple[Any, Tensor, Tensor, EPOModule]:
        before, after, callback = Witness(), Witness(), evolution(mutation_sigma=0.0, **settings)
        module = small_module()
        train(module, small_data(16, AgentReward), folder, 1, before, callback, after)
        return callback, before.genes[0], after.genes[0], module

    def test_the_master_becomes_the_best_follower(self, tmp_path: Path) -> None:
        callback, old, new, module = self.adopt(tmp_path, adoption_margin=0.9)
        assert torch.equal(new[0], old[3])
        assert torch.equal(module.policy.log_std[0], module.policy.log_std[3])
        assert callback.adoptions == module.metrics["population/adoptions"] == 1
        assert int(module.dataset.individuals[0]) > 3  # another individual
        assert callback.state_dict()["adoptions"] == 1

    @pytest.mark.parametrize(
        "settings",
        [{}, {"adoption_margin": 1.0}, {"adoption_margin": 0.5, "warmup_env_steps": 65}],
        ids=["never", "not clearly better", "warm-up"],
    )
    def test_it_stays_what_it_is(self, tmp_path: Path, settings: dict[str, Any]) -> None:
        callback, old, new, module = self.adopt(tmp_path, **settings)
        assert torch.equal(new[0], old[0])
        assert callback.adoptions == 0
        assert ("population/adoptions" in module.metrics) is ("adoption_margin" in settings)

    def test_without_a_generation_too(self, tmp_path: Path) -> None:
        callback, old, new, _ = self.adopt(tmp_path, adoption_margin=0.5, spread_threshold=1e9)
        assert not callback.lineage.records
        assert torch.equal(new[0], old[3])
        assert torch.equal(new[1:], old[1:])

    def test_fitness_is_measured_anew(self, tmp_path: Path) -> None:
        _, _, _, module = self.adopt(tmp_path, adoption_margin=0.5, spread_threshold=1e9)
        assert module.dataset.fitness.opened_at == module.dataset.env_steps

    def test_episodes_told_of_an_agent_are_of_who_it_is_now(self, tmp_path: Path) -> None:
        """Iterations of four steps, episodes of three, master and children are replaced after the second iteration."""
        replaced, rows = evolution(every_n_env_steps=128, adoption_margin=0.5, num_elites=1), Recorder()
        data = small_data(16, OfThreeSteps)
        fit(small_module(), data, tmp_path, 3, logger=rows, callbacks=[replaced])
        told = [metrics for metrics, _ in rows.calls]
        assert replaced.adoptions == 1
        returns = [[row.get(f"agents/return/{k}") for k in range(4)] for row in told]
        # The master is follower 3 now, whose last episode returned 9; 1 and 2 are new. Step 9 ends the episodes that
        # others began, and step 12, in the same iteration, whole ones.
        assert returns == [[0.0, 3.0, 6.0, 9.0], [9.0, None, None, 9.0], [0.0, 3.0, 6.0, 9.0]]
        assert [row["charts/episodic_return"] for row in told] == [0.0, 9.0, 0.0]
        assert [row["charts/episodic_coverage"] for row in told] == [1.0, 1.0, 1.0]
        assert [row["population/return_mean"] for row in told] == [4.5, 9.0, 4.5]

    def test_a_negative_margin_is_refused(self) -> None:
        with pytest.raises(ValueError, match=r"GeneticEvolution\.adoption_margin must be at least 0, got -0\.1"):
            evolution(adoption_margin=-0.1)
