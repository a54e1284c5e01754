"""`paper`, `released` and `ours`: constants of EPO's paper, of its released code, and of what measured best here."""

from typing import Any

import pytest

from tests.support.command_line import Cli
from tests.support.resolved import at, resolved

BOTH: dict[str, object] = {
    "model.num_agents": 64,
    "model.network.gene_dim": 32,
    "model.network.log_std_init": 0.0,
    "model.loss.clip_eps": 0.1,
    "model.loss.value_clip_eps": 0.1,
    "model.loss.value_coefficient": 4.0,
    "model.loss.bound_coefficient": 1e-4,
    "model.loss.off_policy_weight": 1.0,
    "model.loss.dual_clip": None,
    "model.loss.entropy_floor": 0.0,
    "model.loss.coupling_coefficient": 0.0,
    "model.optimizer.learning_rate": 1e-4,
    "model.optimizer.learning_rate_min": 1e-6,
    "model.optimizer.learning_rate_max": 1e-2,
    "model.optimizer.target_kl": 0.016,
    "model.optimizer.max_grad_norm": 1.0,
    "model.optimizer.gene_rate": 1.0,
    "model.rollout.horizon": 16,
    "model.rollout.gamma": 0.99,
    "model.rollout.off_policy_ratio": 1.0,
    "model.rollout.mu_cap": float("inf"),
    "model.rollout.noise_correlation": 0.0,
    "model.rollout.correlated_share": 1.0,
    "model.rollout.master_share": None,
    "model.initial.fan_in": "joint",
    "model.initial.gene_gain": 1.0,
    "model.initial.action_gain": 1.0,
}
"""What paper and code do not tell differently."""
PAPER: dict[str, object] = {
    "model.loss.off_policy_clip": "centered",  # eq. 4
    "model.rollout.estimator": "n_step",  # eq. 6
    "model.rollout.n_step": 3,
    "model.rollout.off_policy_source": "all",  # section 4.2
}
RELEASED: dict[str, object] = {
    "model.loss.off_policy_clip": "unit",
    "model.rollout.estimator": "gae",
    "model.rollout.gae_lambda": 0.95,
    "model.rollout.off_policy_source": "one_agent",
}
TIMES = {
    "every_n_env_steps": 20_000_000, "warmup_env_steps": 200_000_000, "crossover": "average", "crossover_points": 2,
    "episodes_per_env": 1, "adoption_margin": None, "seed": None,
}  # fmt: skip
GENERATION: dict[str, dict[str, object]] = {
    "paper": TIMES | {"num_elites": 8, "num_offspring": None, "spread_threshold": 0.1, "mutation_sigma": 0.1},
    "released": TIMES | {"num_elites": 2, "num_offspring": 1, "spread_threshold": 0.0, "mutation_sigma": 0.0},
}


def callbacks(config: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Arguments of the callbacks by the name of their class."""
    return {each["class_path"].rpartition(".")[2]: each.get("init_args", {}) for each in config["trainer"]["callbacks"]}


@pytest.mark.parametrize("under", ["two_arm", "wall_maze", "two_goals_far", "quickstart"])
@pytest.mark.parametrize(("name", "own"), [("paper", PAPER), ("released", RELEASED)])
def test_every_constant_is_as_told(
    under: str, name: str, own: dict[str, object], capsys: pytest.CaptureFixture[str]
) -> None:
    config = resolved(capsys, "--config", under, "--config", name)
    assert {key: at(config, key) for key in BOTH | own} == BOTH | own
    found = callbacks(config)
    assert found.keys() == {"GeneticEvolution", "NaNGuard"}
    assert found["GeneticEvolution"] == GENERATION[name]


@pytest.mark.parametrize("under", ["wall_maze", "pendulum", "paper"])
def test_what_measured_best_here(under: str, capsys: pytest.CaptureFixture[str]) -> None:
    below = ["--config", "two_arm"] if under == "paper" else []
    config = resolved(capsys, *below, "--config", under, "--config", "ours")
    wanted = {"fan_in": "own", "gene_gain": 2.0, "action_gain": 4.0}
    assert config["model"]["initial"] == wanted
    assert config["model"]["optimizer"]["gene_rate"] == 0.25
    rollout = config["model"]["rollout"]
    assert (rollout["noise_correlation"], rollout["correlated_share"]) == (0.8, 0.5)
    assert (rollout["master_share"], rollout["mu_cap"]) == (0.25, 1.0)
    assert config["model"]["loss"]["off_policy_clip"] == "centered"
    evolution = callbacks(config)["GeneticEvolution"]
    assert (evolution["num_offspring"], evolution["adoption_margin"]) == (1, 0.2)


TASKS = (
    "pendulum_swingup", "cartpole_swingup", "mountain_car", "ball_in_cup", "two_goals", "two_goals_far",
    "wall_maze_medium", "wall_maze_hard", "point_maze",
)  # fmt: skip


@pytest.mark.parametrize("task", TASKS)
def test_tasks_that_tell_methods_apart_are_ours_and_beside_it_tuned_ppo(
    task: str, capsys: pytest.CaptureFixture[str]
) -> None:
    own, under = (resolved(capsys, *words) for words in (["--config", task], ["--config", task, "--config", "ours"]))
    assert own["model"] == under["model"]
    generations = [callbacks(config)["GeneticEvolution"] for config in (own, under)]
    assert generations[0] == generations[1] | {"every_n_env_steps": 64 * own["data"]["num_envs"]}
    model = resolved(capsys, "--config", f"ppo_{task}")["model"]
    assert (model["num_agents"], model["initial"]["action_gain"], model["loss"]["entropy_floor"]) == (1, 4.0, 0.1)
    assert (model["rollout"]["noise_correlation"], model["rollout"]["correlated_share"]) == (0.8, 0.5)


ROBOTS = (
    "two_arm", "two_arm_hole", "single_arm_regrasp", "single_arm_throw", "two_arm_isaacgym", "regrasp_cube",
    "two_arm_reach",
)  # fmt: skip


@pytest.mark.parametrize("under", ROBOTS)
def test_robots_have_our_defaults(under: str, capsys: pytest.CaptureFixture[str]) -> None:
    config = resolved(capsys, "--config", under)
    rollout, loss = config["model"]["rollout"], config["model"]["loss"]
    assert rollout["master_share"] == 0.25
    clip = ("unit", None, float("inf")) if under == "two_arm_reach" else ("centered", 3.0, 1.0)
    assert (loss["off_policy_clip"], loss["dual_clip"], rollout["mu_cap"]) == clip
    evolution = callbacks(config)["GeneticEvolution"]
    assert (evolution["num_offspring"], evolution["adoption_margin"]) == (1, 0.2)


@pytest.mark.parametrize("overlay", ["sapg_kuka", "cpo_kuka"])
def test_on_robots_sapg_and_cpo_have_the_clip_of_their_authors(
    overlay: str, capsys: pytest.CaptureFixture[str]
) -> None:
    model = resolved(capsys, "--config", "regrasp_cube", "--config", overlay)["model"]
    clip = (model["loss"]["off_policy_clip"], model["loss"]["dual_clip"], model["rollout"]["mu_cap"])
    assert clip == ("unit", None, float("inf"))


def test_they_train_over_a_task_of_any_kind(cli: Cli) -> None:
    for name in ("paper", "released", "ours"):
        small = ("--data.num_envs", 64, "--model.rollout.horizon", 4, "--run_dir", name)
        outcome = cli("fit", "--config", "tiny.yaml", "--config", name, *small)
        assert outcome.code == 0, outcome.err
        assert f"EPO: {4 if name == 'ours' else 64} agents" in outcome.out + outcome.err
