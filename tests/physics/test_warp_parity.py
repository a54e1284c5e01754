"""MuJoCo Warp on the CPU against MuJoCo itself, and every task with it through the command line.

`slow` tests also compile the kernels of two-armed scenes, which takes a minute on a machine that has not done it yet.
"""

import math
from pathlib import Path

import pytest
import torch
import yaml

from benchmarks.gpu_check.parity import Apart, apart, pair
from epo_lightning.envs.allegro_kuka import AllegroKuka
from epo_lightning.envs.allegro_kuka.cards import CARDS
from epo_lightning.envs.check import check_env
from epo_lightning.physics.base import PhysicsState
from tests.support.command_line import Cli, Rows
from tests.support.sameness import assert_same, final_state

pytest.importorskip("mujoco_warp")
CPU = torch.device("cpu")
DEVICES = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
SLOW = [task for task in CARDS if task != "single_arm_regrasp"]
TASKS = ["single_arm_regrasp", *(pytest.param(task, marks=pytest.mark.slow) for task in SLOW)]


@pytest.mark.parametrize("task", TASKS)
def test_joints_and_objects_move_as_in_mujoco(task: str) -> None:
    found = apart(task, CPU)
    assert found.contacts > 3
    assert found.moved > 0.1
    assert found.too_large() == []
    assert found.errors.keys() == set(PhysicsState._fields)


def test_what_is_too_far_apart_is_named() -> None:
    errors = {"joint_pos": 1.1e-5, "object_pos": 0.9e-5, "joint_vel": 0.9e-3, "wrist": 1.1e-3, "tip_pos": math.nan}
    assert Apart(errors, 4.0, 0.2).too_large() == ["joint_pos", "wrist", "tip_pos"]


@pytest.mark.parametrize("task", TASKS)
def test_observation_reward_and_ends_are_those_of_mujoco(task: str) -> None:
    ours, theirs = pair(task, CPU, 64, tolerance=0.6, objects="cube")
    ours.physics.masked = False  # a mask draws for all environments, and others then get other goals
    assert torch.allclose(ours.reset(), theirs.reset(), atol=1e-5)
    off, late = torch.arange(0, 64, 8), torch.arange(1, 64, 8)
    nowhere = (torch.tensor([[1.5, 1.5, 0.4]]).expand(8, 3), torch.tensor([[0.0, 0.0, 0.0, 1.0]]).expand(8, 4))
    for env in (ours, theirs):
        env.physics.place_object(off, *nowhere)  # beside the table: it falls
        env.rules.memory.progress[late] = env.rules.card.budget - 8  # the time is nearly up, and the goal out of reach
        env.rules.memory.goal_keypoints[late] += 100
        env.rules.memory.near_steps.fill_(env.rules.card.hold_steps - 3)  # a success is near, for those near the goal
    moves = torch.Generator().manual_seed(1)
    terminated = truncated = successes = 0
    for _ in range(20):
        actions = 0.2 * (2 * torch.rand(64, ours.spec.act_dim, generator=moves) - 1)
        a, b = ours.step(actions), theirs.step(actions)
        for name in ("terminated", "truncated", "successes"):
            assert torch.equal(getattr(a, name), getattr(b, name)), name
        # a hair's breadth decides whether things touch within this step: a few values may be off
        for name, tolerance in (("obs", 1e-2), ("reward", 1e-2)):
            far = ~torch.isclose(getattr(a, name), getattr(b, name), atol=tolerance, rtol=tolerance)
            assert far.float().mean() < 1e-3, name
        terminated, truncated = terminated + int(a.terminated.sum()), truncated + int(a.truncated.sum())
        successes += int(a.successes.sum())
    assert terminated >= 8
    assert truncated >= 8
    assert successes > 0


@pytest.mark.parametrize("task", TASKS)
def test_every_task_steps(task: str) -> None:
    env = AllegroKuka(4, CPU, 0, task=task, physics="warp")
    env.reset()
    for _ in range(30):
        result = env.step(2 * torch.rand(4, env.spec.act_dim) - 1)
        assert result.obs.isfinite().all()
        assert result.log["physics_resets"] == 0
    env.close()


@pytest.mark.gpu
@pytest.mark.parametrize("device", DEVICES)
def test_keeps_the_contract(device: str) -> None:
    check_env(AllegroKuka(4, torch.device(device), 0, task="single_arm_regrasp", physics="warp"), steps=60)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
@pytest.mark.parametrize("task", TASKS)
def test_a_gpu_does_what_the_cpu_does(task: str) -> None:
    cpu, gpu = (AllegroKuka(64, torch.device(d), 0, task=task, physics="warp") for d in ("cpu", "cuda"))
    cpu.reset()
    for _ in range(50):
        cpu.physics.step(cpu.rules.memory.targets)
    gpu.physics.load_state_dict(cpu.physics.state_dict())
    for _ in range(5):
        for env in (cpu, gpu):
            env.physics.step(cpu.rules.memory.targets.to(env.rules.device))
    for name, ours, theirs in zip(cpu.physics.state._fields, gpu.physics.state, cpu.physics.state, strict=True):
        assert ours.is_cuda, name
        assert torch.allclose(ours.cpu(), theirs, atol=1e-3), name
    gpu.reset()
    actions = torch.zeros(64, gpu.spec.act_dim, device="cuda")
    gpu.rules.memory.progress[::2] = gpu.rules.card.budget
    result = gpu.step(actions)
    assert result.truncated.tolist() == [True, False] * 32
    assert result.obs.isfinite().all()


def test_the_switch_is_checked(cli: Cli) -> None:
    args = ("fit", "--config=tiny.yaml", "--data.env=epo_lightning.envs.allegro_kuka.AllegroKuka")
    mistakes = {
        ("physics=newton",): "physics must be one of mujoco, warp; got 'newton'",
        ("physics=warp", "threads=2"): "threads must be null with data.env.init_args.physics warp; got 2",
        ("contacts_per_world=9",): "contacts_per_world must be null with data.env.init_args.physics mujoco; got 9",
        ("physics=warp", "constraints_per_world=0"): "constraints_per_world must be at least 1; got 0",
    }
    for flags, line in mistakes.items():
        outcome = cli(*args, *(f"--data.env.init_args.{flag}" for flag in flags))
        assert outcome.code == 2
        assert outcome.err == f"error: data.env.init_args.{line}\n"


def test_a_saved_state_belongs_to_its_engine() -> None:
    ours, theirs = pair("single_arm_regrasp", CPU, 2)
    with pytest.raises(ValueError, match=r"data\.env\.init_args\.physics must be mujoco, .*; got warp"):
        ours.load_state_dict(theirs.state_dict())
    with pytest.raises(ValueError, match=r"data\.env\.init_args\.physics must be warp, .*; got mujoco"):
        theirs.load_state_dict(ours.state_dict())


def write_case() -> None:
    """`case.yaml`: the tiny run on Warp."""
    env = {
        "class_path": "epo_lightning.envs.allegro_kuka.AllegroKuka",
        "init_args": {"task": "single_arm_regrasp", "objects": "cube", "physics": "warp"},
    }
    Path("case.yaml").write_text(yaml.safe_dump({"data": {"env": env}}))


def test_four_iterations_are_two_and_two(cli: Cli, rows: Rows) -> None:
    write_case()
    command = ("fit", "--config", "tiny.yaml", "--config", "case.yaml", "--checkpoint.every_n_iterations", 1)
    assert cli(*command, "--run_dir", "whole", "--trainer.max_epochs", 4).code == 0
    assert cli(*command, "--run_dir", "parts", "--trainer.max_epochs", 2).code == 0
    torch.manual_seed(99)  # whatever the new process starts with
    assert cli("fit", "--ckpt_path", "parts", "--trainer.max_epochs", 4).code == 0
    assert_same(final_state("whole"), final_state("parts"))
    assert rows(Path("whole")) == rows(Path("parts"))


@pytest.mark.slow
def test_a_laptops_training_is_tested_and_filmed(cli: Cli, rows: Rows) -> None:
    warp = ("--data.env.init_args.physics", "warp", "--data.num_envs", 64)
    fit = cli(
        *("fit", "--config", "single_arm_regrasp", "--config", "laptop", *warp, "--trainer.max_epochs", 2),
        *("--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false", "--run_dir", "run"),
    )
    assert fit.code == 0, fit.err
    values = rows(Path("run"))
    assert [row["env/physics_resets"] for row in values] == ["0.0", "0.0"]
    assert all(math.isfinite(float(row["losses/total"])) for row in values)
    test = cli("test", "--ckpt_path", "run", "--data.eval_episodes=4", "--data.eval_envs=4", "--data.eval_seeds=1")
    assert test.code == 0, test.err
    play = cli("play", "--ckpt_path", "run", "--agents=0,1", "--seconds=0.2", "--out", "film.mp4")
    if any(words in play.err for words in ("this machine cannot draw", "videos need an extra")):
        pytest.skip(f"no film: {play.err.splitlines()[-1]}")
    assert play.code == 0, play.err
    assert Path("film.mp4").read_bytes()[4:8] == b"ftyp"
