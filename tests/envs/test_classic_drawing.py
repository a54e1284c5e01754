"""Pictures of the classic tasks: what is seen lies where the physics has it, and looking changes nothing."""

import math
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

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
from epo_lightning.envs.classic.drawing import BODY, EARTH, GOAL, GROUND, NEAR, SOLID, Canvas, Colour, blend
from epo_lightning.envs.classic.mountain_car import height_of
from epo_lightning.show.playback import Playback
from epo_lightning.show.video import compose

CPU = torch.device("cpu")
DRAWN = [WallMaze, MountainCar, Pendulum, CartpoleSwingup, PendulumSwingup, PointMaze, TwoGoals]
Task = Callable[..., ClassicEnv]
WIDTH, HEIGHT = 240, 180


def place(env: ClassicEnv, *rows: list[float]) -> None:
    """Put the environment into these states, (N, S)."""
    env.reset()
    env.load_state_dict(env.state_dict() | {"state": torch.tensor(rows)})


def colour_at(picture: np.ndarray, low: tuple[float, float], high: tuple[float, float], x: float, y: float) -> Colour:
    """The colour of the pixel that shows (x, y); the box from `low` to `high` lies in the middle of the picture."""
    height, width, _ = picture.shape
    scale = min(width / (high[0] - low[0]), height / (high[1] - low[1]))
    column = width / 2 + (x - (low[0] + high[0]) / 2) * scale
    row = height / 2 - (y - (low[1] + high[1]) / 2) * scale
    red, green, blue = picture[math.floor(row), math.floor(column)].tolist()
    return red, green, blue


def walk(env: WallMaze, position: tuple[float, float], action: list[float]) -> tuple[float, float]:
    """Where a step with `action` from `position` ends."""
    place(env, [*position])
    result = env.step(torch.tensor([action]))
    assert result.final_obs is not None
    x, y = result.final_obs[0].tolist()
    return x, y


class TestCanvas:
    def test_points_are_where_their_coordinates_say(self) -> None:
        # 4 x 2 units on 40 x 40 pixels: 10 pixels a unit, and 10 rows above and below
        canvas = Canvas((0.0, 0.0), (4.0, 2.0), 40, 40)
        assert canvas.low == (0.0, -1.0)
        assert canvas.high == (4.0, 3.0)
        canvas.box((1.0, 0.0), (3.0, 1.0), SOLID)
        solid = (canvas.picture() == SOLID).all(axis=2)
        assert solid[21:29, 11:29].all()
        solid[20:31, 10:31] = False
        assert not solid.any()

    def test_a_disc(self) -> None:
        canvas = Canvas((-1.0, -1.0), (1.0, 1.0), 100, 100)
        canvas.disc((0.5, -0.5), 0.2, BODY)
        rows, columns = np.nonzero((canvas.picture() != GROUND).any(axis=2))
        # the middle is the corner of four pixels; the radius is ten of them
        assert [rows.min(), rows.max(), columns.min(), columns.max()] == [65, 84, 65, 84]

    def test_edges_are_smooth(self) -> None:
        canvas = Canvas((0.0, 0.0), (10.0, 10.0), 10, 10)
        canvas.line([(0.0, 0.0), (10.0, 10.0)], 2.0, SOLID)
        assert len(np.unique(canvas.picture().reshape(-1, 3), axis=0)) > 2

    def test_a_line_is_never_too_thin_to_be_seen(self) -> None:
        canvas = Canvas((0.0, 0.0), (10.0, 10.0), 10, 10)
        canvas.line([(0.0, 5.0), (10.0, 5.0)], 0.0, SOLID)
        assert (canvas.picture() != GROUND).any(axis=(0, 2)).all()

    def test_blend(self) -> None:
        assert blend((0, 100, 200), (100, 0, 200), 0.25) == (25, 75, 200)


@pytest.mark.parametrize("task", DRAWN)
class TestEveryTask:
    def test_as_many_pictures_as_asked_for_in_their_order(self, task: Task) -> None:
        env = task(5, CPU, 0)
        env.reset()
        every = env.render(range(5), WIDTH, HEIGHT)
        assert every.shape == (5, HEIGHT, WIDTH, 3)
        assert every.dtype == np.uint8
        assert np.array_equal(env.render([3, 1], WIDTH, HEIGHT), every[[3, 1]])
        assert (every[3] != every[1]).any()

    @pytest.mark.parametrize("size", [(1, 1), (64, 7), (7, 64), (2000, 30)])
    def test_any_size(self, task: Task, size: tuple[int, int]) -> None:
        env = task(1, CPU, 0)
        env.reset()
        env.step(torch.ones(1, env.spec.act_dim))
        assert env.render([0], *size).shape == (1, size[1], size[0], 3)

    @pytest.mark.parametrize("size", [(0, 10), (10, -1), (4097, 10)])
    def test_an_impossible_size(self, task: Task, size: tuple[int, int]) -> None:
        env = task(1, CPU, 0)
        env.reset()
        with pytest.raises(ValueError, match=rf"1 to 4096 pixels, got {size[0]} x {size[1]}$"):
            env.render([0], *size)

    def test_looking_changes_nothing(self, task: Task) -> None:
        watched, alone = task(4, CPU, 7, max_steps=9), task(4, CPU, 7, max_steps=9)
        watched.reset()
        alone.reset()
        before = torch.get_rng_state()
        actions = torch.rand(25, 4, alone.spec.act_dim, generator=torch.Generator().manual_seed(1)) * 2 - 1
        for action in actions:
            watched.render([0, 3], 32, 24)
            seen, unseen = watched.step(action), alone.step(action)
            for name in ("obs", "reward", "terminated", "truncated", "successes", "final_obs"):
                assert torch.equal(getattr(seen, name), getattr(unseen, name)), name
        left, right = watched.state_dict(), alone.state_dict()
        assert left.keys() == right.keys()
        for name in ("state", "clock", "generator"):
            assert torch.equal(left[name], right[name]), name
        assert torch.equal(before, torch.get_rng_state())

    def test_without_the_extra_the_line_names_it(self, task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "PIL", None)
        env = task(1, CPU, 0)
        env.reset()
        with pytest.raises(ValueError, match=r"pip install 'epo-lightning\[video\]'$") as refusal:
            env.render([0], 32, 24)
        assert "\n" not in str(refusal.value)

    def test_a_frame_of_a_film(self, task: Task) -> None:
        playback = Playback(task(2, CPU, 0), ["random", "zero"])
        playback.step()
        frame = compose(playback, WIDTH, HEIGHT)
        # the caption takes 33 rows
        assert np.array_equal(frame[33 : 33 + HEIGHT, :WIDTH], playback.env.render([0], WIDTH, HEIGHT)[0])


def test_the_probe_has_no_pictures() -> None:
    env = Probe(1, CPU, 0)
    env.reset()
    with pytest.raises(ValueError, match="Probe has no pictures"):
        env.render([0], 32, 24)


class TestWallMaze:
    def look(self, env: WallMaze, picture: np.ndarray, x: float, y: float) -> Colour:
        (left, bottom), (right, top) = env.low.tolist(), env.high.tolist()
        edge = 0.02 * (right - left)
        return colour_at(picture, (left - edge, bottom - edge), (right + edge, top + edge), x, y)

    def test_point_and_goal(self) -> None:
        env = WallMaze(2, CPU, 0)
        place(env, [-0.3, 0.4], [1.2, -0.7])
        pictures = env.render([0, 1], WIDTH, HEIGHT)
        for picture, (x, y) in zip(pictures, [(-0.3, 0.4), (1.2, -0.7)], strict=True):
            assert self.look(env, picture, x, y) == BODY
            assert self.look(env, picture, x + 0.08, y) == GROUND
            assert self.look(env, picture, 1.0, 0.0) == GOAL
            for dx, dy in ((0.18, 0.0), (-0.18, 0.0), (0.0, 0.18), (0.0, -0.18)):
                assert self.look(env, picture, 1.0 + dx, dy) == NEAR
                assert self.look(env, picture, 1.0 + 1.25 * dx, 1.25 * dy) == GROUND
        assert self.look(env, pictures[0], 1.2, -0.7) == GROUND

    @pytest.mark.parametrize("shape", [{}, {"cup_depth": 0.9, "wall": 0.05, "cup_width": 0.8, "goal_distance": 1.3}])
    def test_the_wall_is_seen_where_it_stops_the_point(self, shape: dict[str, Any]) -> None:
        env = WallMaze(1, CPU, 0, **shape)
        place(env, [1.3, env.high[1].item() - 0.06])  # out of the way
        picture = env.render([0], 960, 720)[0]
        wanderer = WallMaze(1, CPU, 0, speed=10.0, **shape)  # from end to end in one step
        low, high = env.low.tolist(), env.high.tolist()
        generator, hits, near = torch.Generator().manual_seed(0), 0, 0.01
        while hits < 40:
            start = (torch.rand(2, generator=generator) * (env.high - env.low) + env.low).tolist()
            if self.look(env, picture, *start) == SOLID:
                continue  # were it free in fact, somebody's way to it would lead through what is drawn
            for axis, sign in ((0, 1.0), (0, -1.0), (1, 1.0), (1, -1.0)):
                action = [0.0, 0.0]
                action[axis] = sign
                stop = walk(wanderer, (start[0], start[1]), action)
                if abs(start[axis] - stop[axis]) < 3 * near:
                    continue
                beyond, before = [*stop], [*stop]
                beyond[axis] += sign * near
                before[axis] -= sign * near
                assert self.look(env, picture, *beyond) == SOLID
                assert self.look(env, picture, *before) != SOLID
                hits += low[axis] + near < stop[axis] < high[axis] - near  # the cup, not the edge of the arena
                way = np.linspace(start[axis], before[axis], 50)
                seen = [self.look(env, picture, *((u, start[1]) if axis == 0 else (start[0], u))) for u in way]
                assert SOLID not in seen

    def test_a_dot_wherever_the_point_has_been_in_this_episode(self) -> None:
        env = WallMaze(1, CPU, 0, max_steps=6)
        place(env, [-0.4, -0.6])
        env.render([0], 480, 360)
        spots = [(-0.4 + 0.1 * step, -0.6) for step in range(6)]

        def dots() -> list[bool]:
            picture = env.render([0], 480, 360)[0]
            return [self.look(env, picture, *spot) not in (GROUND, BODY) for spot in spots]

        for step in range(1, 6):
            env.step(torch.tensor([[1.0, 0.0]]))
            assert dots() == [spot < step for spot in range(6)]
        env.step(torch.tensor([[1.0, 0.0]]))  # the sixth ends the episode
        assert dots() == [False] * 6

    def test_dots_of_another_state_are_forgotten(self) -> None:
        env = WallMaze(1, CPU, 0)
        place(env, [-0.4, -0.6])
        env.render([0], 32, 24)
        for _ in range(3):
            env.step(torch.tensor([[1.0, 0.0]]))
        saved = env.state_dict()
        with_dots = env.render([0], 64, 48)
        env.load_state_dict(saved)
        fresh = WallMaze(1, CPU, 0)
        fresh.load_state_dict(saved)
        assert np.array_equal(env.render([0], 64, 48), fresh.render([0], 64, 48))
        assert (with_dots != fresh.render([0], 64, 48)).any()


class TestMountainCar:
    def look(self, picture: np.ndarray, x: float, y: float) -> Colour:
        return colour_at(picture, (-1.3, 0.0), (0.8, 1.5), x, y)

    def test_the_slope_is_what_gravity_feels(self) -> None:
        env = MountainCar(1, CPU, 0)
        for position in (-1.0, -0.7, -0.3, 0.1, 0.4):
            place(env, [position, 0.0])
            velocity = env.step(torch.zeros(1, 1)).obs[0, 1].item()
            slope = (height_of(position + 1e-4) - height_of(position - 1e-4)) / 2e-4
            assert velocity == pytest.approx(-env.gravity * slope / 1.35, abs=1e-6)

    @pytest.mark.parametrize("position", [-1.1, -math.pi / 6, 0.2])
    def test_the_car_stands_on_the_hill(self, position: float) -> None:
        env = MountainCar(1, CPU, 0)
        place(env, [position, 0.0])
        picture = env.render([0], 480, 360)[0]
        slope = math.atan(1.35 * math.cos(3 * position))
        x, y = position, 0.45 * math.sin(3 * position) + 0.55
        assert self.look(picture, x - 0.07 * math.sin(slope), y + 0.07 * math.cos(slope)) == BODY
        assert self.look(picture, x + 0.02 * math.sin(slope), y - 0.02 * math.cos(slope)) == EARTH
        assert self.look(picture, x - 0.16 * math.sin(slope), y + 0.16 * math.cos(slope)) == GROUND

    @pytest.mark.parametrize("goal", [0.0, 0.45, 0.6])
    def test_the_flag_stands_at_the_goal(self, goal: float) -> None:
        env = MountainCar(1, CPU, 0, goal_position=goal)
        env.reset()
        picture = env.render([0], 480, 360)[0]
        top = 0.45 * math.sin(3 * goal) + 0.55 + 0.22
        assert self.look(picture, goal + 0.03, top - 0.04) == GOAL
        assert self.look(picture, goal - 0.03, top - 0.04) == GROUND

    def test_a_wall_where_the_track_begins(self) -> None:
        env = MountainCar(1, CPU, 0)
        env.reset()
        picture = env.render([0], 480, 360)[0]
        assert self.look(picture, -1.22, 1.2) == SOLID
        assert self.look(picture, -1.18, 1.2) == GROUND


class TestPendulum:
    def look(self, picture: np.ndarray, x: float, y: float) -> Colour:
        return colour_at(picture, (-1.2, -1.2), (1.2, 1.2), x, y)

    def test_angles_go_from_upright_to_the_left(self) -> None:
        tips = {0.0: (0.0, 1.0), math.pi / 2: (-1.0, 0.0), math.pi: (0.0, -1.0), -math.pi / 2: (1.0, 0.0)}
        env = Pendulum(4, CPU, 0)
        place(env, *([angle, 0.0] for angle in tips))
        for number, picture in enumerate(env.render(range(4), 240, 240)):
            seen = [self.look(picture, 0.95 * x, 0.95 * y) == BODY for x, y in tips.values()]
            assert seen == [number == other for other in range(4)]

    def test_gravity_pulls_the_tip_downwards(self) -> None:
        env = Pendulum(1, CPU, 0)
        place(env, [1.0, 0.0])

        def lowest() -> int:
            return int(np.nonzero((env.render([0], 240, 240)[0] == BODY).all(axis=2))[0].max())

        before = lowest()
        for _ in range(12):
            env.step(torch.zeros(1, 1))
        assert lowest() > before + 20

    def test_upright_is_what_counts_as_upright(self) -> None:
        env = Pendulum(1, CPU, 0, max_steps=1)
        place(env, [math.pi, 0.0])
        picture = env.render([0], 240, 240)[0]
        limit = math.acos(0.95)
        for angle, colour in ((0.0, NEAR), (0.9 * limit, NEAR), (-0.9 * limit, NEAR), (1.1 * limit, GROUND)):
            assert self.look(picture, -math.sin(angle), math.cos(angle)) == colour
