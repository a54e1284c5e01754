"""The recipes of `docs/many_ranks.md`, by launchers on this machine that play two: SLURM's, and torchrun itself."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from epo_lightning.run.checkpoint import read_checkpoint
from tests.support.command_line import Rows
from tests.support.sockets import free_port

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "many_ranks.md").read_text()
SRUN = """#!{python}
# two tasks on two nodes; the time of the first job is over when the run is a few iterations old
import os, pathlib, signal, subprocess, sys, time
assert sys.argv[1] == "--kill-on-bad-exit=1"
words = sys.argv[2:]
table = pathlib.Path(words[words.index("--run_dir") + 1], "metrics.csv")
rows = lambda: len(table.read_text().splitlines()) - 1 if table.exists() else 0
done = rows()
words += ["--trainer.max_epochs", str(done + 2 if done else 100_000)]
places = [{{"SLURM_PROCID": rank, "SLURM_NODEID": rank, "SLURM_LOCALID": "0"}} for rank in "01"]
tasks = [subprocess.Popen(words, env=os.environ | place) for place in places]
while not done and rows() < 3 and all(task.poll() is None for task in tasks):
    time.sleep(0.05)
for task in tasks if not done else ():
    task.send_signal(signal.SIGUSR1)
sys.exit(max(task.wait() for task in tasks))
"""
SCONTROL = """#!/bin/sh
echo "$@" >> requeued
"""


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Of a job on two nodes with a task each, with stand-ins for SLURM's commands."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, text in (("srun", SRUN.format(python=sys.executable)), ("scontrol", SCONTROL)):
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    return {
        **os.environ,
        "PATH": os.pathsep.join([str(programs), str(Path(sys.executable).parent), os.environ["PATH"]]),
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
        "OMP_NUM_THREADS": "1",
        "MASTER_PORT": str(free_port()),
    }


@pytest.mark.usefixtures("cli")
def test_a_slurm_job_saves_when_its_time_is_over_and_goes_on_when_it_is_requeued(
    environment: dict[str, str], rows: Rows
) -> None:
    (script,) = re.findall(r"```bash\n(#!/bin/bash\n.*?)```", PAGE, re.DOTALL)
    assert "#SBATCH --signal=USR1@120\n" in script
    assert "#SBATCH --requeue\n" in script
    Path("job.sh").write_text(script.replace("--config two_arm", "--config tiny.yaml"))
    job = {
        "SLURM_JOB_ID": "4711", "SLURM_JOB_NAME": "epo", "SLURM_NNODES": "2", "SLURM_NTASKS": "2",
        "SLURM_NTASKS_PER_NODE": "1", "SLURM_NODELIST": "localhost",
    }  # fmt: skip
    folder = Path("runs/two_arm_4711")

    def run() -> subprocess.CompletedProcess[str]:
        words = ["bash", "job.sh"]
        return subprocess.run(words, env=environment | job, capture_output=True, text=True, timeout=200, check=False)

    first = run()
    assert first.returncode == 138, first.stderr
    assert "2 rank(s) x 16 envs = 32 envs" in first.stdout
    assert Path("requeued").read_text() == "requeue 4711\n"
    saved = read_checkpoint(folder / "checkpoints/last.ckpt")["epoch"] + 1
    assert saved == len(rows(folder)) >= 3
    second = run()
    assert second.returncode == 0, second.stderr
    assert Path("requeued").read_text() == "requeue 4711\n"  # not again
    assert [int(row["charts/iteration"]) for row in rows(folder)] == list(range(1, saved + 3))
    assert "Traceback" not in first.stderr + second.stderr


@pytest.mark.usefixtures("cli")
def test_torchrun_on_two_nodes(environment: dict[str, str], rows: Rows) -> None:
    end = f"127.0.0.1:{free_port()}"
    command = [
        sys.executable, "-m", "torch.distributed.run", "--nnodes=2", "--nproc_per_node=1", "--rdzv_backend=c10d",
        f"--rdzv_endpoint={end}", "--local_addr=127.0.0.1", "-m", "epo_lightning", "fit", "--config", "tiny.yaml",
        "--trainer.num_nodes=2", "--trainer.devices=1", "--run_dir=run",
    ]  # fmt: skip
    nodes = [
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    try:
        ended = [node.communicate(timeout=200) for node in nodes]
    finally:
        for node in nodes:
            node.kill()
    assert [node.returncode for node in nodes] == [0, 0], ended[0][1] + ended[1][1]
    assert sum("2 rank(s) x 16 envs = 32 envs" in out for out, _ in ended) == 1
    assert [row["charts/env_steps"] for row in rows(Path("run"))] == ["128", "256"]
