"""A master with more environments than a follower."""

from pathlib import Path
from typing import Any

import pytest
import torch

from epo_lightning.algorithm.losses import LossSettings
from epo_lightning.algorithm.population import Population
from epo_lightning.experience.episodes import QUANTITIES
from epo_lightning.experience.fitness import FitnessWindow
from epo_lightning.experience.settings import RolloutSettings
from epo_lightning.learner.networks import NetworkSettings
from epo_lightning.modules.epo import EPOModule
from tests.support.command_line import Cli
from tests.support.scripted import NETWORKS, both_networks, make_dataset, make_policy, recomputed
from tests.support.training import evolution, small_data, train

DEALT = [0, 0, 0, 0, 1, 2]
CPU = torch.device("cpu")


@both_networks
def test_everybody_acts_where_it_is_dealt_and_the_ratio_is_one(network: str) -> None:
    policy = make_policy(3, **NETWORKS[network])
    dataset = make_dataset(policy=policy, master_share=0.67, off_policy_ratio=0.5)
    for _ in range(2):
        dataset.collect()
    assert dataset.agent_ids.tolist() == DEALT
    assert dataset.buffer.column_agents.tolist() == [*DEALT, 0, 0]
    for batch in dataset.one_pass():
        log_probs, _ = recomputed(dataset, batch)
        torch.testing.assert_close(log_probs - batch.log_probs, batch.log_mu, rtol=0, atol=2e-5)
    assert dataset.of_agents["kl_to_master"].isnan().tolist() == [True, False, False]
    assert dataset.of_agents["entropy"].isfinite().all()


def test_fitness_is_the_mean_over_an_agents_own() -> None:
    window = FitnessWindow(Population(3, 7, 0.75), CPU)
    running = torch.zeros(len(QUANTITIES), 7)
    window.open(running, 0)
    running[QUANTITIES.index("return")] = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0])
    running[QUANTITIES.index("length")] = 1
    assert window.measure(running)[QUANTITIES.index("return")].tolist() == [3.0, 6.0, 7.0]


def module(**rollout: Any) -> EPOModule:
    network, loss = NetworkSettings(gene_dim=3, hidden=(8,)), LossSettings(coupling_coefficient=0.01)
    settings = RolloutSettings(horizon=4, num_epochs=1, num_minibatches=2, coupling_followers=2, **rollout)
    return EPOModule(4, network, loss, rollout=settings)


def test_an_equal_share_trains_as_none_does(tmp_path: Path) -> None:
    plain, shared = module(), module(master_share=0.25)
    for each in (plain, shared):
        torch.manual_seed(0)
        train(each, small_data(), tmp_path, 3, evolution())
    for name, value in plain.policy.state_dict().items():
        assert torch.equal(value, shared.policy.state_dict()[name]), name


def test_a_run_begins_tells_and_goes_on(cli: Cli, caplog: pytest.LogCaptureFixture) -> None:
    share = "--model.rollout.master_share"
    assert cli("fit", "--config", "tiny.yaml", share, 0.5, "--run_dir", "run").code == 0
    assert "16 envs on 1 rank(s), 7 envs for the master, 3 per follower and rank" in caplog.text
    resumed = cli("fit", "--ckpt_path", "run", "--trainer.max_epochs", 4)
    assert resumed.code == 0
    refused = cli("fit", "--ckpt_path", "run", share, 0.25)
    assert refused.code == 2
    assert "model.rollout.master_share 0.5 -> 0.25 cannot change on resume" in refused.err
    for wrong, why in ((1.0, "leaves the followers no environment"), (0.0, "must be greater than 0")):
        outcome = cli("fit", "--config", "tiny.yaml", share, wrong, "--run_dir", "another")
        assert outcome.code == 2
        assert why in outcome.err
