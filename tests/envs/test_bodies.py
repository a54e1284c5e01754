"""The tasks with bodies: scenes against the published ones, rewards, ends and starts by hand, resuming to the bit."""

import itertools
import math
import os
from collections.abc import Callable
from pathlib import Path

import mujoco
import numpy as np
import pytest
import torch

from epo_lightning.envs.base import StepResult
from epo_lightning.envs.bodies import AntTrap, BallInCup, BodyEnv, KukaReach
from epo_lightning.envs.bodies import ant as ant_scene
from epo_lightning.envs.bodies.ball_in_cup import build_scene, gap_to_cup
from epo_lightning.envs.check import check_env

CPU = torch.device("cpu")
TASKS = [AntTrap, BallInCup, KukaReach]
Task = Callable[..., BodyEnv]
STAND = [0.0, 0.0, 0.75, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, -1.0, 0.0, -1.0, 0.0, 1.0]


def place(env: BodyEnv, *positions: list[float], clock: int = 0) -> None:
    """Put the environment at rest into these positions, (N, Q)."""
    env.reset()
    position = torch.tensor(positions)
    env.worlds.reset(torch.arange(len(position)), position, torch.zeros(len(position), env.worlds.velocity.shape[1]))
    state = env.state_dict()
    env.load_state_dict(state | {"clock": torch.full((len(position),), clock)})


def random_actions(env: BodyEnv, steps: int) -> torch.Tensor:
    shape = (steps, env.spec.num_envs, env.spec.act_dim)
    return torch.rand(shape, generator=torch.Generator().manual_seed(0)) * 2.0 - 1.0


# What all share


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("num_envs", [1, 5])
def test_every_task_keeps_the_contract(task: Task, num_envs: int) -> None:
    env = task(num_envs, CPU, 0, max_steps=30)
    check_env(env)
    env.close()


@pytest.mark.parametrize("task", TASKS)
def test_another_instance_resumes_to_the_bit_whatever_its_threads(task: Task) -> None:
    env, other = task(4, CPU, 0, max_steps=9, threads=1), task(4, CPU, 99, max_steps=9, threads=2)
    env.reset()
    actions = random_actions(env, 30)
    for row in actions[:14]:
        env.step(row)
    other.load_state_dict(env.state_dict())
    for row in actions[14:]:
        a, b = env.step(row), other.step(row)
        for name in ("obs", "reward", "terminated", "truncated", "successes", "final_obs"):
            assert torch.equal(getattr(a, name), getattr(b, name)), name


@pytest.mark.parametrize("task", TASKS)
def test_an_episode_that_begins_late_is_only_shorter(task: Task) -> None:
    late, whole = task(4, CPU, 0, max_steps=8), task(4, CPU, 0, max_steps=8)
    assert torch.equal(late.reset_late(torch.tensor([0.0, 0.25, 0.5, 0.95])), whole.reset())
    a, b = late.step(torch.zeros(4, late.spec.act_dim)), whole.step(torch.zeros(4, whole.spec.act_dim))
    assert torch.equal(a.reward, b.reward)
    assert a.truncated.tolist() == [False, False, False, True]
    assert a.final_obs is not None
    assert torch.equal(a.final_obs[:3], a.obs[:3])
    assert not torch.equal(a.final_obs[3], a.obs[3])


@pytest.mark.parametrize("task", TASKS)
def test_a_simulation_that_blows_up_ends_its_episode_alone(task: Task) -> None:
    env = task(2, CPU, 0)
    env.reset()
    env.worlds.velocity[1] = 1e7
    result = env.step(torch.zeros(2, env.spec.act_dim))
    assert result.terminated.tolist() == [False, True]
    assert result.reward[1].item() == result.successes[1].item() == 0.0
    assert result.obs.isfinite().all()
    assert not env.step(torch.zeros(2, env.spec.act_dim)).terminated.any()


@pytest.mark.parametrize("task", TASKS)
def test_a_mistake_is_one_line(task: Task) -> None:
    for arguments, key in (({"max_steps": 0}, "max_steps"), ({"threads": 0}, "threads")):
        with pytest.raises(ValueError, match=rf"^data\.env\.init_args\.{key} must be at least 1[^\n]+$"):
            task(1, CPU, 0, **arguments)
    with pytest.raises(ValueError, match=r"^data\.num_envs must be at least 1, got 0$"):
        task(0, CPU, 0)
    env = task(2, CPU, 0)
    with pytest.raises(RuntimeError, match="reset"):
        env.step(torch.zeros(2, env.spec.act_dim))
    env.reset()
    with pytest.raises(ValueError, match=r"data\.num_envs"):
        task(3, CPU, 0).load_state_dict(env.state_dict())
    with pytest.raises(ValueError, match="belongs to another"):
        env.load_state_dict(env.state_dict() | {"task": "another"})
    with pytest.raises(ValueError, match="a saved state has"):
        env.load_state_dict({})


# Ball in a cup


def test_the_cup_is_driven_by_motors_springs_and_dampers() -> None:
    model = build_scene()
    cup = model.body("cup").mass[0]
    env = BallInCup(1, CPU, 0)
    place(env, [0.0, 0.0, 0.0, 0.05])  # the ball hangs on a slack string; at 0.3 m it would be taut at z = -0.008
    env.step(torch.tensor([[1.0, 0.0]]))
    # along x, before the string is taut: m x'' = 5 - 3 x' - 20 x for 0.02 s from rest, in steps of 0.002 s
    x = v = 0.0
    for _ in range(10):
        v += 0.002 * (5.0 - 3.0 * v - 20.0 * x) / (cup + 0.002 * 3.0)
        x += 0.002 * v
    assert env.worlds.position[0, 0].item() == pytest.approx(x, rel=1e-3)


def test_the_string_holds_the_ball() -> None:
    env = BallInCup(1, CPU, 0)
    place(env, [0.0, 0.0, 0.1, 0.2])
    for _ in range(150):
        env.step(torch.zeros(1, 2))
    _, z, ball_x, ball_z = env.worlds.position[0].tolist()
    knot, ball = 0.6 + z - 0.108, 0.2 + ball_z
    assert math.hypot(ball_x, knot - ball) == pytest.approx(0.3, abs=0.01)


def test_the_ball_counts_where_all_of_it_is_in_the_cup() -> None:
    env = BallInCup(4, CPU, 0, max_steps=1000)
    # the middle of the target lies 0.05 below the mouth at 0.6, the ball's joint at 0.2
    place(env, [0, 0, 0, 0.35], [0, 0, 0, 0.38], [0.1, 0.05, 0.1, 0.4], [0, 0, 0.03, 0.35], clock=999)
    env.worlds.velocity[:, 3] = 0.098  # thrown up a little: back at the same place after 0.02 s
    result = env.step(torch.zeros(4, 2))
    assert result.reward.tolist() == [1.0, 0.0, 1.0, 0.0]
    assert result.successes.tolist() == [1.0, 0.0, 1.0, 0.0]
    assert result.truncated.all()


def test_the_ball_starts_where_it_touches_nothing() -> None:
    env = BallInCup(512, CPU, 0)
    obs = env.reset()
    assert not obs[:, [0, 1, 4, 5, 6, 7]].any()
    x, z = obs[:, 2], obs[:, 3]
    assert (x.abs() <= 0.2).all()
    assert ((z >= 0.2) & (z <= 0.5)).all()
    model, data = build_scene(), mujoco.MjData(build_scene())
    touching = 0
    for ball_x, ball_z in itertools.product(np.linspace(-0.09, 0.09, 19), np.linspace(0.25, 0.45, 21)):
        data.qpos[:] = [0, 0, ball_x, ball_z]
        mujoco.mj_forward(model, data)
        gap = gap_to_cup(torch.tensor([ball_x]), torch.tensor([ball_z - 0.4])).item()
        if abs(gap) > 1e-6:
            assert (data.ncon > 0) == (gap < 0), (ball_x, ball_z)
        touching += data.ncon > 0
    assert touching > 50
    assert (gap_to_cup(x, z - 0.4) > 0).all()


# AntTrap


@pytest.fixture(scope="module")
def published() -> mujoco.MjModel:
    """The ant that Gymnasium ships, with the integrator that our scene has."""
    gymnasium = pytest.importorskip("gymnasium")
    path = Path(os.path.dirname(gymnasium.__file__)) / "envs/mujoco/assets/ant.xml"
    model = mujoco.MjModel.from_xml_path(str(path))
    model.opt.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    return model


def test_the_ant_moves_as_the_published_one(published: mujoco.MjModel) -> None:
    theirs, env = mujoco.MjData(published), AntTrap(1, CPU, 0, threads=1)
    place(env, STAND)
    theirs.qpos[:] = STAND
    order = [6, 7, 0, 1, 2, 3, 4, 5]  # their motors begin with the fourth leg
    for row in random_actions(env, 20):
        assert not env.step(0.4 * row).terminated.any()
        theirs.ctrl[:] = (0.4 * row)[0, order].double().numpy()
        mujoco.mj_step(published, theirs, nstep=5)
        assert env.worlds.position[0].numpy() == pytest.approx(theirs.qpos, abs=1e-6)
        assert env.worlds.velocity[0].numpy() == pytest.approx(theirs.qvel, abs=1e-5)


def test_the_ant_is_paid_for_going_forward_and_pays_for_its_torques() -> None:
    env = AntTrap(2, CPU, 0)
    place(env, STAND, STAND)
    actions = torch.stack((torch.zeros(8), torch.full((8,), 0.5)))
    result = env.step(actions)
    forward = env.worlds.position[:, 0].float() / 0.05
    torch.testing.assert_close(result.reward, forward + 1.0 - torch.tensor([0.0, 0.5 * 8 * 0.25]), atol=1e-5, rtol=0.0)
    assert torch.as_tensor(result.log["x"]).tolist() == pytest.approx(env.worlds.position[:, 0].tolist(), abs=1e-6)
    torch.testing.assert_close(result.obs[:, 0], (env.worlds.position[:, 0].float() - 15.0) / 15.0)


def test_an_ant_that_jumps_ends_its_episode() -> None:
    env = AntTrap(3, CPU, 0)
    high, low = [*STAND], [*STAND]
    high[2] = 1.3
    place(env, STAND, high, low)
    result = env.step(torch.zeros(3, 8))
    assert result.terminated.tolist() == [False, True, False]
    assert not result.truncated.any()
    forward = torch.as_tensor(result.log["forward"])
    torch.testing.assert_close(result.reward - forward, torch.tensor([1.0, 0.0, 1.0]), atol=1e-5, rtol=0.0)
    env.worlds.position[2, 2] = 0.19
    assert env._judge(env.worlds.position.float(), torch.zeros(3, 8), torch.zeros(3)).terminated.tolist()[2]


def test_to_get_past_the_trap_counts_once() -> None:
    env = AntTrap(3, CPU, 0)

    def at(x: float, y: float) -> list[float]:
        return [x, y, *STAND[2:]]

    place(env, at(12.9, 4.0), at(13.1, 4.0), at(13.1, 0.0))
    results: list[StepResult] = [env.step(torch.zeros(3, 8)) for _ in range(3)]
    assert [result.successes.tolist() for result in results] == [[0.0, 1.0, 1.0], [0.0] * 3, [0.0] * 3]


def test_the_trap_stands_where_it_is_said_to_and_is_shut() -> None:
    model = ant_scene.build_scene(12.0, 0.01, 0.75)
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)

    def seen(eye: list[float], direction: list[float]) -> float:
        hit = np.zeros(1, dtype=np.int32)
        way = np.array(direction, dtype=float)
        return float(mujoco.mj_ray(model, data, np.array(eye), way, None, 1, -1, hit, None))

    assert seen([5.0, 0.0, 0.5], [1, 0, 0]) == pytest.approx(6.5, abs=0.02)  # the back wall's face at 11.5
    assert seen([9.0, 0.0, 0.5], [0, 1, 0]) == pytest.approx(2.5, abs=0.02)  # a side wall's
    assert seen([9.0, 0.0, 0.5], [0, -1, 0]) == pytest.approx(2.5, abs=0.02)
    assert seen([5.0, 3.0, 0.5], [1, 0, 0]) == pytest.approx(1.5, abs=0.02)  # where a side wall begins
    assert seen([20.0, 3.0, 0.5], [-1, 0, 0]) == pytest.approx(7.5, abs=0.02)  # and ends
    assert seen([5.0, 3.7, 0.5], [1, 0, 0]) == -1.0  # the way past it
    assert seen([10.0, 2.2, 0.5], [1, 0, 0]) == pytest.approx(1.5, abs=0.1)  # no gap in the corner


def test_walls_stop_the_ant() -> None:
    env = AntTrap(1, CPU, 0)
    place(env, [10.5, 0.0, *STAND[2:]])
    env.worlds.velocity[0, 0] = 8.0
    for _ in range(10):
        env.step(torch.zeros(1, 8))
    assert 10.0 < env.worlds.position[0, 0].item() < 11.6


def test_a_trap_on_the_start_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^data\.env\.init_args\.trap must be at least 2, got 1\.0$"):
        AntTrap(1, CPU, 0, trap=1.0)
