"""The scripted controllers: kinematics against MuJoCo, grasp geometry, phases, and a few starts on every task."""

from math import pi, radians
from types import SimpleNamespace
from typing import cast

import mujoco
import pytest
import torch

from epo_lightning.envs.allegro_kuka import AllegroKuka
from epo_lightning.envs.allegro_kuka.cards import CARDS, TABLE_TOP, card
from epo_lightning.envs.allegro_kuka.curriculum import Curriculum
from epo_lightning.envs.allegro_kuka.robot import GAINS
from epo_lightning.envs.allegro_kuka.scene import build_scene
from epo_lightning.envs.allegro_kuka.scripted import Phase, Script, errands, grasp
from epo_lightning.envs.allegro_kuka.scripted.hand import Hand, between
from epo_lightning.envs.allegro_kuka.scripted.kinematics import Frame, matrix, rotation_vector, turn
from epo_lightning.envs.allegro_kuka.scripted.pilot import ELBOWS, READY, upright
from epo_lightning.envs.allegro_kuka.scripted.script import arm_chain
from epo_lightning.envs.allegro_kuka.task import Rules
from epo_lightning.physics.base import Physics, PhysicsState

CPU = torch.device("cpu")
BASE = torch.tensor([0.0, 0.8, 0.0])
FINGERS = ("index", "middle", "ring", "thumb")


@pytest.fixture(scope="module")
def model() -> mujoco.MjModel:
    return build_scene(card("single_arm_regrasp"), GAINS["stiff"])


def random_joints(model: mujoco.MjModel, count: int) -> torch.Tensor:
    low, high = torch.from_numpy(model.jnt_range[:23]).T
    generator = torch.Generator().manual_seed(0)
    joints: torch.Tensor = low + (high - low) * torch.rand(count, 23, generator=generator, dtype=torch.float64)
    return joints


def yaw_frame(x: float, y: float, z: float, yaw: float = 0.0) -> Frame:
    return Frame(torch.tensor([[x, y, z]]), turn(torch.tensor([yaw])))


# ------------------------------------------------------------------------------------------------------- kinematics


def test_palm_and_pads_are_where_mujoco_has_them(model: mujoco.MjModel) -> None:
    data, arm, hand = mujoco.MjData(model), arm_chain(), Hand()
    joints = random_joints(model, 20)
    palm, _, _ = arm.forward(joints[:, :7].float())
    pads = hand.pads(joints[:, 7:].float())
    for row, angles in enumerate(joints.numpy()):
        data.qpos[:23] = angles
        mujoco.mj_kinematics(model, data)
        body = data.body("palm_0")
        assert torch.allclose(palm.pos[row] + BASE, torch.tensor(body.xpos).float(), atol=1e-5)
        assert torch.allclose(palm.rot[row].flatten(), torch.tensor(body.xmat).float(), atol=1e-5)
        for number, finger in enumerate(FINGERS):
            # the capsule's axis ends at the pad: half its length from its middle, along its own z
            geom = next(g for g in range(model.ngeom) if model.geom_bodyid[g] == model.body(f"{finger}3_0").id)
            axis = data.geom_xmat[geom].reshape(3, 3)[:, 2] * model.geom_size[geom, 1]
            ends = [torch.tensor(data.geom_xpos[geom] + side * axis).float() for side in (-1, 1)]
            mine = palm.rot[row] @ pads[row, number] + palm.pos[row] + BASE
            assert min(float((end - mine).norm()) for end in ends) < 1e-5


def test_jacobian_is_the_derivative() -> None:
    arm = arm_chain((0.05, 0.0, 0.08))
    joints = torch.tensor(ELBOWS[1:2])
    end, linear, angular = arm.forward(joints)
    for joint in range(7):
        step = torch.zeros(1, 7)
        step[0, joint] = 1e-3
        ahead, _, _ = arm.forward(joints + step)
        behind, _, _ = arm.forward(joints - step)
        assert torch.allclose((ahead.pos - behind.pos) / 2e-3, linear[..., joint], atol=1e-3)
        spin = rotation_vector(ahead.rot @ behind.rot.mT) / 2e-3
        assert torch.allclose(spin, angular[..., joint], atol=1e-3)
    assert end.pos.shape == (1, 3)


def test_rotations_by_hand() -> None:
    half = 2**-0.5
    assert torch.allclose(matrix(torch.tensor([half, 0, 0, half])), turn(torch.tensor(pi / 2)), atol=1e-6)
    assert torch.allclose(rotation_vector(turn(torch.tensor(-2.5))), torch.tensor([0.0, 0.0, -2.5]), atol=1e-5)
    assert rotation_vector(torch.eye(3)).abs().max() == 0
    # a palm that faces 30 degrees beside down is turned back by just that
    palm = grasp.facing_down(torch.tensor([0.4]), torch.tensor([radians(30)]))
    assert rotation_vector(upright(palm))[0].norm() == pytest.approx(radians(30), abs=1e-5)
    assert torch.allclose((upright(palm) @ palm)[0, :, 2], torch.tensor([0.0, 0.0, -1.0]), atol=1e-6)


def test_inverse_kinematics_reaches_poses_over_the_table() -> None:
    arm = arm_chain()
    generator = torch.Generator().manual_seed(1)
    pos = torch.tensor([-0.15, -0.85, 0.62]) + torch.tensor([0.3, 0.25, 0.25]) * torch.rand(64, 3, generator=generator)
    yaw = (torch.rand(64, generator=generator) - 0.5) * radians(60)
    goal = Frame(pos, grasp.facing_down(yaw, torch.zeros(64)))
    joints, _ = arm.solve(torch.tensor(ELBOWS[0]).expand(64, 7), goal)
    end, _, _ = arm.forward(joints)
    off, twist = (end.pos - pos).norm(dim=1), rotation_vector(goal.rot @ end.rot.mT).norm(dim=1)
    assert ((off < 1e-3) & (twist < 0.01)).float().mean() > 0.9
    assert off.median() < 1e-4
    assert (joints <= arm.high + 1e-6).all()
    assert (joints >= arm.low - 1e-6).all()


def test_a_step_is_no_longer_than_its_stride() -> None:
    arm = arm_chain()
    joints = torch.tensor(ELBOWS[:1])
    end, _, _ = arm.forward(joints)
    goal = Frame(end.pos + torch.tensor([0.3, 0.0, 0.0]), end.rot)
    moved, error = arm.towards(joints, goal, joints, stride=(0.005, 0.1))
    assert error[0, :3].tolist() == pytest.approx([0.3, 0, 0], abs=1e-6)
    after, _, _ = arm.forward(moved)
    assert (after.pos - end.pos)[0].tolist() == pytest.approx([0.005, 0, 0], abs=5e-4)


# ------------------------------------------------------------------------------------------------------------ grasps


@pytest.mark.parametrize("width", [0.025, 0.05, 0.1])
def test_pads_touch_both_faces(width: float) -> None:
    hand, size = Hand(), torch.tensor([width])
    grip = hand.grip(size, torch.tensor([0.1]), torch.zeros(1))
    middle = between(size)[0, 0]
    for joints, room in ((grip.touch, 0.0), (grip.opened, 0.02)):
        x = hand.pads(joints)[0, :, 0]
        # the skin is 12 mm around the pads
        assert (x[:3] - middle - 0.012).tolist() == pytest.approx([width / 2 + room] * 3, abs=0.007)
        assert float(middle - x[3] - 0.012) == pytest.approx(width / 2 + room, abs=0.007)


def test_the_fingers_press_as_much_as_the_thumb() -> None:
    hand = Hand()
    grip = hand.grip(torch.tensor([0.05, 0.05]), torch.tensor([0.1, 0.03]), torch.zeros(2))
    # J^T is linear: torques of half the force are half the torques; a finger that stays away has none
    forces = torch.zeros(2, 4, 3)
    forces[:, 3, 0] = 2.0
    assert torch.allclose(hand.press(grip.touch, forces)[:, 12:], grip.torque[:, 12:] / 2, atol=1e-5)
    assert (grip.torque[1, 8:12] == 0).all()
    assert (grip.torque[0, 8:12].abs() > 0.01).any()
    # fingers bend, the thumb bends: all towards each other
    assert grip.torque[0, 1] > 0
    assert grip.torque[0, 14] > 0


def test_a_box_is_taken_across_its_narrow_side() -> None:
    half = torch.tensor([[0.075, 0.02, 0.03]])  # lies on its face of 15 by 4 cm: the fingers go round the 4 cm
    way = grasp.ways(yaw_frame(0, -0.8, 0.56), half)
    best = int(way.cost.argmin())
    assert float(way.width[0, best]) == pytest.approx(0.04)
    assert float(way.length[0, best]) == pytest.approx(0.15)
    # its normal is y, and the arm looks along -y: no turn
    assert float(way.yaw[0, best]) == pytest.approx(0.0, abs=1e-6)
    # turned by 30 degrees, the hand turns with it
    way = grasp.ways(yaw_frame(0, -0.8, 0.56, radians(30)), half)
    assert abs(float(way.yaw[0, int(way.cost.argmin())])) == pytest.approx(radians(30), abs=1e-5)


def test_of_two_equal_ways_rounding_does_not_choose() -> None:
    angles = radians(45) + 1e-7 * torch.arange(-30, 31)
    frames = [yaw_frame(0, -0.8, 0.56, float(angle)) for angle in angles]
    things = Frame(*(torch.cat(parts) for parts in zip(*frames, strict=True)))
    way = grasp.ways(things, torch.full((len(angles), 3), 0.03))
    assert (way.cost[:, 0] - way.cost[:, 1]).abs().max() < 1e-5  # 45 degrees to the left or to the right
    assert len(way.yaw[:, 0].sign().unique()) == 1


def test_a_box_that_is_too_wide_is_hopeless() -> None:
    half = torch.tensor([[0.08, 0.08, 0.03]])
    assert (grasp.ways(yaw_frame(0, -0.8, 0.56), half).cost > grasp.HOPELESS).all()


def test_a_plan_puts_the_pads_beside_the_object_and_above_the_table() -> None:
    arm, hand = arm_chain(), Hand()
    ready, _ = arm.solve(torch.tensor(ELBOWS), Frame(torch.tensor(READY).expand(3, 3), _down(3)))
    thing = yaw_frame(0.05, -0.8, TABLE_TOP + 0.0125, radians(20))
    plan = grasp.plan(arm, hand, ready, thing, torch.tensor([[0.03, 0.025, 0.0125]]), TABLE_TOP)
    assert float(plan.cost) < 2
    palm, _, _ = arm.forward(plan.arm)
    assert (palm.pos - plan.pos).norm() < 2e-3
    between_pads = palm.point(plan.centre)[0]
    assert (between_pads[:2] - thing.pos[0, :2]).norm() < 3e-3
    pads = palm.point(hand.pads(plan.touch)[0][:, None])[:, 0]
    assert float(pads[:, 2].min()) > TABLE_TOP + 0.005
    above, _, _ = arm.forward(plan.above)
    assert (above.pos - palm.pos)[0].tolist() == pytest.approx([0, 0, grasp.ABOVE], abs=5e-3)


def _down(count: int) -> torch.Tensor:
    return grasp.facing_down(torch.zeros(count), torch.zeros(count))


# ------------------------------------------------------------------------------------------------ phases and errands


def test_over_the_bucket_the_hand_rises_turns_reaches_and_lets_go() -> None:
    half, bucket = torch.full((1, 3), 0.025), torch.tensor([[0.8, -0.2, 0.3]])
    height = 0.3 + errands.RIM + errands.OVER + 0.025
    rise = errands.drop(yaw_frame(0.0, -0.8, 0.7), half, bucket + torch.tensor([0.0, 0.0, 0.5]), TABLE_TOP)
    assert rise.shift[0].tolist() == pytest.approx([0.0, 0.25, height + 0.5 - 0.7], abs=1e-5)  # up, and closer
    travel = TABLE_TOP + errands.CRUISE  # the rim is lower than that: the object stays over the table's height at first
    turned = errands.drop(yaw_frame(0.0, -0.55, travel), half, bucket, TABLE_TOP)
    far = 0.55 / (0.8**2 + 0.2**2) ** 0.5
    assert turned.shift[0].tolist() == pytest.approx([0.8 * far, -0.2 * far + 0.55, 0.0], abs=1e-5)
    out = errands.drop(yaw_frame(0.8 * far, -0.2 * far, travel), half, bucket, TABLE_TOP)
    assert out.shift[0].tolist() == pytest.approx([0.8 - 0.8 * far, -0.2 + 0.2 * far, 0.0], abs=1e-5)
    sink = errands.drop(yaw_frame(0.81, -0.2, travel), half, bucket, TABLE_TOP)
    assert sink.shift[0].tolist() == pytest.approx([-0.01, 0.0, height - travel], abs=1e-5)
    assert not (rise.let_go | turned.let_go | out.let_go | sink.let_go).any()
    assert errands.drop(yaw_frame(0.81, -0.2, height), half, bucket, TABLE_TOP).let_go.all()


def test_actions_lead_to_the_wanted_targets() -> None:
    for task in ("single_arm_regrasp", "two_arm"):
        env = AllegroKuka(3, CPU, 0, task, threads=1)
        env.reset()
        rules = env.rules
        last = rules.memory.targets.clone()
        wanted = (last + 0.05).clamp(rules.low, rules.high)
        got = rules.targets(Script(env.rules, env.physics)._actions(wanted, last))
        assert torch.allclose(got, wanted, atol=1e-5)
        env.close()


def test_phases_follow_each_other_and_a_new_object_begins_anew() -> None:
    env = AllegroKuka(2, CPU, 0, "single_arm_regrasp", "cube", tolerance=1e-6, final_tolerance=1e-6, threads=1)
    env.reset()
    script, seen = Script(env.rules, env.physics, carry=False), [[Phase.WAIT], [Phase.WAIT]]
    for _ in range(150):
        env.step(script())
        for row, phase in enumerate(script.pilot.phase.tolist()):
            if phase != seen[row][-1]:
                seen[row].append(Phase(phase))
    order = [Phase.WAIT, Phase.ABOVE, Phase.DOWN, Phase.CLOSE, Phase.LIFT]
    assert any(row[:5] == order for row in seen), seen
    script.pilot.forget(torch.tensor([True, False]))
    assert script.pilot.phase[0] == Phase.WAIT
    assert script.pilot.clock[0] == 0
    env.close()


@pytest.mark.parametrize("task", list(CARDS))
def test_every_task_has_a_script_that_acts_in_range(task: str) -> None:
    env = AllegroKuka(3, CPU, 0, task, threads=1)
    env.reset()
    script = env.script()
    assert isinstance(script, Script)
    before = env.physics.state.object_pos.clone()
    actions = script()
    assert actions.shape == (3, env.spec.act_dim)
    assert actions.abs().max() <= 1
    assert torch.equal(env.physics.state.object_pos, before)  # it looks, and touches nothing
    for _ in range(40):
        env.step(script())
    assert (script.pilot.phase >= Phase.ABOVE).any()
    env.close()


def test_a_script_without_an_environment_brings_the_hand_over_the_object(model: mujoco.MjModel) -> None:
    # joints that are at once where they shall be, and a cube that nothing moves
    low, high = torch.from_numpy(model.jnt_range[:23]).T
    task = card("single_arm_regrasp")
    rules = Rules(task, torch.ones(1, 3), low, high, torch.Generator(), Curriculum())
    cube = torch.tensor([[0.0, 0.0, TABLE_TOP + 0.025]])
    state = PhysicsState(
        joint_pos=rules.memory.targets,
        joint_vel=torch.zeros(1, 23),
        palm_pos=torch.zeros(1, 1, 3),
        wrist=torch.zeros(1, 1, 10),
        object_frame=torch.tensor([[0.0, 0.0, 0.0, 1.0] + [0.0] * 6]),
        tip_pos=torch.zeros(1, 1, 4, 3),
        object_pos=cube,
        blocks=torch.zeros(1, 0, 13),
    )
    physics = cast(Physics, SimpleNamespace(model=model, state=state))
    script, phases = Script(rules, physics), [Phase.WAIT]
    for _ in range(200):
        rules.targets(script())
        rules.memory.progress.add_(1)
        phases += [Phase(int(script.pilot.phase))] if script.pilot.phase != phases[-1] else []
        if phases[-1] == Phase.CLOSE:
            break
    assert phases == [Phase.WAIT, Phase.ABOVE, Phase.DOWN, Phase.CLOSE]
    palm, _, _ = arm_chain().forward(rules.memory.targets[:, :7])
    pinch = palm.point(between(torch.tensor([0.05]))[0])[0] + BASE  # the pads meet here: in the cube's middle
    assert (pinch - cube[0])[:2].norm() < 0.005
    assert 0.0 <= float(pinch[2] - cube[0, 2]) < 0.03
    assert palm.rot[0, 2, 2] < -0.9  # it faces down


def test_a_handful_of_cubes_is_lifted() -> None:
    env = AllegroKuka(8, CPU, 0, "single_arm_throw", "cube", threads=1)  # the task without random forces
    env.reset()
    script = Script(env.rules, env.physics, carry=False)
    for _ in range(200):
        env.step(script())
    lifted = env.physics.state.object_pos[:, 2] > TABLE_TOP + 0.025 + 0.15
    assert int(lifted.sum()) >= 5
    env.close()
