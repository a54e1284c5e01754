"""The scenes: what stands where, how heavy it is, and what collides with what."""

import mujoco
import numpy as np
import pytest
import torch

from epo_lightning.envs.allegro_kuka import AllegroKuka
from epo_lightning.envs.allegro_kuka.cards import CARDS, card
from epo_lightning.envs.allegro_kuka.robot import GAINS
from epo_lightning.envs.allegro_kuka.scene import build_scene
from tests.support.physics import mujoco_of


def scene(task: str, gains: str = "stiff") -> mujoco.MjModel:
    return build_scene(card(task), GAINS[gains])


def span(model: mujoco.MjModel, geom: str) -> list[list[float]]:
    """Lowest and highest x, y, z of a box."""
    thing = model.geom(geom)
    return [[round(float(c - s), 6), round(float(c + s), 6)] for c, s in zip(thing.pos, thing.size, strict=True)]


@pytest.mark.parametrize("task", list(CARDS))
def test_sizes_limits_and_table(task: str) -> None:
    model, rules = scene(task), card(task)
    free = 2 if task == "two_arm_partition" else 1
    assert (model.nu, model.nq, model.nv) == (rules.joints, rules.joints + 7 * free, rules.joints + 6 * free)
    assert model.jnt_range[0].tolist() == pytest.approx([-2.96706, 2.96706])
    assert model.jnt_range[7].tolist() == pytest.approx([-0.55849, 0.55849])
    assert model.jnt_range[19:23].tolist() == [
        pytest.approx(limits)
        for limits in ([0.27924, 1.57075], [-0.33160, 1.15188], [-0.27924, 1.72783], [-0.27924, 1.76273])
    ]
    assert np.allclose(model.actuator_ctrlrange, model.jnt_range[: model.nu])
    assert [model.joint(i).name for i in (0, 7, 11, 15, 19)] == [
        "arm1_0",
        "index0_0",
        "middle0_0",
        "ring0_0",
        "thumb0_0",
    ]
    width = 0.2375 if rules.arms == 1 else 0.55
    assert span(model, "table") == [[-width, width], [-0.2, 0.2], [0.23, 0.53]]
    assert model.body_gravcomp[model.body("link7_0").id] == 1
    assert model.body_gravcomp[model.body("object").id] == 0
    assert model.opt.timestep == pytest.approx(1 / 120)


def test_robot_mass() -> None:
    model = scene("single_arm_regrasp")
    robot = model.body_mass.sum() - model.body("object").mass[0]
    assert robot == pytest.approx(28.9, abs=0.1)
    assert model.body("link7_0").subtreemass[0] == pytest.approx(4.94, abs=0.02)


def test_gains_and_torque_limits() -> None:
    for name, kp, kv, armature in (("stiff", 600, 60, 0.1), ("original", 40, 5, 0.1)):
        model = scene("two_arm", name)
        assert model.actuator_gainprm[0, 0] == kp
        assert model.actuator_biasprm[0, 1:3].tolist() == [-kp, -kv]
        assert model.dof_armature[0] == armature
        assert model.actuator_forcerange[[0, 7]].tolist() == [[-300, 300], [-0.35, 0.35]]
        assert (model.dof_damping == 0).all()  # damping sits in the drives, inside the torque limit


def test_obstacles() -> None:
    hole = scene("two_arm_hole")
    assert span(hole, "obstacle_0") == [[-0.025, 0.025], [-0.2, 0.2], [0.5, 0.8]]
    assert span(hole, "obstacle_1") == [[-0.025, 0.025], [-0.2, 0.2], [1.0, 2.0]]
    assert span(scene("two_arm_barrier"), "obstacle_0") == [[-0.025, 0.025], [-0.2, 0.2], [0.5, 2.0]]
    partition = scene("two_arm_partition")
    body = partition.body("obstacle_0")
    assert body.mass[0] == pytest.approx(0.5)
    assert body.pos.tolist() == pytest.approx([0, 0, 0.68])
    assert partition.geom("obstacle_0").size.tolist() == pytest.approx([0.025, 0.2, 0.15])


def collide(model: mujoco.MjModel, a: str, b: str) -> bool:
    """Whether any geom of body `a` can meet any of body `b`."""
    first, second = ([g for g in range(model.ngeom) if model.geom_bodyid[g] == model.body(n).id] for n in (a, b))
    bits, meets = model.geom_contype, model.geom_conaffinity
    return any(bits[i] & meets[j] or bits[j] & meets[i] for i in first for j in second)


def test_who_collides_with_whom() -> None:
    model = scene("two_arm_partition")
    for body in ("world", "obstacle_0", "palm_0", "palm_1", "index3_0", "thumb3_1", "middle1_0", "link5_1"):
        assert collide(model, "object", body), body
    assert collide(model, "index3_0", "thumb3_0")  # fingertips of one hand
    assert not collide(model, "index2_0", "palm_0")
    assert collide(model, "index2_0", "palm_1")  # the two hands
    assert collide(model, "link6_0", "world")  # the table
    assert collide(model, "obstacle_0", "world")
    assert collide(model, "obstacle_0", "palm_0")
    assert not collide(model, "object", "goal")  # a ghost
    assert collide(scene("single_arm_throw"), "object", "goal")  # the bucket


def test_bucket_radii() -> None:
    model = scene("single_arm_throw")
    data = mujoco.MjData(model)
    data.mocap_pos[0] = [2.0, 0.0, 1.0]
    mujoco.mj_forward(model, data)
    hit = np.zeros(1, dtype=np.int32)
    for height, inner in ((0.012, 0.0705), (0.195, 0.1034)):
        for angle in (0.0, np.pi / 3, np.pi):
            origin, ray = data.mocap_pos[0] + [0, 0, height], np.array([np.cos(angle), np.sin(angle), 0])
            assert mujoco.mj_ray(model, data, origin, ray, None, 1, -1, hit) == pytest.approx(inner, abs=0.003)
    # the floor is 1 cm thick
    assert mujoco.mj_ray(model, data, data.mocap_pos[0] + [0, 0, 0.1], np.array([0.0, 0, -1]), None, 1, -1, hit) == (
        pytest.approx(0.09, abs=1e-6)
    )


def test_a_cube_dropped_into_the_bucket_is_a_success() -> None:
    env = AllegroKuka(2, torch.device("cpu"), 0, task="single_arm_throw", objects="cube")
    env.reset()
    above = env.rules.memory.goal_pos + torch.tensor([0.0, 0.0, 0.15])
    env.physics.place_object(torch.arange(2), above, torch.tensor([[0.0, 0.0, 0.0, 1.0]]).expand(2, 4))
    wins = torch.zeros(2)
    for _ in range(40):
        wins += env.step(torch.zeros(2, 23)).successes
    assert wins.tolist() == [1, 1]  # then the cube is back on the table


def test_partition_stands_until_pushed() -> None:
    env = AllegroKuka(1, torch.device("cpu"), 0, task="two_arm_partition")
    env.reset()
    hold = (2 * env.rules.default - env.rules.low - env.rules.high) / (env.rules.high - env.rules.low)
    for _ in range(60):
        env.step(hold[None])
    height = mujoco_of(env).batch.bind("qpos")[0, 55]
    assert height == pytest.approx(0.68, abs=2e-3)
