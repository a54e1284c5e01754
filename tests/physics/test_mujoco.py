"""MuJoCo engine: kinematics, objects, forces, resets, failures, threads, saved states."""

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from epo_lightning.envs.allegro_kuka.cards import CARDS, card
from epo_lightning.envs.allegro_kuka.objects import half_sizes, masses, object_scales
from epo_lightning.envs.allegro_kuka.robot import GAINS
from epo_lightning.envs.allegro_kuka.scene import build_scene
from epo_lightning.physics.mujoco import MujocoPhysics
from epo_lightning.physics.threads import default_threads

UPRIGHT = torch.tensor([0.0, 0.0, 0.0, 1.0])
G = 9.81
Point = tuple[float, float, float]
Points = dict[str, Point | tuple[Point, ...]]


@dataclass
class Setup:
    """An engine with what it was made of."""

    physics: MujocoPhysics
    default: torch.Tensor
    mass: torch.Tensor
    half: torch.Tensor

    def put(
        self,
        pos: Point = (0.35, 0.0, 0.63),
        joints: torch.Tensor | None = None,
        ids: torch.Tensor | None = None,
    ) -> None:
        """Reset to the default pose with the object at `pos`, upright."""
        ids = torch.arange(self.physics.num_envs) if ids is None else ids
        joints = self.default if joints is None else joints
        rows = len(ids)
        self.physics.reset(
            ids,
            joints.expand(rows, -1),
            torch.zeros(rows, len(self.default)),
            torch.tensor(pos).expand(rows, 3),
            UPRIGHT.expand(rows, 4),
        )


def setup(task: str = "two_arm", num_envs: int = 4, threads: int = 1, gains: str = "stiff", first: int = 0) -> Setup:
    """An engine with the objects `first` and following."""
    rules = card(task)
    scales = object_scales("all", first + num_envs, 0)[first:]
    half, mass = half_sizes(scales), masses(scales)
    model = build_scene(rules, GAINS[gains])
    physics = MujocoPhysics(model, num_envs, rules.arms, half, mass, threads=threads)
    default = torch.tensor(rules.arm_pose + (0.0,) * 16).repeat(rules.arms)
    return Setup(physics, default, mass.float(), half.float())


# wrist origin is not part of the state: the model's data tells it
SINGLE: Points = {
    "palm": (0.0140, 0.0845, 0.6920),
    "tips": (
        (0.0690, -0.1009, 0.6836),
        (0.0115, -0.1037, 0.6831),
        (-0.0460, -0.1008, 0.6834),
        (0.1950, 0.1353, 0.7280),
    ),
    "link7": (-0.0001, 0.2420, 0.7235),
}
TWO: Points = {
    "palm": (-0.4706, 0.0140, 0.7533),
    "tips": (
        (-0.2880, 0.0690, 0.7862),
        (-0.2851, 0.0115, 0.7865),
        (-0.2880, -0.0460, 0.7860),
        (-0.5281, 0.1950, 0.7771),
    ),
    "link7": (-0.6311, -0.0001, 0.7490),
}


@pytest.mark.parametrize(("task", "expected"), [("single_arm_regrasp", SINGLE), ("two_arm", TWO)])
def test_default_pose_reaches_the_known_points(task: str, expected: Points) -> None:
    s = setup(task, 1)
    s.put()
    state = s.physics.state
    link7 = torch.from_numpy(s.physics.batch.get_data(0).body("link7_0").xpos).float()
    for measured, value in ((state.palm_pos[0, 0], "palm"), (state.tip_pos[0, 0], "tips"), (link7, "link7")):
        assert (measured - torch.tensor(expected[value])).abs().max() < 1e-3, value
    if task == "two_arm":  # arm 1 is arm 0 turned by half a turn about the vertical
        mirror = torch.tensor([-1.0, -1.0, 1.0])
        assert (state.tip_pos[0, 1] - state.tip_pos[0, 0] * mirror).abs().max() < 1e-5


def test_bent_finger_and_zero_pose() -> None:
    s = setup("single_arm_regrasp", 1)
    bent = s.default.clone()
    for finger in range(4):
        bent[7 + 4 * finger + 1 : 7 + 4 * finger + 4] = 0.8
    s.put(joints=bent)
    assert (s.physics.state.tip_pos[0, 0, 1] - torch.tensor([0.0116, 0.0527, 0.5975])).abs().max() < 1e-3
    s.put(joints=torch.zeros(23))  # base at (0, 0.8, 0)
    assert (s.physics.state.palm_pos[0, 0] - torch.tensor([0.0, 0.78, 1.381])).abs().max() < 1e-3


def test_wrist_velocity_and_quaternion_order() -> None:
    s = setup("two_arm", 1)
    speed = torch.zeros(1, 46)
    speed[0, 0] = 1.0  # first joint of arm 0 turns about the vertical through its base at x = -1.1
    s.physics.reset(torch.tensor([0]), s.default[None], speed, torch.tensor([[0.35, 0, 0.7]]), UPRIGHT[None])
    quat, linear, angular = s.physics.state.wrist[0, 0].split([4, 3, 3])
    assert torch.allclose(angular, torch.tensor([0.0, 0.0, 1.0]), atol=1e-5)
    # v = omega x r with r = (-0.6311 + 1.1, 0, .)
    assert torch.allclose(linear, torch.tensor([0.0, 0.4689, 0.0]), atol=1e-3)
    assert abs(quat.norm() - 1) < 1e-5
    assert torch.equal(s.physics.state.object_frame[0, :4], UPRIGHT)


def test_every_environment_has_its_own_cuboid() -> None:
    s = setup(num_envs=6)
    s.put(pos=(0.35, 0.0, 0.53 + 0.16))
    for _ in range(90):
        s.physics.step(s.default.expand(6, -1))
    height = s.physics.state.object_pos[:, 2] - 0.53
    resting = (height - s.half[:, 2]).abs() < 3e-3
    toppled = ((height[:, None] - s.half).abs() < 3e-3).any(dim=1)
    assert resting.sum() >= 3
    assert toppled.all()
    assert s.half[:, 2].unique().numel() > 1
    for env in (0, 5):
        assert s.physics.batch.get_model(env).body("object").mass[0] == pytest.approx(s.mass[env].item())


def test_force_and_gravity_move_the_object_and_damping_slows_its_spin() -> None:
    s = setup(num_envs=3)
    s.put(pos=(0.0, 0.0, 2.0))
    joints = s.physics.model.nu
    s.physics.batch.bind("qvel")[:, joints + 5] = 4.0
    force = torch.tensor([[0.3, 0.0, 0.0], [0.0, -0.3, 0.0], [0.0, 0.0, 0.0]])
    steps = 12
    for _ in range(steps):
        s.physics.step(s.default.expand(3, -1), force)
    time = steps / 60
    linear, angular = s.physics.state.object_frame[:, 4:7], s.physics.state.object_frame[:, 7:]
    expected = force / s.mass[:, None] * time - torch.tensor([0.0, 0.0, G * time])
    assert torch.allclose(linear, expected, atol=2e-3)
    decay = torch.exp(torch.tensor(-0.5 * time))
    assert torch.allclose(angular[:, 2], 4 * decay.expand(3), rtol=2e-3)


def test_robot_holds_its_pose_without_gravity_sag() -> None:
    s = setup(num_envs=1)
    s.put()
    for _ in range(60):
        s.physics.step(s.default[None])
    moved = (s.physics.state.joint_pos[0] - s.default).abs()
    moved[[19, 42]] = 0  # thumb joint 0 begins outside its limit and is pushed in
    assert moved.max() < 0.01


def run(s: Setup, steps: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        noise = torch.randn(s.physics.num_envs, 46, generator=generator)
        s.physics.step(s.default + 0.3 * noise, torch.full((s.physics.num_envs, 3), 0.05))
    state = s.physics.state
    return torch.cat([state.joint_pos, state.joint_vel, state.tip_pos.flatten(1), state.object_frame], dim=1)


def grip(s: Setup, rows: slice = slice(None), steps: int = 40) -> torch.Tensor:
    """All of the engine's numbers after closing a trembling hand about the object, of the environments `rows` of 8."""
    s.put()
    palm, tips = s.physics.state.palm_pos[0, 0], s.physics.state.tip_pos[0, 0]
    under = (tips[:3].mean(dim=0) + palm) / 2 - torch.tensor([0.0, 0.0, 0.04])
    s.put(pos=tuple(under.tolist()))
    fingers = torch.tensor([0.0, 1.2, 1.2, 1.2] * 3 + [1.2, 0.0, 0.8, 0.8])
    closed = torch.cat([s.default[:7], fingers]).repeat(len(s.default) // 23)
    generator = torch.Generator().manual_seed(3)
    for _ in range(steps):
        targets = closed + 0.05 * torch.randn(8, len(closed), generator=generator)
        force = 0.1 * torch.randn(8, 3, generator=generator)
        s.physics.step(targets[rows], force[rows])
    fields = [torch.from_numpy(s.physics.batch.state.copy()), *(f.flatten(1).double() for f in s.physics.state)]
    return torch.cat(fields, dim=1)


def held(s: Setup) -> list[bool]:
    """Whether the object touches a robot, in every environment."""
    model, data = s.physics.model, [s.physics.batch.get_data(env) for env in range(s.physics.num_envs)]
    thing, base = model.geom("object").id, model.body("base_0").id
    robot = {g for g in range(model.ngeom) if model.body_rootid[model.geom_bodyid[g]] == base}
    return [any(thing in pair and robot & set(pair) for pair in each.contact.geom.tolist()) for each in data]


@pytest.mark.parametrize("task", list(CARDS))
def test_results_do_not_depend_on_the_number_of_threads(task: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("epo_lightning.physics.threads.cores", lambda: 3)
    one = setup(task, num_envs=8)
    expected = grip(one)
    assert sum(held(one)) >= 1
    for threads in (2, 3):
        assert torch.equal(grip(setup(task, num_envs=8, threads=threads)), expected)


@pytest.mark.parametrize("task", list(CARDS))
def test_results_do_not_depend_on_the_split_over_engines(task: str) -> None:
    whole = setup(task, num_envs=8, threads=2)
    expected = grip(whole)
    halves = torch.cat([grip(setup(task, num_envs=4, first=n), slice(n, n + 4)) for n in (0, 4)])
    own = whole.physics.batch.state.shape[1]
    assert torch.equal(halves[:, :own], expected[:, :own])  # MuJoCo steps one world at a time,
    torch.testing.assert_close(halves, expected, rtol=1e-5, atol=1e-5)  # torch reads whole batches


def test_free_blocks_are_read_in_the_world_frame() -> None:
    s = setup("two_arm_partition", num_envs=2)
    s.put()
    start = torch.tensor([0, 0, 0.68, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0])
    assert s.physics.state.blocks.shape == (2, 1, 13)
    assert torch.allclose(s.physics.state.blocks, start.expand(2, 1, 13), atol=1e-6)
    # block of environment 1: far above, a quarter turn about x, its own y axis is the world's z
    half = 0.5**0.5
    s.physics.batch.bind("qpos")[1, 53:60] = [0.1, 0.2, 2.0, half, half, 0, 0]
    s.physics.batch.bind("qvel")[1, 52:58] = [0.3, 0.4, 0.5, 0, 1.5, 0]
    s.physics.step(s.default.expand(2, -1))
    pos, quat, linear, angular = s.physics.state.blocks[1, 0].split([3, 4, 3, 3])
    # two steps of 1/120 s, velocity first: v = v0 - g t, z = z0 + v0 t - g (1 + 2) / 120^2
    assert linear.tolist() == pytest.approx([0.3, 0.4, 0.5 - G / 60], abs=1e-4)
    assert pos.tolist() == pytest.approx([0.1 + 0.3 / 60, 0.2 + 0.4 / 60, 2 + 0.5 / 60 - 3 * G / 120**2], abs=1e-4)
    assert angular.tolist() == pytest.approx([0, 0, 1.5], abs=0.02)
    assert quat.tolist() == pytest.approx([half, 0, 0, half], abs=0.02)
    assert torch.allclose(s.physics.state.blocks[0, 0, :7], start[:7], atol=2e-3)  # the other one stands
    assert setup(num_envs=3).physics.state.blocks.shape == (3, 0, 13)


def test_a_block_that_blows_up_is_told() -> None:
    s = setup("two_arm_partition", num_envs=2)
    s.put()
    s.physics.batch.bind("qvel")[1, 52] = 5000.0
    s.physics.step(s.default.expand(2, -1))
    assert s.physics.blown_up.tolist() == [False, True]
    assert s.physics.state.blocks.abs().max() <= 1000


def test_saved_state_continues_to_the_bit() -> None:
    first = setup(num_envs=5)
    first.put()
    run(first, 30)
    saved = first.physics.state_dict()
    expected = run(first, 30, seed=1)
    second = setup(num_envs=5, threads=2)
    second.physics.load_state_dict(saved)
    assert torch.equal(run(second, 30, seed=1), expected)
    # the solver's warm start is part of it, and there was contact to warm it
    third = setup(num_envs=5)
    third.physics.load_state_dict(saved)
    assert (third.physics.batch.bind("qacc_warmstart") != 0).all()
    assert (first.physics.batch.bind("ncon") > 0).any()


def test_wrong_states_are_refused() -> None:
    with pytest.raises(ValueError, match=r"data\.num_envs must be 5"):
        setup(num_envs=4).physics.load_state_dict(setup(num_envs=5).physics.state_dict())
    with pytest.raises(ValueError, match=r"data\.env\.init_args\.task"):
        setup(num_envs=4).physics.load_state_dict(setup("two_arm_partition", 4).physics.state_dict())
    with pytest.raises(ValueError, match=r"data\.env\.init_args\.threads"):
        setup(threads=0)


@pytest.mark.parametrize("poison", [float("nan"), 1e12])
def test_blown_up_environment_is_told_and_the_others_do_not_notice(
    poison: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    clean, dirty = setup(num_envs=4), setup(num_envs=4)
    for s in (clean, dirty):
        s.put()
        run(s, 5)
    dirty.physics.batch.bind("qpos")[2, 3] = poison
    expected, got = run(clean, 1), run(dirty, 1)
    assert dirty.physics.blown_up.tolist() == [False, False, True, False]
    assert not clean.physics.blown_up.any()
    assert got.isfinite().all()
    others = [0, 1, 3]
    assert torch.equal(got[others], expected[others])
    run(dirty, 1)
    assert dirty.physics.blown_up[2]  # until it is reset
    dirty.put(ids=torch.tensor([2]))
    assert torch.equal(dirty.physics.state.joint_pos[2], dirty.default)
    run(dirty, 5)
    assert not dirty.physics.blown_up.any()
    assert not list(tmp_path.iterdir())  # no log file in the working directory


def test_runaway_but_finite_counts_as_blown_up() -> None:
    s = setup(num_envs=2)
    s.put(pos=(0.0, 0.0, 2.0))
    s.physics.batch.bind("qvel")[1, s.physics.model.nu + 4] = 5000.0
    s.physics.step(s.default.expand(2, -1))
    assert s.physics.blown_up.tolist() == [False, True]


def test_reset_touches_only_its_environments() -> None:
    s = setup("two_arm_partition", num_envs=3)
    s.put()
    run(s, 20)
    before = [field.clone() for field in s.physics.state]
    block = s.physics.batch.bind("qpos")[:, 53:56]
    block[:] = 1.0
    s.put(ids=torch.tensor([1]))
    for old, new in zip(before, s.physics.state, strict=True):
        assert torch.equal(old[[0, 2]], new[[0, 2]])
    assert torch.equal(s.physics.state.joint_pos[1], s.default)
    # the partition stands again, where it was reset
    assert block[1].tolist() == pytest.approx([0, 0, 0.68])
    assert block[0].tolist() == [1, 1, 1]


def test_placed_object_and_goal() -> None:
    s = setup(num_envs=2)
    s.put()
    pos, quat = torch.tensor([[0.1, 0.2, 1.5]]), torch.tensor([[0.6, 0.0, 0.0, 0.8]])
    s.physics.place_object(torch.tensor([1]), pos, quat)
    s.physics.place_goal(torch.tensor([1]), pos, quat)
    s.physics.step(s.default.expand(2, -1))
    assert torch.allclose(s.physics.state.object_pos[1], pos[0], atol=3e-3)
    assert torch.allclose(s.physics.state.object_frame[1, :4], quat[0], atol=1e-4)
    assert s.physics.batch.bind("mocap_quat")[1, 0].tolist() == pytest.approx([0.8, 0.6, 0.0, 0.0])


def test_default_threads_are_shared_between_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr("epo_lightning.physics.threads.cpu_quota", lambda: None)
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    assert default_threads() == 8
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "3")
    assert default_threads() == 2
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "16")
    assert default_threads() == 1


def test_hands_of_different_arms_collide() -> None:
    s = setup(num_envs=1)
    model = s.physics.model
    left, right = ([g for g in range(model.ngeom) if model.geom_contype[g] & bit] for bit in (4, 8))
    assert left
    assert len(left) == len(right)
    for a in left:
        assert any(model.geom_contype[a] & model.geom_conaffinity[b] for b in right)
