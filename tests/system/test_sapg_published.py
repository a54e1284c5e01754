"""The overlay `sapg_published` holds the constants of SAPG's released code, over whatever lies under it."""

import pytest
import torch

from epo_lightning.algorithm.losses import entropy_coefficients
from epo_lightning.algorithm.population import Population
from tests.support.command_line import Cli
from tests.support.resolved import at, resolved

README, LAUNCHER, LOSSES, TASK = (
    "README.md",
    "scripts/train_allegro_kuka.sh",
    "common_losses.py",
    "AllegroKukaLSTMPPO.yaml",
)
PUBLISHED: dict[str, tuple[object, str]] = {
    "model.num_agents": (6, README),  # --num-expl-coef-blocks=6
    "data.num_envs": (24576, README),
    "model.network.gene_dim": (32, "a learned embedding per block"),
    "model.network.lstm_units": (768, TASK),
    "model.network.hidden": ([768, 512, 256], TASK),
    "model.network.log_std_init": (0.0, TASK),
    "model.loss.clip_eps": (0.1, TASK),
    "model.loss.value_clip_eps": (0.1, TASK),
    "model.loss.value_coefficient": (4.0, TASK),
    "model.loss.bound_coefficient": (1e-4, TASK),
    "model.loss.off_policy_clip": ("unit", LOSSES),
    "model.loss.off_policy_weight": (1.0, LOSSES),
    "model.loss.dual_clip": (None, LOSSES),
    "model.loss.entropy_floor": (0.0, LOSSES),
    "model.optimizer.learning_rate": (1e-4, TASK),
    "model.optimizer.learning_rate_min": (1e-6, "rl_games' adaptive scheduler"),
    "model.optimizer.learning_rate_max": (1e-2, "rl_games' adaptive scheduler"),
    "model.optimizer.target_kl": (0.016, TASK),
    "model.optimizer.max_grad_norm": (1.0, TASK),
    "model.rollout.horizon": (16, TASK),
    "model.rollout.num_epochs": (2, TASK),
    "model.rollout.num_minibatches": (4, LAUNCHER),  # of 4 x environments samples
    "model.rollout.gamma": (0.99, TASK),
    "model.rollout.gae_lambda": (0.95, TASK),
    "model.rollout.estimator": ("gae", TASK),
    "model.rollout.reward_scale": (0.01, TASK),
    "model.rollout.off_policy_ratio": (1.0, LAUNCHER),
    "model.rollout.off_policy_source": ("one_agent", "use_others_experience=lf"),
    "model.rollout.mu_cap": (float("inf"), LOSSES),
}
"""By key: value, and where it stands in the released code (commit e96efae)."""
ENTROPY = {"single_arm_reorient": 0.005, "two_arm": 0.002, "single_arm_regrasp": 0.0, "single_arm_throw": 0.0}
"""Of `--ir-coef-scale` in the commands of the released README; `--ir-type=none` is 0."""


@pytest.mark.parametrize("task", list(ENTROPY))
def test_every_constant_is_the_published_one(task: str, capsys: pytest.CaptureFixture[str]) -> None:
    config = resolved(capsys, "--config", task, "--config", "sapg_published")
    found = {key: at(config, key) for key in PUBLISHED}
    assert found == {key: value for key, (value, _) in PUBLISHED.items()}
    assert at(config, "model.loss.entropy_scale") == ENTROPY[task]
    assert [each["class_path"].rpartition(".")[2] for each in config["trainer"]["callbacks"]] == ["NaNGuard"]
    assert Population(6, 24576).envs_per_agent == 4096


def test_the_published_ladder_of_entropy() -> None:
    # half the scale for the first follower, in equal steps to 0 for the leader
    wanted = torch.tensor([0.0, 0.0025, 0.0020, 0.0015, 0.0010, 0.0005])
    torch.testing.assert_close(entropy_coefficients(6, 0.005), wanted)


def test_ours_is_another_one(capsys: pytest.CaptureFixture[str]) -> None:
    ours = resolved(capsys, "--config", "sapg")
    differs = {
        "model.num_agents": 16,
        "model.loss.off_policy_clip": "centered",
        "model.rollout.off_policy_source": "all",
    }
    assert {key: at(ours, key) for key in differs} == differs
    assert at(ours, "model.rollout.mu_cap") == 1.0


def test_it_trains_over_a_task_of_any_kind(cli: Cli) -> None:
    small = ("--data.num_envs", 12, "--model.rollout.horizon", 4, "--run_dir", "run")
    outcome = cli("fit", "--config", "tiny.yaml", "--config", "sapg_published", *small)
    assert outcome.code == 0, outcome.err
    assert "SAPG: 6 agents" in outcome.out + outcome.err
