"""Every packaged configuration of a rival trains, goes on, is evaluated, and stands in one report with the others.

In `make nightly` those of the robot are killed and go on to the bit.
"""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.command_line import Cli, Rows, wait_for_rows
from tests.support.sameness import assert_same, final_state

TASKS = {
    "wall maze": ("WallMaze", (), "--data.env.init_args.max_steps=3"),
    "pendulum": ("Pendulum-v1", (), "--data.env.init_args.env_args.max_episode_steps=3"),
    "kuka": ("AllegroKuka/single_arm_regrasp", ("regrasp_cube",), "--data.env.init_args.threads=1"),
}
"""By task its name, what the configurations lie over, and what makes it small."""
RIVALS = {
    "wall maze": {
        "PPO": "ppo",
        "SAPG": "sapg",
        "CPO": "cpo",
        "SAC": "sac_wall_maze",
        "PQL": "pql_wall_maze",
        "PBT": "pbt",
        "CEM-RL": "cem_wall_maze",
    },
    "pendulum": {
        "PPO": "ppo_pendulum",
        "SAPG": "sapg_pendulum",
        "CPO": "cpo_pendulum",
        "SAC": "sac",
        "PQL": "pql",
        "PBT": "pbt_pendulum",
        "CEM-RL": "cem_rl",
    },
    "kuka": {
        "PPO": "ppo_kuka",
        "SAPG": "sapg_kuka",
        "CPO": "cpo_kuka",
        "SAC": "sac_kuka",
        "PQL": "pql_kuka",
        "PBT": "pbt_kuka",
        "CEM-RL": "cem_kuka",
    },
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
REPLAY = ("--model.replay.capacity_per_env=20", "--model.replay.batch_size=8", "--model.replay.warmup=1")
OFF_POLICY = (*REPLAY, "--model.replay.horizon=4", "--model.optimizer.updates_per_step=2")
GENERATIONS = (*REPLAY, "--model.generation.horizon=4", "--model.generation.max_steps=4", "--data.num_envs=33")
BY_METHOD = {"SAC": OFF_POLICY, "PQL": OFF_POLICY, "CEM-RL": GENERATIONS}
"""What makes a method small that is not on-policy."""


def command(task: str, method: str) -> list[str]:
    """`fit` of a rival, small."""
    _, under, short = TASKS[task]
    small = BY_METHOD.get(method, ON_POLICY)
    configs = [word for each in (*under, RIVALS[task][method]) for word in ("--config", each)]
    return ["fit", *configs, *SMALL, *small, short]


@pytest.mark.filterwarnings("ignore:a generation ends after")  # the robot's episodes take hundreds of steps
@pytest.mark.parametrize("task", RIVALS)
def test_every_rival_trains_goes_on_is_evaluated_and_is_compared(cli: Cli, rows: Rows, task: str) -> None:
    name, *_ = TASKS[task]
    for method in RIVALS[task]:
        for iterations in (1, 3):
            fit = cli(
                *command(task, method), "--run_dir", f"runs/{method}", "--resume", f"--trainer.max_epochs={iterations}"
            )
            assert fit.code == 0, fit.err
            assert len(rows(Path("runs", method))) == iterations
        validate = cli("validate", "--ckpt_path", f"runs/{method}")
        assert validate.code == 0, validate.err
        assert name in validate.out
    if task != "kuka":  # of which no episode is over yet: a report has nothing to draw
        assert cli("report", "runs").code == 0
        (found,) = json.loads(Path("report/report.json").read_text())["tasks"]
        assert name in found["task"]
        assert len(found["methods"]) == len(RIVALS[task])


@pytest.mark.slow
@pytest.mark.usefixtures("cli")
@pytest.mark.skipif(os.name != "posix", reason="signals")
@pytest.mark.parametrize("method", RIVALS["kuka"])
def test_a_rival_on_the_robot_outlives_kill_9_to_the_bit(rows: Rows, method: str) -> None:
    """Killed after its third iteration, of which the second was saved, and begun by the same command again."""
    line = [sys.executable, "-u", "-m", "epo_lightning", *command("kuka", method), "--checkpoint.every_n_iterations=2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    whole = [*line, "--trainer.max_epochs=8", "--run_dir=whole"]
    subprocess.run(whole, env=environment, timeout=500, check=True, capture_output=True)
    killed = [*line, "--trainer.max_epochs=8", "--run_dir=killed", "--resume"]
    with subprocess.Popen(
        killed, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        wait_for_rows(Path("killed/metrics.csv"), 3, process)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert not Path("killed/summary.json").exists()
    subprocess.run(killed, env=environment, timeout=500, check=True, capture_output=True)
    assert len(rows(Path("killed"))) == 8
    assert rows(Path("killed")) == rows(Path("whole"))
    assert_same(final_state("whole"), final_state("killed"))
