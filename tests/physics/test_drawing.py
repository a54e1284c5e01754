"""Pictures of MuJoCo scenes, drawn for real where this machine can, and what they must show."""

import sys
from itertools import product
from unittest.mock import Mock

import mujoco
import numpy as np
import pytest
import torch

from epo_lightning.envs.allegro_kuka import AllegroKuka
from epo_lightning.envs.allegro_kuka.appearance import CAMERA
from epo_lightning.envs.allegro_kuka.cards import CARDS
from epo_lightning.envs.allegro_kuka.robot import GAINS
from epo_lightning.envs.allegro_kuka.scene import build_scene
from epo_lightning.physics.drawing import Marker, SceneDrawing, offscreen_context
from tests.support.physics import mujoco_of

CPU = torch.device("cpu")
WIDTH, HEIGHT = 320, 240


def can_draw() -> bool:
    try:
        offscreen_context(8, 8).free()
    except ValueError:
        return False
    return True


needs_gl = pytest.mark.skipif(not can_draw(), reason="this machine cannot draw")


def allegro(task: str, num_envs: int = 1, objects: str = "cube") -> AllegroKuka:
    env = AllegroKuka(num_envs, CPU, seed=3, task=task, objects=objects, threads=1)
    env.reset()
    return env


def project(model: mujoco.MjModel, points: np.ndarray) -> np.ndarray:
    """(M, 2) column and row at which a pinhole camera sees `points` (M, 3), and (M,) pixels per metre there."""
    camera = model.camera(CAMERA)
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    local = (points - data.cam_xpos[camera.id]) @ data.cam_xmat[camera.id].reshape(3, 3)
    scale = HEIGHT / 2 / np.tan(np.radians(model.cam_fovy[camera.id]) / 2) / -local[:, 2]
    return np.stack([WIDTH / 2 + scale * local[:, 0], HEIGHT / 2 - scale * local[:, 1], scale], axis=1)


@needs_gl
class TestSceneDrawing:
    def test_a_marker_is_where_the_camera_projects_it(self) -> None:
        env = allegro("single_arm_regrasp")
        drawing = SceneDrawing(env.physics.model, WIDTH, HEIGHT, CAMERA)
        snapshot, where = env.physics.snapshot(0), (0.3, -0.1, 1.1)  # in front of everything
        plain, marked = drawing.draw(*snapshot), drawing.draw(*snapshot, [Marker(where, 0.05, (1, 0, 0, 1))])
        assert plain.shape == (HEIGHT, WIDTH, 3)
        assert plain.dtype == np.uint8
        assert plain.std() > 10
        rows, columns = np.nonzero((plain != marked).any(axis=2))
        column, row, scale = project(env.physics.model, np.array([where]))[0]
        assert abs(columns.mean() - column) < 1
        assert abs(rows.mean() - row) < 1
        # a disc of radius 0.05 m
        assert len(rows) == pytest.approx(np.pi * (0.05 * scale) ** 2, rel=0.1)
        red, green, blue = marked[rows, columns].astype(int).mean(axis=0)
        assert red > 2 * max(green, blue)
        assert np.array_equal(drawing.draw(*snapshot), plain)
        drawing.close()
        env.close()

    def test_larger_than_the_scene_asks_for(self) -> None:
        env = allegro("two_arm")
        assert env.render([0], 1400, 1000).shape == (1, 1000, 1400, 3)
        assert env.render([0], 32, 24).shape == (1, 24, 32, 3)
        env.close()

    @pytest.mark.parametrize("size", [(0, 240), (320, 5000)])
    def test_impossible_sizes(self, size: tuple[int, int]) -> None:
        env = allegro("two_arm")
        with pytest.raises(ValueError, match=f"width and height .* got {size[0]} x {size[1]}"):
            env.render([0], *size)
        env.close()


@needs_gl
class TestRender:
    def test_the_goal_is_green_where_it_is(self) -> None:
        env = allegro("single_arm_regrasp", 3)
        goals = np.array([[-0.3, 0.0, 1.0], [0.1, -0.05, 0.9], [0.35, 0.0, 0.95]])
        ids = torch.arange(3)
        env.physics.place_goal(ids, torch.tensor(goals), torch.tensor([[0.0, 0, 0, 1]]).expand(3, 4))
        env.rules.memory.goal_keypoints[:, 0] = torch.tensor(goals)
        spots = project(env.physics.model, goals)[:, :2].round().astype(int)
        pictures = env.render(range(3), WIDTH, HEIGHT).astype(int)
        for picture in range(3):
            for spot in range(3):
                red, green, blue = pictures[picture, spots[spot, 1], spots[spot, 0]]
                assert (green > 1.3 * max(red, blue)) == (picture == spot)
        # the sphere's radius is 1.5 times the tolerance: half of it after the curriculum has halved it
        env.set_curriculum({"tolerance": 0.0375})
        changed = (env.render([1], WIDTH, HEIGHT)[0].astype(int) != pictures[1]).any(axis=2)
        rows, columns = np.nonzero(changed)
        column, row, scale = project(env.physics.model, goals[[1]])[0]
        distance = np.hypot(rows - row, columns - column) / scale
        assert distance.max() == pytest.approx(1.5 * 0.075, abs=0.01)
        env.close()

    def test_the_bucket_s_target_is_five_centimetres_above_its_floor(self) -> None:
        from epo_lightning.envs.allegro_kuka.markers import goal_markers

        env = allegro("single_arm_throw", 2)
        (marker,) = goal_markers(env.rules, env.physics.state, 1)
        floor = env.rules.memory.goal_pos[1] + torch.tensor([0, 0, 0.05])
        assert marker.pos == pytest.approx(floor.tolist())
        assert marker.radius == pytest.approx(1.5 * 0.075)
        env.close()

    def test_keypoints_of_object_and_goal_share_colours(self) -> None:
        from epo_lightning.envs.allegro_kuka.markers import goal_markers

        env = allegro("two_arm", 2)
        state, memory = env.physics.state, env.rules.memory
        # the object in its goal's pose: the dots coincide
        env.physics.place_object(torch.tensor([1]), memory.goal_pos[[1]], memory.goal_quat[[1]])
        physics = mujoco_of(env)
        physics.batch.forward()
        physics._refresh()
        markers = goal_markers(env.rules, state, 1)
        assert len(markers) == 8
        for goal, thing in zip(markers[:4], markers[4:], strict=True):
            assert goal.pos == pytest.approx(thing.pos, abs=1e-5)
            assert goal.rgba == thing.rgba
        assert len({marker.rgba for marker in markers}) == 4
        env.close()

    def test_every_environment_shows_its_own_object(self) -> None:
        env = allegro("single_arm_reorient", 6, objects="all")
        ids, volume = torch.arange(6), env.rules.scales.prod(dim=1)
        pose = torch.tensor([[0.0, -0.1, 0.9]]).expand(6, 3), torch.tensor([[0.0, 0, 0, 1]]).expand(6, 4)
        env.physics.place_object(ids, *pose)
        env.physics.place_goal(ids, pose[0] + torch.tensor([0.0, 0, 9]), pose[1])
        env.rules.memory.goal_keypoints.add_(9)
        pictures = env.render(range(6), WIDTH, HEIGHT).astype(int)
        red = (pictures[..., 0] > 2.5 * pictures[..., 1:].max(axis=-1)).sum(axis=(1, 2))
        assert volume.unique().numel() > 3
        # areas go with the volumes to the power of 2/3, roughly, as shapes differ
        correlation = np.corrcoef(red, volume.numpy() ** (2 / 3))[0, 1]
        assert correlation > 0.8
        for i in range(6):
            model, _ = env.physics.snapshot(i)
            for geom in ("object", "goal"):
                assert model.geom(geom).size == pytest.approx(env.rules.scales[i].numpy() * 0.025)
        env.close()

    def test_looking_changes_nothing(self) -> None:
        seen, unseen = allegro("two_arm", 2), allegro("two_arm", 2)
        actions = torch.rand(20, 2, 46, generator=torch.Generator().manual_seed(0)) * 2 - 1
        for action in actions:
            one, other = seen.step(action), unseen.step(action)
            seen.render([0, 1], 64, 48)
            assert torch.equal(one.obs, other.obs)
            assert torch.equal(one.reward, other.reward)
        assert torch.equal(seen.state_dict()["physics"]["rows"], unseen.state_dict()["physics"]["rows"])
        seen.close()
        unseen.close()


class TestSnapshot:
    def test_it_is_the_present_state(self) -> None:
        env = allegro("single_arm_regrasp", 2)
        env.step(torch.ones(2, 23))
        ids = torch.tensor([1])
        goal, thing = torch.tensor([[0.1, 0.2, 0.9]]), torch.tensor([[-0.1, 0.05, 0.7]])
        turned = torch.tensor([[0.0, 0, 0, 1]])
        env.physics.place_goal(ids, goal, turned)
        env.physics.place_object(ids, thing, turned)
        before = env.state_dict()["physics"]["rows"]
        _, data = env.physics.snapshot(1)
        assert data.body("goal").xpos == pytest.approx(goal[0].numpy())
        assert data.body("object").xpos == pytest.approx(thing[0].numpy())
        assert data.qpos[:23] == pytest.approx(env.physics.state.joint_pos[1].numpy())
        assert torch.equal(env.state_dict()["physics"]["rows"], before)
        env.close()


@pytest.mark.parametrize("task", CARDS)
def test_the_camera_sees_wherever_goals_and_objects_are_drawn(task: str) -> None:
    card = CARDS[task]
    corners = np.array([*product(*card.goal_box), *product(*card.object_box)])
    if card.mirrored:
        corners = np.concatenate([corners, corners * [-1, 1, 1]])
    columns, rows, _ = project(build_scene(card, GAINS["stiff"]), corners).T
    assert columns.min() > 0
    assert columns.max() < WIDTH
    assert rows.min() > 0
    assert rows.max() < HEIGHT


class TestWithoutGL:
    words = r"this machine cannot draw; .*apt-get install libegl1 libgl1-mesa-dri \(MUJOCO_GL='', \w+"

    @pytest.fixture
    def headless(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "platform", "linux")
        monkeypatch.delenv("MUJOCO_GL", raising=False)

    @pytest.mark.usefixtures("headless")
    def test_one_line_names_the_packages(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "mujoco.egl", None)
        env = allegro("two_arm")
        with pytest.raises(ValueError, match=self.words) as caught:
            env.render([0], 32, 24)
        assert "\n" not in str(caught.value)
        env.step(torch.zeros(1, 46))
        env.close()

    @pytest.mark.usefixtures("headless")
    def test_a_driver_that_does_not_start(self, monkeypatch: pytest.MonkeyPatch) -> None:
        class Broken:
            def __init__(self, *size: int) -> None:
                raise AttributeError("'NoneType' object has no attribute 'eglQueryString'")

        class Module:
            GLContext = Broken

        monkeypatch.setitem(sys.modules, "mujoco.egl", Module)
        with pytest.raises(ValueError, match=self.words):
            offscreen_context(8, 8)

    def test_a_context_that_is_none(self, monkeypatch: pytest.MonkeyPatch) -> None:
        # GLFW without a display gives one that does not work
        monkeypatch.setenv("MUJOCO_GL", "glfw")
        monkeypatch.setattr(mujoco, "GLContext", Mock())
        monkeypatch.setattr(mujoco, "MjrContext", Mock(side_effect=mujoco.FatalError("no OpenGL")))
        with pytest.raises(ValueError, match=r"this machine cannot draw; .*MUJOCO_GL='glfw', FatalError: no OpenGL"):
            SceneDrawing(build_scene(CARDS["two_arm"], GAINS["stiff"]), 8, 8, CAMERA)

    @pytest.mark.usefixtures("headless")
    def test_the_user_s_choice_counts(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "mujoco.egl", None)
        monkeypatch.setenv("MUJOCO_GL", "osmesa")
        drawing = Mock()
        chosen = Mock(return_value=drawing)
        monkeypatch.setattr(mujoco, "GLContext", chosen)
        assert offscreen_context(8, 9) is drawing
        chosen.assert_called_once_with(8, 9)
        drawing.make_current.assert_called_once_with()
