"""The point maze, the two goals and the three wall mazes: geometry, rewards and ends by hand, and a way to the goal."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch

from epo_lightning.envs.classic import PointMaze, TwoGoals, WallMaze
from epo_lightning.envs.classic.arena import Arena
from epo_lightning.envs.classic.drawing import GOAL, SOLID

CPU = torch.device("cpu")


def place(env: Arena, *rows: tuple[float, float]) -> None:
    """Put the point of each environment there."""
    env.reset()
    env.load_state_dict(env.state_dict() | {"state": torch.tensor(rows)})


def scripted(env: Arena) -> tuple[torch.Tensor, torch.Tensor]:
    """Length and return of the first episode in each environment, under the script; infinite where it met no goal."""
    env.reset()
    script = env.script()
    length, total = torch.full((env.spec.num_envs,), math.inf), torch.zeros(env.spec.num_envs)
    for step in range(env.spec.max_episode_steps or 0):
        result = env.step(script())
        total += torch.where(length.isinf(), result.reward, 0.0)
        length = torch.where((result.successes > 0) & length.isinf(), float(step + 1), length)
    return length, total


@pytest.mark.parametrize(
    ("make", "longest"),
    [
        (lambda n: WallMaze(n, CPU, 0), 20),
        (lambda n: WallMaze(n, CPU, 0, difficulty="medium"), 25),
        (lambda n: WallMaze(n, CPU, 0, difficulty="hard"), 35),
        (lambda n: WallMaze(n, CPU, 0, cup_depth=0.9, wall=0.05, cup_width=0.8, goal_distance=1.3), 40),
        (lambda n: PointMaze(n, CPU, 0), 45),
        (lambda n: TwoGoals(n, CPU, 0), 20),
        (lambda n: TwoGoals(n, CPU, 0, wall=0.8), 25),
    ],
)
def test_the_script_finds_the_goal_from_every_start(make: Callable[[int], Arena], longest: int) -> None:
    length, _ = scripted(make(64))
    assert length.max().item() <= longest


# The wall maze in three difficulties


def test_easy_is_the_maze_that_has_always_been() -> None:
    plain, easy, named = (
        WallMaze(1, CPU, 0),
        WallMaze(1, CPU, 0, difficulty="easy"),
        WallMaze(1, CPU, 0, cup_depth=0.3, cup_width=0.5),
    )
    for env in (plain, easy, named):
        boxes = [[0.3, 0.7, 0.25, 0.35], [0.3, 0.7, -0.35, -0.25], [0.6, 0.7, -0.35, 0.35]]
        torch.testing.assert_close(env.walls, torch.tensor(boxes))
        torch.testing.assert_close(env.low, torch.tensor((-0.6, -0.85)))
        torch.testing.assert_close(env.high, torch.tensor((1.5, 0.85)))
        torch.testing.assert_close(env.reset(), torch.tensor([[-0.0007, 0.0536]]), atol=6e-5, rtol=0.0)  # of seed 0


@pytest.mark.parametrize(("difficulty", "depth", "width"), [("medium", 0.4, 0.5), ("hard", 0.5, 0.6)])
def test_a_difficulty_is_a_depth_and_a_width(difficulty: str, depth: float, width: float) -> None:
    env = WallMaze(1, CPU, 0, difficulty=difficulty)  # type: ignore[arg-type]
    torch.testing.assert_close(env.walls[0], torch.tensor((0.6 - depth, 0.7, width / 2, width / 2 + 0.1)))
    own = WallMaze(1, CPU, 0, difficulty=difficulty, cup_depth=0.2)  # type: ignore[arg-type]
    torch.testing.assert_close(own.walls[0], torch.tensor((0.4, 0.7, width / 2, width / 2 + 0.1)))


def test_each_difficulty_is_harder_for_a_random_walk() -> None:
    met = []
    for difficulty in ("easy", "medium", "hard"):
        env = WallMaze(4096, CPU, 0, difficulty=difficulty)
        env.reset()
        generator = torch.Generator().manual_seed(0)
        met.append(sum(env.step(torch.randn(4096, 2, generator=generator)).successes.sum().item() for _ in range(100)))
    assert met[0] > met[1] > 1.5 * met[2] > 0


# The point maze


def test_point_maze_moves_and_pays_by_hand() -> None:
    env = PointMaze(2, CPU, 0)
    place(env, (0.0, -0.9), (0.95, 0.95))
    result = env.step(torch.tensor([[1.0, -0.5], [1.0, 1.0]]))
    torch.testing.assert_close(result.obs, torch.tensor([[0.1, -0.95], [1.0, 1.0]]))  # the square ends at 1
    wanted = [-math.hypot(0.6, 1.75), -math.hypot(1.5, 0.2)]
    assert result.reward.tolist() == pytest.approx(wanted)
    assert not result.terminated.any()


def test_point_maze_has_a_wall_from_the_right_and_one_from_the_left() -> None:
    env = PointMaze(6, CPU, 0)
    up, down = [0.0, 1.0], [0.0, -1.0]
    place(env, (0.9, -0.55), (-0.45, -0.55), (-0.6, -0.55), (-0.9, 0.15), (0.45, 0.15), (0.6, 0.25))
    result = env.step(torch.tensor([up, up, up, up, up, down]))
    torch.testing.assert_close(result.obs[:, 1], torch.tensor([-0.5, -0.5, -0.45, 0.2, 0.2, 0.15]))
    place(env, *[(0.0, -0.45)] * 3, *[(0.0, 0.25)] * 3)
    result = env.step(torch.tensor([down] * 6))
    torch.testing.assert_close(result.obs[:, 1], torch.tensor([-0.49] * 3 + [0.21] * 3))  # walls are 0.01 thick


def test_point_maze_ends_in_the_goals_square() -> None:
    env = PointMaze(3, CPU, 0, max_steps=9)
    place(env, (-0.5, 0.7), (-0.5, 0.7), (-0.38, 0.8))
    # to (-0.46, 0.76), (-0.44, 0.76), (-0.44, 0.8)
    result = env.step(torch.tensor([[0.4, 0.6], [0.6, 0.6], [-0.6, 0.0]]))
    assert result.terminated.tolist() == [True, False, False]
    assert result.successes.tolist() == [1.0, 0.0, 0.0]
    assert result.reward[0].item() == pytest.approx(-math.hypot(0.04, 0.04))


def test_point_maze_begins_at_the_bottom() -> None:
    obs = PointMaze(4096, CPU, 0).reset()
    assert obs.amin(0).tolist() == pytest.approx([-0.1, -1.0], abs=0.001)
    assert obs.amax(0).tolist() == pytest.approx([0.1, -0.7], abs=0.001)


def test_who_follows_the_reward_ends_below_a_wall() -> None:
    env = PointMaze(8, CPU, 0)
    obs = env.reset()
    for _ in range(100):
        obs = env.step(((env.goal - obs) / 0.1).clamp(-1.0, 1.0)).obs
    assert (obs[:, 1] <= 0.2).all()


# Two goals


def test_the_poor_goal_pays_a_little_and_is_no_success() -> None:
    env = TwoGoals(2, CPU, 0)
    place(env, (0.0, -0.3), (0.0, -0.3))
    result = env.step(torch.tensor([[0.0, -0.6], [0.0, -0.4]]))  # to -0.36 and -0.34; its edge is at -0.35
    assert result.terminated.tolist() == [True, False]
    assert result.successes.tolist() == [0.0, 0.0]
    assert result.reward.tolist() == pytest.approx([1.0 - 0.02, -0.02])
    assert torch.as_tensor(result.log["poor_goal"]).tolist() == [1.0, 0.0]


def test_the_rich_goal_pays_and_counts() -> None:
    env = TwoGoals(2, CPU, 0)
    place(env, (0.2, 0.6), (0.0, 0.4))
    result = env.step(torch.tensor([[-0.6, 0.0], [0.0, 0.4]]))  # to 0.14 and 0.16 from the goal
    assert result.terminated.tolist() == [True, False]
    assert result.successes.tolist() == [1.0, 0.0]
    assert result.reward.tolist() == pytest.approx([10.0 - 0.02, -0.02])


def test_two_goals_lie_on_either_side_and_the_wall_before_one() -> None:
    env = TwoGoals(3, CPU, 0)
    place(env, (0.0, 0.15), (-0.5, 0.15), (0.5, 0.15))
    result = env.step(torch.tensor([[0.0, 1.0]]).expand(3, 2))
    torch.testing.assert_close(result.obs[:, 1], torch.tensor([0.2, 0.25, 0.25]))


def test_a_random_walk_meets_the_poor_goal_much_more_often() -> None:
    env = TwoGoals(4096, CPU, 0)
    env.reset()
    generator, poor, rich = torch.Generator().manual_seed(0), 0.0, 0.0
    for _ in range(100):
        result = env.step(torch.randn(4096, 2, generator=generator))
        poor += torch.as_tensor(result.log["poor_goal"]).sum().item()
        rich += result.successes.sum().item()
    assert poor > 5 * rich > 0


def test_the_rich_goal_is_worth_the_way() -> None:
    _, total = scripted(TwoGoals(16, CPU, 0))
    assert (total > 9.5).all()


@pytest.mark.parametrize(
    ("arguments", "key"),
    [
        ({"rich_reward": 0.5}, "rich_reward"),
        ({"step_cost": -1.0}, "step_cost"),
        ({"speed": 0.0}, "speed"),
        ({"wall": 1.0}, "wall"),
        ({"step_cost": math.nan}, "step_cost"),
    ],
)
def test_a_wrong_option_of_two_goals_is_named(arguments: dict[str, float], key: str) -> None:
    with pytest.raises(ValueError, match=rf"^data\.env\.init_args\.{key} must be [^\n]+$"):
        TwoGoals(1, CPU, 0, **arguments)  # type: ignore[arg-type]


def test_a_difficulty_that_there_is_not_is_named() -> None:
    with pytest.raises(ValueError, match=r"difficulty must be one of easy, medium, hard; got 'harder'$"):
        WallMaze(1, CPU, 0, difficulty="harder")  # type: ignore[arg-type]


def test_walls_and_goals_are_seen_where_they_are() -> None:
    maze, goals = PointMaze(1, CPU, 0), TwoGoals(1, CPU, 0)
    place(maze, (0.9, 0.9))
    place(goals, (0.9, 0.9))

    def look(picture: np.ndarray, x: float, y: float) -> tuple[int, ...]:
        # 520 pixels for 2.08 units
        return tuple(picture[int(260 - 250 * y), int(260 + 250 * x)].tolist())

    picture = maze.render([0], 520, 520)[0]
    assert look(picture, -0.5, 0.8) == GOAL
    assert look(picture, 0.4, -0.495) == look(picture, 0.99, -0.495) == look(picture, -0.4, 0.205) == SOLID
    assert SOLID not in (look(picture, -0.6, -0.495), look(picture, 0.6, 0.205))
    picture = goals.render([0], 520, 520)[0]
    assert look(picture, 0.0, 0.6) == GOAL
    assert look(picture, -0.35, 0.25) == look(picture, 0.35, 0.25) == SOLID
    assert SOLID not in (look(picture, -0.45, 0.25), look(picture, 0.45, 0.25))
