"""A resumed run is the run that was never interrupted: to the bit, through the real command line."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from epo_lightning.run.checkpoint import read_checkpoint
from tests.support.command_line import ENDLESS, Cli, Rows, wait_for_rows
from tests.support.sameness import assert_same, final_state

PROBE = {"class_path": "epo_lightning.envs.classic.Probe", "init_args": {"max_steps": 3}}
MAZE = {"class_path": "epo_lightning.envs.classic.WallMaze"}
KUKA = {"class_path": "epo_lightning.envs.allegro_kuka.AllegroKuka", "init_args": {"objects": "sticks", "threads": 1}}
EVOLUTION = {
    "class_path": "epo_lightning.callbacks.GeneticEvolution",
    "init_args": {"every_n_env_steps": 64, "warmup_env_steps": 64, "num_elites": 1, "spread_threshold": 0.0},
}
CASES = {
    "mlp": ({}, PROBE, []),
    "lstm": ({"lstm_units": 6}, PROBE, []),
    "separate critic": ({"separate_critic": True}, MAZE, []),
    "evolution": ({}, PROBE, [EVOLUTION]),
    "lstm and evolution": ({"lstm_units": 6}, PROBE, [EVOLUTION]),
    "coupled": ({}, PROBE, []),
    "lstm, coupled, evolution": ({"lstm_units": 6}, PROBE, [EVOLUTION]),
    "diverse": ({}, PROBE, []),
    "lstm, coupled, diverse, evolution": ({"lstm_units": 6}, PROBE, [EVOLUTION]),
    "mujoco": ({}, KUKA, []),
    "mujoco, lstm": ({"lstm_units": 6}, KUKA, []),
}


def write_case(name: str) -> None:
    network, env, callbacks = CASES[name]
    loss = {"coupling_coefficient": 0.01} if "coupled" in name else {}
    diversity = {"coefficient": 0.1, "hidden": [5]} if "diverse" in name else {}
    model = {"network": network, "loss": loss, "rollout": {"coupling_followers": 1}, "diversity": diversity}
    overlay = {"model": model, "data": {"env": env}, "trainer": {"callbacks": callbacks}}
    Path("case.yaml").write_text(yaml.safe_dump(overlay))


@pytest.mark.parametrize("name", CASES)
def test_four_iterations_are_two_and_two(cli: Cli, rows: Rows, name: str) -> None:
    write_case(name)
    command = ("fit", "--config", "tiny.yaml", "--config", "case.yaml", "--checkpoint.every_n_iterations", 1)
    assert cli(*command, "--run_dir", "whole", "--trainer.max_epochs", 4).code == 0
    assert cli(*command, "--run_dir", "parts", "--trainer.max_epochs", 2).code == 0
    torch.manual_seed(99)  # whatever the new process starts with
    outcome = cli("fit", "--ckpt_path", "parts", "--trainer.max_epochs", 4)
    assert outcome.code == 0
    assert "iteration 3/4" in outcome.out
    assert "iteration 2/4" not in outcome.out
    assert_same(final_state("whole"), final_state("parts"))
    assert len(rows(Path("whole"))) == 4
    assert rows(Path("whole")) == rows(Path("parts"))
    assert ("losses/coupling_loss" in rows(Path("whole"))[0]) == ("coupled" in name)
    assert ("losses/diversity_bonus" in rows(Path("whole"))[0]) == ("diverse" in name)
    assert ("diversity" in final_state("whole")["ranks"][0]) == ("diverse" in name)
    lineage = Path("whole/lineage.jsonl")
    assert lineage.exists() == ("evolution" in name)
    if lineage.exists():
        assert lineage.read_text() == Path("parts/lineage.jsonl").read_text()


def test_the_state_is_complete(cli: Cli) -> None:
    assert cli("fit", "--config", "tiny.yaml", "--run_dir", "run").code == 0
    state = final_state("run")
    (rank,) = state["ranks"]
    assert {
        "env",
        "obs",
        "state",
        "ledger",
        "generator",
        "env_steps",
        "torch_rng",
        "curriculum",
        "reward_scale",
    } <= rank.keys()
    assert state["optimizer_states"][0]["state"][0].keys() == {"step", "exp_avg", "exp_avg_sq"}
    assert {"policy.genes", "policy.log_std", "policy.obs_moments.mean"} <= state["state_dict"].keys()
    assert isinstance(state["optimizer_states"][0]["param_groups"][0]["lr"], torch.Tensor)


def test_resuming_an_older_checkpoint_rewinds_the_folder(cli: Cli, rows: Rows) -> None:
    assert cli("fit", "--config", "tiny.yaml", "--run_dir", "run").code == 0
    older = Path("run/checkpoints/older.ckpt")
    older.write_bytes(Path("run/checkpoints/last.ckpt").read_bytes())
    assert cli("fit", "--ckpt_path", "run", "--trainer.max_epochs", 5).code == 0
    whole = rows(Path("run"))
    assert cli("fit", "--ckpt_path", older, "--trainer.max_epochs", 4).code == 0
    assert rows(Path("run")) == whole[:4]


def test_a_checkpoint_can_go_on_in_another_folder(cli: Cli, rows: Rows) -> None:
    assert cli("fit", "--config", "tiny.yaml", "--run_dir", "a").code == 0
    before = Path("a/metrics.csv").read_text()
    assert cli("fit", "--ckpt_path", "a", "--run_dir", "b", "--trainer.max_epochs", 3).code == 0
    assert Path("a/metrics.csv").read_text() == before
    assert [row["charts/iteration"] for row in rows(Path("b"))] == ["3"]
    assert Path("b/config.yaml").exists()


def test_on_another_processor_the_run_goes_on_to_the_same_curve(cli: Cli, rows: Rows) -> None:
    assert cli("fit", "--config", "tiny.yaml", "--run_dir", "whole", "--trainer.max_epochs", 4).code == 0
    assert cli("fit", "--config", "tiny.yaml", "--run_dir", "part").code == 0
    command = [sys.executable, "-m", "epo_lightning", "fit", "--ckpt_path", "part", "--trainer.max_epochs", "4"]
    elsewhere = {**os.environ, "ATEN_CPU_CAPABILITY": "default", "MKL_CBWR": "COMPATIBLE", "OMP_NUM_THREADS": "2"}
    done = subprocess.run(command, env=elsewhere, timeout=200, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    here, there = (
        [[float(value) for value in row.values() if value] for row in rows(Path(folder))]
        for folder in ("whole", "part")
    )
    assert here[:2] == there[:2]
    for one, other in zip(here[2:], there[2:], strict=True):  # last bits, and what two iterations make of them
        assert one == pytest.approx(other, rel=1e-3, abs=1e-4)


def test_a_finished_run_says_so(cli: Cli) -> None:
    assert cli("fit", "--config", "tiny.yaml", "--run_dir", "run").code == 0
    before = Path("run/metrics.csv").read_text()
    assert "Nothing to do" in cli("fit", "--ckpt_path", "last", "--run_dir", "run").out
    assert Path("run/metrics.csv").read_text() == before


@pytest.mark.skipif(os.name != "posix", reason="signals")
@pytest.mark.usefixtures("cli")
def test_interrupted_runs_can_be_resumed(rows: Rows) -> None:
    """Ctrl-C and a scheduler's signals finish the iteration and save it; kill -9 keeps what was saved before.

    (A terminal that closes sends SIGHUP: tests/run/test_interruption.py.)
    """
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGKILL)
    command = [sys.executable, "-u", "-m", "epo_lightning", "fit", "--config", "tiny.yaml", *ENDLESS]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    processes = {
        number: subprocess.Popen(
            [*command, "--run_dir", number.name],
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for number in signals
    }
    try:
        for number, process in processes.items():
            wait_for_rows(Path(number.name) / "metrics.csv", 7, process)
            process.send_signal(number)
        ends = {
            number: (*process.communicate(timeout=200), process.returncode) for number, process in processes.items()
        }
    finally:
        for process in processes.values():
            process.kill()
    for number in signals:
        folder, (out, err, code) = Path(number.name), ends[number]
        assert "Traceback" not in err
        checkpoint = read_checkpoint(folder / "checkpoints/last.ckpt")
        saved = checkpoint["epoch"] + 1
        if number is signal.SIGKILL:
            assert code == -number
            # every second iteration is saved, and each that is the best so far
            assert saved % 2 == 0 or saved == checkpoint["callbacks"]["RunCheckpoints"]["best_iteration"]
        else:
            assert code == 128 + number
            assert saved == len(rows(folder))
            assert f"Continue:  python -m epo_lightning fit --ckpt_path {folder}/checkpoints/last.ckpt\n" in out
        # another process of the same kind: to the bit means under the same number of threads
        again = [*command[:5], "--ckpt_path", str(folder), "--trainer.max_epochs", str(saved + 3)]
        assert subprocess.run(again, env=environment, timeout=200, check=False, capture_output=True).returncode == 0
        assert [int(row["charts/iteration"]) for row in rows(folder)] == list(range(1, saved + 4))
    shortest = min(len(rows(Path(number.name))) for number in signals)
    killed = rows(Path("SIGKILL"))[:shortest]
    assert all(rows(Path(number.name))[:shortest] == killed for number in signals)


def on_two_ranks(*args: str) -> str:
    """`fit` as two processes; returns what they print."""
    command = [sys.executable, "-m", "epo_lightning", "fit", *args, "--trainer.devices", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    result = subprocess.run(command, capture_output=True, text=True, timeout=200, env=environment)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_two_ranks_share_one_run_folder(cli: Cli, rows: Rows) -> None:
    assert "2 rank(s) x 16 envs = 32 envs" in on_two_ranks("--config", "tiny.yaml")
    (folder,) = Path("runs/tiny").iterdir()
    assert [row["charts/env_steps"] for row in rows(folder)] == ["128", "256"]
    outcome = cli("fit", "--ckpt_path", folder, "--trainer.devices", 1, "--trainer.max_epochs", 3)
    assert outcome.code == 0, outcome.err
    assert [row["charts/env_steps"] for row in rows(folder)] == ["128", "256", "320"]


@pytest.mark.usefixtures("cli")
def test_every_rank_resumes_its_own_environments(rows: Rows) -> None:
    write_case("lstm and evolution")
    command = ("--config", "tiny.yaml", "--config", "case.yaml", "--checkpoint.every_n_iterations", "1")
    on_two_ranks(*command, "--run_dir", "whole", "--trainer.max_epochs", "4")
    on_two_ranks(*command, "--run_dir", "parts", "--trainer.max_epochs", "2")
    on_two_ranks("--ckpt_path", "parts", "--trainer.max_epochs", "4")
    whole = final_state("whole")
    first, second = whole["ranks"]
    assert not torch.equal(first["obs"], second["obs"])
    assert_same(whole, final_state("parts"))
    assert rows(Path("whole")) == rows(Path("parts"))


def test_environments_are_saved_once(cli: Cli) -> None:
    assert cli("fit", "--config", "tiny.yaml", "--run_dir", "run").code == 0
    assert "combined_loader" not in final_state("run")["loops"]["fit_loop"]["state_dict"]
