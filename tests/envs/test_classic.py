"""The classic tasks: dynamics computed by hand, episode ends, resets, determinism and resuming."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from epo_lightning.envs.check import check_env
from epo_lightning.envs.classic import (
    CartpoleSwingup,
    ClassicEnv,
    MountainCar,
    Pendulum,
    PendulumSwingup,
    PointMaze,
    Probe,
    TwoGoals,
    WallMaze,
)
from epo_lightning.envs.classic.arena import move_along

CPU = torch.device("cpu")
TASKS = [CartpoleSwingup, MountainCar, Pendulum, PendulumSwingup, PointMaze, Probe, TwoGoals, WallMaze]
Task = Callable[..., ClassicEnv]


def place(env: ClassicEnv, rows: list[list[float]], clock: int = 0) -> None:
    """Put the environment into these states, (N, S)."""
    env.reset()
    state = env.state_dict()
    state["state"] = torch.tensor(rows)
    state["clock"] = torch.full((len(rows),), clock)
    env.load_state_dict(state)


def random_actions(env: ClassicEnv, steps: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand((steps, env.spec.num_envs, env.spec.act_dim), generator=generator) * 2.0 - 1.0


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("num_envs", [1, 7])
def test_every_task_keeps_the_contract(task: Task, num_envs: int) -> None:
    check_env(task(num_envs, CPU, 0, max_steps=30))


@pytest.mark.parametrize("task", TASKS)
def test_every_task_runs_with_its_defaults(task: Task) -> None:
    check_env(task(3, CPU, 0))


# Mountain car


def test_mountain_car_step_by_hand() -> None:
    env = MountainCar(2, CPU, 0)
    place(env, [[-0.5, 0.0], [-0.5, 0.01]])
    result = env.step(torch.tensor([[1.0], [-0.5]]))
    # gravity: -0.0025 cos(-1.5) = -0.0025 * 0.0707372 = -0.000176843
    velocity = [0.0 + 0.0015 - 0.000176843, 0.01 - 0.00075 - 0.000176843]
    expected = torch.tensor([[-0.5 + velocity[0], velocity[0]], [-0.5 + velocity[1], velocity[1]]])
    torch.testing.assert_close(result.obs, expected, atol=1e-7, rtol=0.0)
    torch.testing.assert_close(result.reward, torch.tensor([-0.1, -0.025]))
    assert not result.terminated.any()
    assert not result.truncated.any()


def test_mountain_car_clips_speed_and_stops_at_the_left_end() -> None:
    env = MountainCar(2, CPU, 0)
    place(env, [[-0.3, 0.0699], [-1.19, -0.05]])
    result = env.step(torch.tensor([[1.0], [-1.0]]))
    # -0.3: 0.0699 + 0.0015 - 0.0025 cos(-0.9) = 0.0714 - 0.00155 = 0.06985, below the limit; the left car hits the end.
    assert result.obs[0, 1].item() == pytest.approx(0.0714 - 0.0025 * math.cos(-0.9), abs=1e-7)
    assert result.obs[1].tolist() == pytest.approx([-1.2, 0.0])
    place(env, [[-1.0, 0.07], [-1.0, -0.07]])  # cos(-3) < 0: gravity pulls to the right
    result = env.step(torch.tensor([[1.0], [-1.0]]))
    assert result.obs[0].tolist() == pytest.approx([-0.93, 0.07])
    assert result.obs[1, 1].item() == pytest.approx(-0.07 - 0.0015 - 0.0025 * math.cos(-3.0), abs=1e-7)


def test_mountain_car_goal_pays_terminates_and_resets() -> None:
    env = MountainCar(2, CPU, 0)
    place(env, [[0.44, 0.05], [-0.5, 0.0]])
    result = env.step(torch.tensor([[0.5], [0.0]]))
    assert result.terminated.tolist() == [True, False]
    assert result.successes.tolist() == [1.0, 0.0]
    assert result.reward.tolist() == pytest.approx([100.0 - 0.025, 0.0])
    assert result.final_obs is not None
    assert result.final_obs[0, 0].item() > 0.45
    assert -0.6 <= result.obs[0, 0].item() <= -0.4
    assert result.obs[0, 1].item() == 0.0


def test_mountain_car_is_solved_by_pumping_energy() -> None:
    env = MountainCar(4, CPU, 0)
    obs, total, solved = env.reset(), torch.zeros(4), torch.zeros(4, dtype=torch.bool)
    for _ in range(200):
        result = env.step(torch.where(obs[:, 1:] >= 0.0, 1.0, -1.0))
        total += torch.where(solved, 0.0, result.reward)
        solved |= result.terminated
        obs = result.obs
    assert solved.all()
    assert (total > 85.0).all()


# Pendulum


def test_pendulum_step_by_hand() -> None:
    env = Pendulum(2, CPU, 0)
    place(env, [[math.pi / 2, 0.0], [0.5, -1.0]])
    result = env.step(torch.tensor([[0.0], [1.0]]))
    # level rod: w = 15 * 0.05 = 0.75, angle = pi/2 + 0.0375; 0.5 rad: w = -1 + (15 sin 0.5 + 6) 0.05
    speeds = [0.75, -1.0 + (15.0 * math.sin(0.5) + 6.0) * 0.05]
    angles = [math.pi / 2 + 0.05 * speeds[0], 0.5 + 0.05 * speeds[1]]
    expected = [[math.cos(a), math.sin(a), w] for a, w in zip(angles, speeds, strict=True)]
    torch.testing.assert_close(result.obs, torch.tensor(expected))
    rewards = [-((math.pi / 2) ** 2), -(0.25 + 0.1 + 0.001 * 4.0)]
    torch.testing.assert_close(result.reward, torch.tensor(rewards))


def test_pendulum_angle_wraps_and_speed_is_limited() -> None:
    env = Pendulum(1, CPU, 0)
    place(env, [[2.0 * math.pi + 1.5, 7.9]])
    result = env.step(torch.ones(1, 1))
    assert result.reward.item() == pytest.approx(-(1.5**2 + 0.1 * 7.9**2 + 0.004), rel=1e-5)
    assert result.obs[0, 2].item() == 8.0


def test_a_wind_blows_through_an_episode_and_the_critic_alone_may_see_it() -> None:
    blind, told = (Pendulum(2, CPU, 0, max_steps=3, wind=0.5, privileged=privileged) for privileged in (False, True))
    first = told.reset()
    assert torch.equal(first[:, :3], blind.reset())
    wind = first[:, 3]
    assert (wind.abs() > 0.0).all()
    assert (wind.abs() <= 0.5).all()
    place(told, [[0.0, 0.0, 0.5], [0.0, 0.0, -0.25]])
    result = told.step(torch.zeros(2, 1))
    # w = 3 x 0.5 x 0.05 = 0.075, and half of it the other way
    torch.testing.assert_close(result.obs[:, 2:], torch.tensor([[0.075, 0.5], [-0.0375, -0.25]]))
    with pytest.raises(ValueError, match=r"init_args\.privileged: there is no wind to be seen"):
        Pendulum(2, CPU, 0, privileged=True)
    with pytest.raises(ValueError, match=r"init_args\.wind must be at least 0"):
        Pendulum(2, CPU, 0, wind=-1.0)


def test_pendulum_counts_a_success_only_at_the_end() -> None:
    env = Pendulum(2, CPU, 0, max_steps=10)
    place(env, [[0.0, 0.0], [math.pi, 0.0]], clock=8)
    first, second = env.step(torch.zeros(2, 1)), env.step(torch.zeros(2, 1))
    assert first.successes.tolist() == [0.0, 0.0]
    assert second.successes.tolist() == [1.0, 0.0]
    assert second.truncated.all()
    assert torch.as_tensor(first.log["upright"]).tolist() == [1.0, 0.0]


# Probe


def test_probe_pays_the_squared_error_and_draws_anew() -> None:
    env = Probe(2, CPU, 0, max_steps=2, gain=0.5)
    place(env, [[0.4, -1.0], [0.0, 0.0]])
    result = env.step(torch.tensor([[0.2, -0.5], [0.3, 0.4]]))
    torch.testing.assert_close(result.reward, torch.tensor([0.0, -0.25]))
    assert result.successes.tolist() == [1.0, 0.0]
    assert (result.obs != torch.tensor([[0.4, -1.0], [0.0, 0.0]])).all()


@pytest.mark.parametrize("ending", ["terminated", "truncated"])
def test_probe_ends_as_asked(ending: str) -> None:
    env = Probe(3, CPU, 0, max_steps=2, ending=ending)  # type: ignore[arg-type]
    env.reset()
    results = [env.step(torch.zeros(3, 2)) for _ in range(4)]
    other = "truncated" if ending == "terminated" else "terminated"
    assert [getattr(r, ending).all().item() for r in results] == [False, True, False, True]
    assert not any(getattr(r, other).any() for r in results)


# Wall maze


@pytest.mark.parametrize(
    ("start", "move", "across", "end"),
    [
        (0.0, 5.0, 0.5, 1.0),  # stops at the near face, however long the move
        (0.0, 0.5, 0.5, 0.5),  # ends before the wall
        (0.0, 5.0, 2.0, 5.0),  # passes beside it
        (0.0, 5.0, 1.0, 5.0),  # slides along its side face
        (1.0, 0.3, 0.5, 1.0),  # already touches it
        (1.0, -0.3, 0.5, 0.7),  # and may leave
        (3.0, -5.0, 0.5, 2.0),  # from behind
        (2.0, 4.0, 0.5, 6.0),  # touching from behind, moving away
    ],
)
def test_move_along_by_hand(start: float, move: float, across: float, end: float) -> None:
    walls = torch.tensor([[1.0, 2.0, 0.0, 1.0], [50.0, 60.0, 0.0, 1.0]])
    moved = move_along(torch.tensor([start]), torch.tensor([move]), torch.tensor([across]), walls)
    assert moved.item() == pytest.approx(end)


def maze(num_envs: int, speed: float = 0.1) -> WallMaze:
    """A fixed geometry, whatever the defaults: cup from x = 0 to 0.8, arms at |y| from 0.5 to 0.6, goal at 1.3."""
    return WallMaze(
        num_envs,
        CPU,
        0,
        speed=speed,
        back_distance=0.8,
        cup_depth=0.8,
        cup_width=1.0,
        wall=0.1,
        goal_distance=1.3,
        goal_radius=0.2,
        start_radius=0.1,
        distance_scale=0.1,
        goal_reward=10.0,
    )


def test_wall_maze_moves_and_pays_by_hand() -> None:
    env = maze(1)
    place(env, [[0.0, 0.0]])
    result = env.step(torch.tensor([[1.0, -0.5]]))
    torch.testing.assert_close(result.obs, torch.tensor([[0.1, -0.05]]))
    assert result.reward.item() == pytest.approx(-0.1 * math.hypot(1.2, 0.05))


def test_wall_maze_stops_and_slides() -> None:
    env = maze(4)
    place(env, [[0.75, 0.0], [0.75, 0.45], [0.5, 0.65], [0.95, 0.0]])
    result = env.step(torch.tensor([[1.0, 1.0], [1.0, 1.0], [0.0, -1.0], [-1.0, 0.0]]))
    # back wall: x stops, y slides; inner corner: both stop; upper arm from above; back wall from behind
    expected = torch.tensor([[0.8, 0.1], [0.8, 0.5], [0.5, 0.6], [0.9, 0.0]])
    torch.testing.assert_close(result.obs, expected)


@pytest.mark.parametrize("speed", [0.1, 1.0, 3.0])
def test_wall_maze_never_enters_a_wall(speed: float) -> None:
    env = maze(256, speed)
    env.reset()
    for actions in random_actions(env, 60):
        result = env.step(actions)
        assert result.final_obs is not None
        x, y = result.final_obs.unbind(1)
        inside = (x[:, None] > env.walls[:, 0]) & (x[:, None] < env.walls[:, 1])
        inside &= (y[:, None] > env.walls[:, 2]) & (y[:, None] < env.walls[:, 3])
        assert not inside.any()
        assert (result.final_obs >= env.low).all()
        assert (result.final_obs <= env.high).all()


def test_wall_maze_straight_ahead_ends_in_the_cup() -> None:
    env = maze(8)
    env.reset()
    for _ in range(99):
        result = env.step(torch.tensor([1.0, 0.0]).expand(8, 2))
    torch.testing.assert_close(result.obs[:, 0], torch.full((8,), 0.8))
    assert not result.successes.any()
    assert env.step(torch.zeros(8, 2)).truncated.all()


def test_wall_maze_goal_pays_and_terminates() -> None:
    env = maze(2)
    place(env, [[1.3, 0.28], [1.3, 0.35]], clock=99)
    result = env.step(torch.tensor([[0.0, -1.0], [0.0, -1.0]]))
    assert result.terminated.tolist() == [True, False]
    assert result.truncated.tolist() == [False, True]
    assert result.successes.tolist() == [1.0, 0.0]
    assert result.reward.tolist() == pytest.approx([10.0 - 0.018, -0.025])
    assert (result.obs.abs() <= 0.1).all()


def test_wall_maze_default_can_be_solved_around_the_cup() -> None:
    env = WallMaze(4, CPU, 0)
    obs, solved = env.reset(), torch.zeros(4)
    rim = env.walls[0, 3] + 0.1
    for _ in range(env.spec.max_episode_steps or 0):
        before_mouth = obs[:, 0] <= env.walls[0, 0] - 0.05
        behind = obs[:, 0] >= env.walls[0, 1] + 0.05
        above = obs[:, 1] >= rim
        out = torch.tensor([-1.0, 0.0]).expand(4, 2)
        up, right = torch.tensor([0.0, 1.0]), torch.tensor([1.0, 0.0])
        home = (env.goal - obs).clamp(-1.0, 1.0)
        actions = torch.where(before_mouth[:, None], up, out)
        actions = torch.where(above[:, None], right, actions)
        actions = torch.where(behind[:, None], home, actions)
        result = env.step(actions)
        solved += result.successes
        obs = result.obs
    assert (solved >= 1.0).all()


# What all tasks share


def test_time_limit_truncates_and_resets_only_the_rows_that_end() -> None:
    env = Pendulum(3, CPU, 0, max_steps=4)
    env.reset()
    state = env.state_dict()
    state["clock"] = torch.tensor([0, 3, 1])
    env.load_state_dict(state)
    result = env.step(torch.zeros(3, 1))
    assert result.truncated.tolist() == [False, True, False]
    assert env.state_dict()["clock"].tolist() == [1, 0, 2]
    assert result.final_obs is not None
    same = (result.obs == result.final_obs).all(1)
    assert same.tolist() == [True, False, True]


def test_terminated_wins_over_truncated() -> None:
    env = MountainCar(2, CPU, 0, max_steps=5)
    place(env, [[0.44, 0.05], [-0.5, 0.0]], clock=4)
    result = env.step(torch.zeros(2, 1))
    assert result.terminated.tolist() == [True, False]
    assert result.truncated.tolist() == [False, True]


@pytest.mark.parametrize("task", TASKS)
def test_same_seed_same_run_and_another_seed_another(task: Task) -> None:
    def run(seed: int) -> Tensor:
        env = task(5, CPU, seed, max_steps=7)
        return torch.stack([env.reset(), *(env.step(a).obs for a in random_actions(env, 20))])

    torch.manual_seed(0)
    first = run(3)
    torch.manual_seed(1)  # the global generator plays no part
    assert torch.equal(first, run(3))
    assert not torch.equal(first, run(4))


@pytest.mark.parametrize("task", TASKS)
def test_another_instance_resumes_to_the_bit(task: Task) -> None:
    env = task(5, CPU, 0, max_steps=7)
    env.reset()
    actions = random_actions(env, 40)
    for a in actions[:20]:
        env.step(a)
    other = task(5, CPU, 99, max_steps=7)
    other.load_state_dict(env.state_dict())
    for a in actions[20:]:
        wanted, got = env.step(a), other.step(a)
        assert torch.equal(wanted.obs, got.obs)
        assert torch.equal(wanted.reward, got.reward)
        assert torch.equal(wanted.truncated, got.truncated)


@pytest.mark.parametrize("task", TASKS)
def test_out_of_range_actions_are_clipped(task: Task) -> None:
    env, other = task(4, CPU, 0), task(4, CPU, 0)
    env.reset(), other.reset()
    big = torch.full((4, env.spec.act_dim), 7.0)
    assert torch.equal(env.step(big).reward, other.step(big.clamp(-1.0, 1.0)).reward)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("task", TASKS)
def test_a_step_does_not_wait_for_the_gpu(task: Task) -> None:
    env = task(64, torch.device("cuda"), 0, max_steps=3)
    env.reset()
    actions = random_actions(env, 10).cuda()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for row in actions:
            env.step(row)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    check_env(task(64, torch.device("cuda"), 0, max_steps=30))


def test_results_stay_valid_after_the_next_step() -> None:
    env = WallMaze(3, CPU, 0)
    env.reset()
    result = env.step(torch.ones(3, 2))
    copy = result.obs.clone()
    env.step(torch.ones(3, 2))
    assert torch.equal(result.obs, copy)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MountainCar(0, CPU, 0), "data.num_envs"),
        (lambda: MountainCar(1, CPU, 0, max_steps=0), "data.env.init_args.max_steps"),
        (lambda: MountainCar(1, CPU, 0, goal_position=0.7), "data.env.init_args.goal_position"),
        (lambda: Pendulum(1, CPU, 0, max_torque=0.0), "data.env.init_args.max_torque"),
        (lambda: Probe(1, CPU, 0, dim=0), "data.env.init_args.dim"),
        (lambda: Probe(1, CPU, 0, gain=2.0), "data.env.init_args.gain"),
        (lambda: Probe(1, CPU, 0, ending="end"), "data.env.init_args.ending"),  # type: ignore[arg-type]
        (lambda: WallMaze(1, CPU, 0, wall=0.0), "data.env.init_args.wall"),
        (lambda: WallMaze(1, CPU, 0, goal_distance=0.5), "data.env.init_args.goal_distance"),
        (
            lambda: WallMaze(1, CPU, 0, start_radius=5.0),
            r"start_radius must be .* at most 0\.25, got 5",
        ),
        (
            lambda: MountainCar(1, CPU, 0, goal_position=-0.4),
            r"goal_position must be greater than -0\.4 and at most",
        ),
        (lambda: MountainCar(1, CPU, 0, goal_position=math.nan), "data.env.init_args.goal_position"),
        (lambda: Pendulum(1, CPU, 0, max_torque=math.nan), "data.env.init_args.max_torque"),
        (lambda: WallMaze(1, CPU, 0, speed=math.nan), "data.env.init_args.speed"),
        (lambda: WallMaze(1, CPU, 0, goal_distance=math.nan), "data.env.init_args.goal_distance"),
        (lambda: WallMaze(1, CPU, 0, start_radius=math.nan), "data.env.init_args.start_radius"),
    ],
)
def test_a_wrong_option_is_named(make: Callable[[], ClassicEnv], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_a_state_that_does_not_fit_is_refused() -> None:
    env = WallMaze(3, CPU, 0)
    with pytest.raises(RuntimeError, match="reset"):
        env.step(torch.zeros(3, 2))
    env.reset()
    state = env.state_dict()
    with pytest.raises(ValueError, match=r"data\.num_envs"):
        WallMaze(4, CPU, 0).load_state_dict(state)
    with pytest.raises(ValueError, match="belongs to WallMaze"):
        MountainCar(3, CPU, 0).load_state_dict(state)
    with pytest.raises(ValueError, match="generator"):
        env.load_state_dict({"state": state["state"]})


# Late beginnings


@pytest.mark.parametrize("task", TASKS)
def test_an_episode_that_begins_late_is_only_shorter(task: Task) -> None:
    late, whole = task(4, CPU, 0, max_steps=8), task(4, CPU, 0, max_steps=8)
    assert torch.equal(late.reset_late(torch.tensor([0.0, 0.25, 0.5, 0.95])), whole.reset())
    assert late.state_dict()["clock"].tolist() == [0, 2, 4, 7]  # 0.95 of 8 steps, rounded down
    actions = torch.zeros(4, late.spec.act_dim)
    a, b = late.step(actions), whole.step(actions)
    assert torch.equal(a.reward, b.reward)
    assert (a.truncated | a.terminated).tolist() == [False, False, False, True]
    assert a.final_obs is not None
    assert b.final_obs is not None
    assert torch.equal(a.final_obs[3], b.final_obs[3])
