"""Every packaged configuration of a rival trains, goes on, is evaluated, and stands in one report with the others."""

import json
from pathlib import Path

import pytest

from tests.support.command_line import Cli, Rows

TASKS = {
    "wall maze": ("WallMaze", (), "--data.env.init_args.max_steps=3"),
    "pendulum": ("Pendulum-v1", (), "--data.env.init_args.env_args.max_episode_steps=3"),
    "kuka": ("AllegroKuka/single_arm_regrasp", ("regrasp_cube",), "--data.env.init_args.threads=1"),
}
"""By task its name, what the configurations lie over, and what makes it small."""
RIVALS = {
    "wall maze": {"PPO": "ppo", "SAPG": "sapg", "CPO": "cpo", "SAC": "sac_wall_maze", "PQL": "pql_wall_maze"},
    "pendulum": {"PPO": "ppo_pendulum", "SAPG": "sapg_pendulum", "CPO": "cpo_pendulum", "SAC": "sac", "PQL": "pql"},
    "kuka": {"PPO": "ppo_kuka", "SAPG": "sapg_kuka", "CPO": "cpo_kuka", "SAC": "sac_kuka", "PQL": "pql_kuka"},
}
"""By task and method the packaged configuration."""
SMALL = (
    "--data.num_envs=32",
    "--data.eval_envs=4",
    "--data.eval_episodes=4",
    "--trainer.accelerator=cpu",
    "--trainer.enable_progress_bar=false",
)
ON_POLICY = ("--model.rollout.horizon=4", "--model.rollout.num_epochs=1", "--model.rollout.minibatch_size=null")
OFF_POLICY = (
    *("--model.replay.capacity_per_env=20", "--model.replay.batch_size=8", "--model.replay.warmup=1"),
    *("--model.replay.horizon=4", "--model.optimizer.updates_per_step=2"),
)


@pytest.mark.parametrize("task", RIVALS)
def test_every_rival_trains_goes_on_is_evaluated_and_is_compared(cli: Cli, rows: Rows, task: str) -> None:
    name, under, short = TASKS[task]
    for method, config in RIVALS[task].items():
        small = OFF_POLICY if method in ("SAC", "PQL") else ON_POLICY
        configs = [word for each in (*under, config) for word in ("--config", each)]
        command = ("fit", *configs, *SMALL, *small, short, "--run_dir", f"runs/{method}", "--resume")
        for iterations in (1, 3):
            fit = cli(*command, f"--trainer.max_epochs={iterations}")
            assert fit.code == 0, fit.err
            assert len(rows(Path("runs", method))) == iterations
        validate = cli("validate", "--ckpt_path", f"runs/{method}")
        assert validate.code == 0, validate.err
        assert name in validate.out
    if task != "kuka":  # whose episodes take hundreds of steps: a report has nothing to draw yet
        assert cli("report", "runs").code == 0
        (found,) = json.loads(Path("report/report.json").read_text())["tasks"]
        assert name in found["task"]
        assert len(found["methods"]) == len(RIVALS[task])
