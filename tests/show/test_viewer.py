"""The viewer without a browser: time, pushes, geoms and controls."""

import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from typing import Any

import mujoco
import numpy as np
import pytest
import torch

from epo_lightning.envs.allegro_kuka import AllegroKuka
from epo_lightning.envs.allegro_kuka.cards import CARDS, STEP_SECONDS
from epo_lightning.envs.base import StepResult
from epo_lightning.show.playback import Playback
from epo_lightning.show.viewer import HOST
from epo_lightning.show.viewer.loop import FRAME_SECONDS, PULL_LIMIT, Loop, spring
from tests.support.command_line import Cli
from tests.support.sameness import assert_same

pytest.importorskip("viser")
from viser import BoxHandle, GuiButtonHandle, GuiInputHandle, MeshHandle

from epo_lightning.show.viewer.page import ARROW, Page
from epo_lightning.show.viewer.scene import KINDS, STEP_BACK, camera, poses, rgba, shapes

SEED = 3


def playback(task: str = "single_arm_throw", envs: int = 2) -> Playback:
    """Robots that keep still, each with another object; the throw task has no random forces."""
    env = AllegroKuka(envs, torch.device("cpu"), SEED, task=task, threads=1)
    return Playback(env, ["zero"] * envs)


class Clock:
    """Time that passes only when told to; seconds."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def loop(task: str = "single_arm_throw", envs: int = 2) -> tuple[Loop, Clock]:
    clock = Clock()
    return Loop(playback(task, envs), clock), clock


def kuka(loop: Loop) -> AllegroKuka:
    """The environment that is shown."""
    assert isinstance(loop.playback.env, AllegroKuka)
    return loop.playback.env


def run(loop: Loop, clock: Clock, steps: int) -> None:
    """That many steps in real time."""
    for _ in range(steps):
        clock.now += STEP_SECONDS * (1 + 1e-9)
        assert loop.advance() == 1


class TestTime:
    @pytest.mark.parametrize(("speed", "steps"), [(1.0, 30), (0.1, 3), (4.0, 120)])
    def test_half_a_second_at_every_speed(self, speed: float, steps: int) -> None:
        it, clock = loop()
        it.speed = speed
        done = 0
        for _ in range(20):
            clock.now += 0.025 * (1 + 1e-9)
            done += it.advance()
        assert done == steps
        assert it.playback.clock.tolist() == [steps, steps]

    def test_a_slow_machine_drops_what_it_cannot_do_in_a_frame(self, monkeypatch: pytest.MonkeyPatch) -> None:
        it, clock = loop()
        step = it.playback.step

        def slow() -> StepResult:
            clock.now += 0.6 * FRAME_SECONDS
            return step()

        with monkeypatch.context() as patch:
            patch.setattr(it.playback, "step", slow)
            clock.now += 10.0
            assert it.advance() == 2  # the second one ends after the frame
        assert it.advance() == 2  # 1.2 frames at 60 Hz are 2.4 steps: nothing of the ten seconds
        assert it.advance() == 0

    def test_the_reached_speed_is_told(self) -> None:
        it, clock = loop()
        it.speed = 2.0
        for _ in range(11):
            clock.now += 0.1
            it.advance()
        assert it.reached_speed == pytest.approx(2.0, abs=0.1)
        assert it.readout()[-1] == f"speed {it.reached_speed:.2f}x of 2.0x"

    def test_pause_stops_the_time_and_continuing_does_not_catch_up(self) -> None:
        it, clock = loop()
        it.pause(True)
        clock.now += 5.0
        assert it.advance() == 0
        assert it.readout()[-1] == "paused"
        it.pause(False)
        clock.now += 2.5 * STEP_SECONDS
        assert it.advance() == 2

    def test_single_steps_pause(self) -> None:
        it, clock = loop()
        it.step_once()
        clock.now += 1.0
        assert [it.advance(), it.advance()] == [1, 0]
        assert it.paused
        it.step_once()
        it.step_once()
        assert it.advance() == 2

    def test_restart_begins_new_episodes(self) -> None:
        it, clock = loop()
        run(it, clock, 3)
        it.push(torch.tensor([0.0, 0.0, 1.0]), 5.0)
        it.restart()
        assert it.playback.clock.tolist() == [0, 0]
        run(it, clock, 1)
        assert it.force is None

    def test_the_readout_is_that_of_the_environment_shown(self) -> None:
        it, clock = loop()
        run(it, clock, 30)
        it.playback.successes[1] = 4
        it.show(1)
        assert it.readout()[:5] == ["zero", "4 successes", *it.playback.captions()[1].split(" · ")[2:]]
        assert "tolerance 7.5 cm" in it.readout()
        assert "0.5 s" in it.readout()


def let_fall(it: Loop) -> None:
    """Put the objects into the air beside the table."""
    everyone = torch.arange(it.physics.num_envs)
    pos, quat = torch.tensor([0.0, -0.8, 2.0]), torch.tensor([0.0, 0.0, 0.0, 1.0])
    it.physics.place_object(everyone, pos.expand(len(everyone), 3), quat.expand(len(everyone), 4))


class TestPush:
    UP = torch.tensor([0.0, 0.0, 1.0])

    def velocity(self, it: Loop, env: int) -> torch.Tensor:
        return it.physics.state.object_frame[env, 4:7].clone()

    @pytest.mark.parametrize("task", ["single_arm_throw", "single_arm_regrasp"])
    def test_a_push_adds_its_impulse_over_the_mass_and_is_gone_afterwards(self, task: str) -> None:
        """2 weights for 0.1 s: dv = F t / m = 2 * 9.81 * 0.1 = 1.962 m/s, beside the task's own random forces."""
        (pushed, clock), (free, other) = loop(task), loop(task)
        for it in (pushed, free):
            let_fall(it)
            kuka(it).rules.memory.force_probability.fill_(0.5)
        pushed.show(1)
        pushed.push(self.UP, 2.0)
        for steps, gained in ((3, 0.981), (3, 1.962), (6, 1.962)):
            run(pushed, clock, steps)
            run(free, other, steps)
            difference = self.velocity(pushed, 1) - self.velocity(free, 1)
            torch.testing.assert_close(difference, gained * self.UP, atol=2e-4, rtol=0)
            assert torch.equal(self.velocity(pushed, 0), self.velocity(free, 0))
        assert pushed.force is None

    def test_the_force_is_told_in_newtons(self) -> None:
        it, clock = loop()
        it.show(1)
        it.push(self.UP, 2.0)
        run(it, clock, 1)
        mass = 0.05 * float(kuka(it).rules.scales[1].prod())
        assert it.force is not None
        assert it.force.tolist() == pytest.approx([0, 0, 2 * 9.81 * mass], rel=1e-5)

    def test_a_push_waits_while_time_stands_still(self) -> None:
        it, _ = loop()
        it.pause(True)
        let_fall(it)
        it.push(self.UP, 2.0)
        it.advance()
        before = self.velocity(it, 0)
        it.step_once()
        it.advance()
        # one step: 2 weights up, 1 down
        assert (self.velocity(it, 0) - before)[2] == pytest.approx(9.81 / 60, abs=2e-4)

    def test_without_a_push_the_results_are_those_of_the_bare_playback(self) -> None:
        (it, clock), bare = loop("single_arm_regrasp"), playback("single_arm_regrasp")
        run(it, clock, 20)
        for _ in range(20):
            bare.step()
        assert_same(it.playback.env.state_dict(), bare.env.state_dict())

    def test_a_push_leaves_no_trace_in_a_state_that_is_loaded_after_it(self) -> None:
        (it, clock), bare = loop(), playback()
        state = it.playback.env.state_dict()
        it.push(self.UP, 5.0)
        run(it, clock, 2)
        it.physics.push(0, self.UP)  # not yet used
        it.playback.env.load_state_dict(state)
        zeros = torch.zeros(2, it.playback.env.spec.act_dim)
        for _ in range(5):
            it.playback.env.step(zeros)
            bare.env.step(zeros)
        assert_same(it.playback.env.state_dict(), bare.env.state_dict())

    def test_the_spring_of_the_mouse(self) -> None:
        """F = m (w^2 s - 2 w v) with m = 0.1, w = 15: 0.1 * 225 * 0.01 = 0.225, 0.1 * 30 * 0.1 = 0.3."""
        force = spring(torch.tensor([0.01, 0.0, 0.0]), torch.tensor([0.0, 0.1, 0.0]), 0.1)
        assert force.tolist() == pytest.approx([0.225, -0.3, 0.0])
        far = spring(torch.tensor([0.0, -9.0, 0.0]), torch.zeros(3), 0.1)
        assert far.tolist() == pytest.approx([0, -PULL_LIMIT * 0.981, 0])

    def test_a_dragged_object_hangs_a_little_below_the_mouse(self) -> None:
        """Its weight stretches the spring: m g = m w^2 s, s = 9.81 / 225 = 4.36 cm."""
        it, clock = loop()
        target = torch.tensor([0.3, -0.6, 1.2])
        it.drag(target)
        run(it, clock, 90)
        torch.testing.assert_close(it.physics.state.object_pos[0], target - 0.0436 * self.UP, atol=1e-3, rtol=0)
        it.drag(None)
        run(it, clock, 1)
        assert it.force is None

    def test_another_environment_is_not_pushed_by_what_began_in_this_one(self) -> None:
        it, clock = loop()
        it.push(self.UP, 2.0)
        it.drag(torch.zeros(3))
        run(it, clock, 1)
        assert it.force is not None
        it.show(1)
        assert it.force is None
        run(it, clock, 1)
        assert it.force is None

    def test_an_engine_that_cannot_push_says_so(self) -> None:
        from epo_lightning.physics.base import Physics

        with pytest.raises(ValueError, match="does not implement push"):
            Physics.push(object(), 0, self.UP)  # type: ignore[arg-type]


class TestScene:
    @pytest.mark.parametrize("task", sorted(CARDS))
    def test_shapes_and_poses_are_mujocos(self, task: str) -> None:
        it, clock = loop(task)
        run(it, clock, 5)
        it.show(1)
        drawn, (positions, quats) = shapes(it.model), poses(it.data)
        assert len(drawn) == it.model.ngeom
        assert [shape.kind for shape in drawn] == [KINDS[int(kind)] for kind in it.model.geom_type]
        np.testing.assert_array_equal([shape.size for shape in drawn], it.model.geom_size)
        assert len({shape.name for shape in drawn}) == len(drawn)
        np.testing.assert_array_equal(positions, it.data.geom_xpos)
        for quat, matrix in zip(quats, it.data.geom_xmat, strict=True):
            back = np.zeros(9)
            mujoco.mju_quat2Mat(back, quat)
            np.testing.assert_allclose(back, matrix, atol=1e-9)

    def test_a_picture_on_a_material_counts_as_its_mean_color(self) -> None:
        model = loop()[0].model
        ground = model.geom("ground").id
        assert model.geom_matid[ground] >= 0
        texture = model.mat_texid[model.geom_matid[ground], mujoco.mjtTextureRole.mjTEXROLE_RGB]
        mean = np.mean([model.tex_data[model.tex_adr[texture] + part :: 3][:4096].mean() for part in range(3)]) / 255
        assert np.mean(rgba(model, ground)[:3]) == pytest.approx(mean, abs=1e-3)
        assert rgba(model, model.geom("object").id) == pytest.approx(model.geom("object").rgba.tolist())

    def test_the_camera_looks_where_mujocos_does_from_farther_back(self) -> None:
        it, _ = loop()
        view, origin = camera(it.model, it.data), it.data.cam_xpos[0]
        np.testing.assert_allclose(view.position - view.look_at, STEP_BACK * (origin - view.look_at))
        direction = (view.look_at - view.position) / np.linalg.norm(view.look_at - view.position)
        np.testing.assert_allclose(direction, -it.data.cam_xmat[0].reshape(3, 3)[:, 2], atol=1e-9)
        assert (it.data.body("object").xpos - view.look_at) @ direction == pytest.approx(0, abs=1e-9)
        assert view.angle == pytest.approx(np.radians(45))

    def test_a_geom_that_cannot_be_drawn_is_named(self) -> None:
        world = '<geom name="egg" type="ellipsoid" size=".1 .2 .3"/>'
        model = mujoco.MjModel.from_xml_string(f"<mujoco><worldbody>{world}</worldbody></mujoco>")
        with pytest.raises(ValueError, match="geom egg of this scene is none of plane, sphere, capsule"):
            shapes(model)


class ClockedPage(Page):
    """Whose time passes only when told to."""

    clock: Clock


def use(handle: GuiInputHandle[Any] | GuiButtonHandle, value: object) -> None:
    """Press or set a control, as the browser does."""
    handle.value = value  # type: ignore[misc]  # viser's type has no setter


@pytest.fixture
def page() -> Iterator[ClockedPage]:
    it, clock = loop()
    page = ClockedPage(it, HOST, 0)
    page.clock = clock
    yield page
    page.close()


class TestPage:
    def geom(self, page: Page, name: str) -> BoxHandle:
        handle = page._nodes.geoms[page.loop.model.geom(name).id]
        assert isinstance(handle, BoxHandle)
        return handle

    def test_nodes_have_the_size_of_the_environment_shown(self, page: ClockedPage) -> None:
        half = 0.025 * kuka(page.loop).rules.scales
        assert self.geom(page, "object").dimensions == pytest.approx((2 * half[0]).tolist())
        old = page._nodes
        use(page.agent, "1: zero")
        page.update()
        assert page.loop.env == 1
        assert self.geom(page, "object").dimensions == pytest.approx((2 * half[1]).tolist())
        assert all(handle._impl.removed for handle in old.geoms)

    def test_nodes_lie_where_the_geoms_are(self, page: ClockedPage) -> None:
        before = self.geom(page, "object").position.copy()
        page.clock.now += 0.1
        page.update()
        data = page.loop.data
        for handle, position in zip(page._nodes.geoms, data.geom_xpos, strict=True):
            np.testing.assert_allclose(handle.position, position, atol=1e-6)
        assert self.geom(page, "object").position[2] < before[2]  # it falls

    def test_capsules_are_as_long_as_mujocos(self, page: ClockedPage) -> None:
        model = page.loop.model
        for handle, kind, size in zip(page._nodes.geoms, model.geom_type, model.geom_size, strict=True):
            if KINDS[int(kind)] == "capsule":
                assert isinstance(handle, MeshHandle)
                radius, half = size[:2]
                np.testing.assert_allclose(np.abs(handle.vertices).max(axis=0), [radius, radius, radius + half], 1e-4)

    def test_the_region_that_counts_as_near_is_shown(self, page: ClockedPage) -> None:
        (marker,) = page._nodes.markers
        assert marker.radius == pytest.approx(1.5 * 0.075)
        goal = kuka(page.loop).rules.memory.goal_keypoints[0, 0]
        np.testing.assert_allclose(marker.position, goal, atol=1e-6)
        page.loop.playback.env.set_curriculum({"tolerance": 0.02})
        page.loop.refresh()
        page.update()
        assert marker.radius == pytest.approx(0.03)

    def test_buttons_do_what_they_say(self, page: ClockedPage) -> None:
        use(page.pause, True)
        page.update()
        assert (page.loop.paused, page.pause.label) == (True, "Continue")
        use(page.step, True)
        page.update()
        assert page.loop.playback.clock.tolist() == [1, 1]
        use(page.pause, True)
        page.update()
        assert (page.loop.paused, page.pause.label) == (False, "Pause")
        use(page.speed, 2.0)
        page.update()
        assert page.loop.speed == 2.0
        use(page.restart, True)
        page.update()
        assert page.loop.playback.clock.tolist() == [0, 0]

    def test_a_push_shows_its_arrow(self, page: ClockedPage) -> None:
        assert not page._arrow.visible
        use(page.direction, "-y")
        use(page.strength, 3.0)
        use(page.push, True)
        page.clock.now += 1.5 * STEP_SECONDS
        page.update()
        newtons = 3 * 9.81 * 0.05 * float(kuka(page.loop).rules.scales[0].prod())
        assert page.loop.force is not None
        assert page.loop.force.tolist() == pytest.approx([0, -newtons, 0], rel=1e-5)
        assert page._arrow.visible
        start, end = page._arrow.points[0]
        np.testing.assert_allclose(start, page.loop.data.body("object").xpos, atol=1e-6)
        np.testing.assert_allclose(end - start, [0, -3 * ARROW, 0], atol=1e-6)
        page.clock.now += 0.2
        page.update()
        assert not page._arrow.visible


class TestCommand:
    def test_it_serves_a_page_until_ctrl_c(self, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
        def look(page: Page) -> None:
            with urllib.request.urlopen(page.address, timeout=10) as answer:
                assert b"<html" in answer.read()
            raise KeyboardInterrupt

        monkeypatch.setattr(Page, "run", look)
        outcome = cli("view", "--config", "single_arm_regrasp", "--policy", "random", "--port", "0")
        assert outcome.code == 0, outcome.err
        assert f"Open http://{HOST}:" in outcome.out

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--config", "quickstart", "--policy", "zero"], "view shows tasks that run in MuJoCo, such as"),
            (["--config", "single_arm_throw"], "--ckpt_path is missing; or let --policy"),
            (["--config", "single_arm_throw", "--policy", "zero", "--port", "70000"], "--port 70000 cannot be used"),
        ],
    )
    def test_mistakes_are_one_line(self, cli: Cli, arguments: list[str], message: str) -> None:
        outcome = cli("view", *arguments)
        assert outcome.code == 2
        assert outcome.err.startswith(f"error: {message}")
        assert outcome.err.count("\n") == 1

    def test_a_port_in_use_is_one_line(self, cli: Cli) -> None:
        with socket.socket() as other:
            other.bind((HOST, 0))
            other.listen()
            port = other.getsockname()[1]
            outcome = cli("view", "--config", "single_arm_throw", "--policy", "zero", "--port", port)
        assert outcome.code == 2
        assert outcome.err == (
            f"error: --port {port} cannot be used (Address already in use): choose another one, or 0 for any\n"
        )

    def test_the_command_line_does_not_load_the_web_page(self) -> None:
        code = "import sys, epo_lightning.cli.shows; print([m for m in ('viser', 'trimesh') if m in sys.modules])"
        result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
        assert result.stdout.strip() == "[]", result.stderr

    def test_a_missing_viser_is_one_line(self, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
        outcome = cli("view", "--config", "single_arm_throw", "--policy", "zero")
        assert (outcome.code, outcome.err) == (2, "error: view needs viser: pip install 'epo-lightning[viewer]'\n")
