"""The rules of the tasks, on states made by hand: every expected number is computed in the test."""

import math
from typing import Any

import pytest
import torch

from epo_lightning.envs.allegro_kuka import resets
from epo_lightning.envs.allegro_kuka.cards import CARDS, card, variant
from epo_lightning.envs.allegro_kuka.curriculum import Curriculum
from epo_lightning.envs.allegro_kuka.obstacles import Block
from epo_lightning.envs.allegro_kuka.reward import PRICES, exposed
from epo_lightning.envs.allegro_kuka.rotation import random_rotations, rotate
from epo_lightning.envs.allegro_kuka.task import Rules
from epo_lightning.limits import Mistake
from epo_lightning.physics.base import PhysicsState

IDENTITY = torch.tensor([0.0, 0.0, 0.0, 1.0])
LOW, HIGH = -2.0, 4.0
Point = tuple[float, float, float]


def rules(
    name: str = "two_arm",
    n: int = 2,
    scales: Point = (1.0, 2.0, 4.0),
    obstacles: list[Block] | None = None,
    observe: bool = False,
    speed: float | None = None,
    **kwargs: Any,
) -> Rules:
    task = variant(name, obstacles, observe, speed)
    low, high = torch.full((task.joints,), LOW), torch.full((task.joints,), HIGH)
    generator = torch.Generator().manual_seed(0)
    made = Rules(
        task, torch.tensor(scales).expand(n, 3), low, high, generator, Curriculum(shrinks=task.curriculum, **kwargs)
    )
    ids = torch.arange(n)
    made.restart(ids)
    made.new_goals(ids)
    return made


def state(r: Rules, pos: Point = (0.3, 0.0, 0.6), tip: float = 0.5, vel: float = 0.0) -> PhysicsState:
    """Object at `pos`, upright and at rest; every fingertip `tip` metres beside it; palms at the origin."""
    n, hands = r.num_envs, r.card.arms
    at = torch.tensor(pos).expand(n, 3).clone()
    wrist = torch.zeros(n, hands, 10)
    wrist[..., 3] = 1
    frame = torch.zeros(n, 10)
    frame[:, 3] = 1
    return PhysicsState(
        joint_pos=torch.zeros(n, r.card.joints),
        joint_vel=torch.full((n, r.card.joints), vel),
        palm_pos=torch.zeros(n, hands, 3),
        wrist=wrist,
        object_frame=frame,
        tip_pos=(at[:, None, None] + torch.tensor([0.0, tip, 0.0])).expand(n, hands, 4, 3).clone(),
        object_pos=at,
        blocks=torch.zeros(n, r.card.blocks_observed, 13),
    )


def goal_at(r: Rules, pos: Point) -> None:
    """The goal of all environments at `pos`, upright."""
    at = torch.tensor(pos).expand(r.num_envs, 3)
    r.memory.goal_keypoints.copy_(r._keypoints(at, IDENTITY.expand(r.num_envs, 4), r.offsets))


def calm(r: Rules) -> torch.Tensor:
    return torch.zeros(r.num_envs, dtype=torch.bool)


# ------------------------------------------------------------------------------------------------------------- cards


@pytest.mark.parametrize(
    ("name", "act", "obs"),
    [
        ("two_arm", 46, 196),
        ("two_arm_hole", 46, 196),
        ("two_arm_barrier", 46, 196),
        ("two_arm_partition", 46, 196),
        ("two_arm_regrasp", 46, 169),
        ("single_arm_reorient", 23, 117),
        ("single_arm_regrasp", 23, 99),
        ("single_arm_throw", 23, 99),
    ],
)
def test_sizes(name: str, act: int, obs: int) -> None:
    assert (card(name).joints, card(name).obs_dim) == (act, obs)
    r = rules(name)
    assert r.advance(state(r), calm(r)).obs.shape == (2, obs)


def test_unknown_task_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"data\.env\.init_args\.task .*two_arm_hole.*'juggling'"):
        card("juggling")
    assert len(CARDS) == 8


# ---------------------------------------------------------------------------------------------------------- rotation


def test_rotate_by_hand() -> None:
    half = math.sqrt(0.5)
    about_z = torch.tensor([0.0, 0.0, half, half])  # 90 degrees
    assert torch.allclose(rotate(about_z, torch.tensor([1.0, 2.0, 3.0])), torch.tensor([-2.0, 1.0, 3.0]), atol=1e-6)
    quats = random_rotations(500, torch.Generator().manual_seed(0))
    turned = rotate(quats, torch.tensor([1.0, 0.0, 0.0]))
    assert torch.allclose(turned.norm(dim=1), torch.ones(500), atol=1e-5)
    assert turned.mean(dim=0).abs().max() < 0.1
    assert (turned**2).mean(dim=0).sub(1 / 3).abs().max() < 0.06


# ----------------------------------------------------------------------------------------------------------- actions


def test_absolute_targets() -> None:
    r = rules("two_arm")
    actions = torch.zeros(2, 46)
    actions[0, 0], actions[0, 1], actions[0, 45] = 1.0, -1.0, 0.5
    actions[1, 3] = 7.0  # clipped
    targets = r.targets(actions)
    assert targets[0, [0, 1, 2, 45]].tolist() == pytest.approx([HIGH, LOW, 1.0, 2.5])
    assert targets[1, 3] == HIGH


def test_a_speed_limit_of_integrated_arm_targets() -> None:
    r = rules("single_arm_regrasp", speed=3.0)
    before = r.memory.targets.clone()
    moved = r.targets(torch.full((2, 23), -0.5)) - before
    torch.testing.assert_close(moved[:, :7], torch.full((2, 7), -3.0 / 60 / 2))


def test_a_speed_limit_of_absolute_arm_targets() -> None:
    r = rules("two_arm", speed=3.0)
    r.memory.targets.zero_()
    actions = torch.zeros(2, 46)
    actions[:, [0, 24]] = 1.0  # a joint of each arm to its upper limit, far away
    actions[:, [7, 30]] = 1.0  # and a finger of each hand
    middle, low = (LOW + HIGH) / 2, min(3.0 / 60, abs(LOW + HIGH) / 2)
    targets = r.targets(actions)
    assert targets[0, [0, 24]].tolist() == pytest.approx([3.0 / 60] * 2)
    assert targets[0, [7, 30]].tolist() == pytest.approx([HIGH] * 2)
    assert targets[0, 1].item() == pytest.approx(math.copysign(low, middle))
    for _ in range(200):
        r.targets(actions)
    assert r.memory.targets[0, [0, 24]].tolist() == pytest.approx([HIGH] * 2)


def test_integrated_arm_targets_and_absolute_fingers() -> None:
    r = rules("single_arm_regrasp")
    r.memory.targets[:] = 1.0
    r.memory.targets[1, 0] = HIGH - 0.1
    r.targets(torch.full((2, 23), 0.5))
    assert r.memory.targets[0, :7].tolist() == pytest.approx([1 + 0.5 / 6] * 7)
    targets = r.targets(torch.ones(2, 23))
    assert targets[0, :7].tolist() == pytest.approx([1 + 1.5 / 6] * 7)
    assert targets[0, 7:].tolist() == pytest.approx([HIGH] * 16)
    assert targets[1, 0] == HIGH


# ------------------------------------------------------------------------------------------------------- observation


def test_observation_order_two_arms() -> None:
    r = rules("two_arm", n=1, scales=(1.0, 2.0, 4.0))
    s = state(r)
    s.joint_pos.copy_(torch.arange(46) * 0.05)
    s.joint_vel.copy_(torch.arange(46) * 0.1)
    s.palm_pos.copy_(torch.tensor([[[-0.4, 0.1, 0.7], [0.4, -0.1, 0.8]]]))
    s.wrist.copy_(torch.arange(20).view(1, 2, 10) * 0.1)
    s.object_frame[0, 4:] = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    s.tip_pos.copy_(torch.arange(24).view(1, 2, 4, 3) * 0.01)
    goal_at(r, (0.3, 0.0, 0.9))
    r.memory.closest_goal[:] = 0.25
    r.memory.progress[:] = 9.0
    r.memory.successes[:] = 3.0
    r.memory.lifted[:] = True
    obs = r.advance(s, calm(r)).obs[0]

    # scaled(q) = (2 q - high - low) / (high - low)
    q = torch.arange(46) * 0.05
    assert torch.allclose(obs[:46], (2 * q - HIGH - LOW) / (HIGH - LOW))
    assert torch.allclose(obs[46:92], torch.arange(46) * 0.1)
    assert obs[92:98].tolist() == pytest.approx([-0.4, 0.1, 0.7, 0.4, -0.1, 0.8])
    assert torch.allclose(obs[98:118], torch.arange(20) * 0.1)
    assert obs[118:128].tolist() == [0, 0, 0, 1, 1, 2, 3, 4, 5, 6]
    # fingertips minus own palm: arm 0 middle, arm 1 thumb
    assert obs[131:134].tolist() == pytest.approx([0.03 + 0.4, 0.04 - 0.1, 0.05 - 0.7])
    assert obs[149:152].tolist() == pytest.approx([0.21 - 0.4, 0.22 + 0.1, 0.23 - 0.8])
    # keypoints: corners at 1.5 times the half edges 0.025, 0.05, 0.1
    corner = torch.tensor([0.0375, 0.075, 0.15])
    first, second = torch.tensor([0.3, 0.0, 0.6]) + corner, torch.tensor([0.3375, 0.075, 0.45])
    assert torch.allclose(obs[152:155], first - torch.tensor([-0.4, 0.1, 0.7]))
    assert torch.allclose(obs[155:158], second - torch.tensor([-0.4, 0.1, 0.7]))
    assert torch.allclose(obs[164:167], first - torch.tensor([0.4, -0.1, 0.8]))
    assert torch.allclose(obs[176:188], torch.tensor([0.0, 0.0, -0.3]).repeat(4), atol=1e-6)
    assert obs[188:191].tolist() == [1, 2, 4]
    assert obs[191] == pytest.approx(0.25)
    assert obs[192] == 1
    assert obs[193] == pytest.approx(math.log(2.0))  # the tenth step: ln(1 + 10 / 10)
    assert obs[194] == pytest.approx(math.log(4.0))
    assert obs[195] == 0  # no progress, no reward


def test_observation_shows_what_was_known_before_the_reward_and_the_reward_itself() -> None:
    r = rules("two_arm", n=1, scales=(1.0, 1.0, 1.0))
    goal_at(r, (0.3, 0.0, 0.8))
    r.advance(state(r, (0.3, 0.0, 0.6)), calm(r))
    out = r.advance(state(r, (0.3, 0.0, 0.78)), calm(r))  # lifted and near, with the tips where they were
    assert out.success.item() == 1
    assert out.obs[0, 191] == pytest.approx(0.2)
    assert out.obs[0, 192] == 0
    assert out.obs[0, 193] == pytest.approx(math.log(1.2))
    assert out.obs[0, 194] == 0
    # 300 lift + 200 * (0.2 - 0.02) + 1000, times 0.01: clipped to 10
    assert out.reward.item() == pytest.approx(300 + 36 + 1000, rel=1e-5)
    assert out.obs[0, 195] == 10
    following = r.advance(state(r, (0.3, 0.0, 0.78)), calm(r))
    assert following.obs[0, 192] == 1
    assert following.obs[0, 194] == pytest.approx(math.log(2.0))
    assert following.obs[0, 193] == pytest.approx(math.log(1.1))  # the clock restarted


def test_single_arm_observes_closest_tips() -> None:
    r = rules("single_arm_regrasp", n=1)
    r.advance(state(r, tip=0.3), calm(r))
    obs = r.advance(state(r, tip=0.4), calm(r)).obs[0]
    # ... scales (3), best distance, four fingertip minima, lifted, clock, successes, reward
    assert obs[87:90].tolist() == [1, 2, 4]
    assert obs[91:95].tolist() == pytest.approx([0.3] * 4)


def test_observation_is_clipped() -> None:
    r = rules(n=1)
    obs = r.advance(state(r, vel=33.0), calm(r)).obs[0]
    assert obs[46:92].tolist() == [10.0] * 46


# ------------------------------------------------------------------------------------------------------------ reward


def test_lift_reward_then_bonus_then_nothing() -> None:
    r = rules(n=1)
    goal_at(r, (0.3, 0.0, 0.9))

    def reward(z: float) -> float:
        return r.advance(state(r, (0.3, 0.0, z)), calm(r)).reward.item()

    assert reward(0.50) == 0  # h < 0
    assert reward(0.63) == pytest.approx(20 * 0.05, rel=1e-4)
    assert reward(0.72) == pytest.approx(20 * 0.14, rel=1e-4)
    # h = 0.16 > 0.15: bonus, and the keypoint term begins: best distance before was 0.18
    assert reward(0.74) == pytest.approx(300 + 200 * 0.02, rel=1e-4)
    assert r.memory.lifted.item()
    assert reward(0.60) == 0  # lowered again: nothing, the flag stays
    assert reward(0.74) == 0
    assert reward(0.75) == pytest.approx(200 * 0.01, rel=1e-3)


@pytest.mark.parametrize(("name", "fingers", "after"), [("two_arm", 8, True), ("single_arm_reorient", 4, False)])
def test_finger_reward(name: str, fingers: int, after: bool) -> None:
    r = rules(name, n=1)
    goal_at(r, (0.3, 0.0, 0.9))
    pos = (0.3, 0.0, 0.5)
    assert r.advance(state(r, pos, 0.50), calm(r)).reward.item() == 0  # the minima begin here
    assert r.advance(state(r, pos, 0.40), calm(r)).reward.item() == pytest.approx(50 * fingers * 0.1, rel=1e-4)
    assert r.advance(state(r, pos, 0.45), calm(r)).reward.item() == 0  # away costs nothing
    assert r.advance(state(r, pos, 0.38), calm(r)).reward.item() == pytest.approx(50 * fingers * 0.02, rel=1e-3)
    r.memory.lifted[:] = True
    expected = 50 * fingers * 0.08 if after else 0.0
    assert r.advance(state(r, pos, 0.30), calm(r)).reward.item() == pytest.approx(expected, rel=1e-3)
    assert r.memory.closest_tips.tolist() == [pytest.approx([0.3] * fingers)]


def test_keypoint_minimum_moves_even_when_not_lifted() -> None:
    r = rules(n=1)
    goal_at(r, (0.3, 0.0, 0.5))
    r.advance(state(r, (0.3, 0.0, 0.30)), calm(r))
    assert r.advance(state(r, (0.3, 0.0, 0.33)), calm(r)).reward.item() == 0
    assert r.memory.closest_goal.item() == pytest.approx(0.17, rel=1e-4)
    r.memory.lifted[:] = True
    reward = r.advance(state(r, (0.3, 0.0, 0.35)), calm(r)).reward.item()
    assert reward == pytest.approx(200 * 0.02, rel=1e-3)


def test_keypoint_distance_is_the_largest_of_four() -> None:
    r = rules(n=1, scales=(1.0, 2.0, 4.0))
    goal_at(r, (0.3, 0.0, 0.6))
    s = state(r)
    s.object_frame[0, :4] = torch.tensor([0.0, 0.0, 1.0, 0.0])  # half a turn about z
    # each corner (x, y, z) goes to (-x, -y, z): distance 2 sqrt(0.0375^2 + 0.075^2)
    assert r.advance(s, calm(r)).goal_distance.item() == pytest.approx(2 * math.hypot(0.0375, 0.075), rel=1e-5)


def test_velocity_penalty_only_with_one_arm() -> None:
    for name, expected in (("single_arm_regrasp", -0.003 * 7 * 2 - 0.0003 * 16 * 2), ("two_arm_regrasp", 0.0)):
        r = rules(name, n=1)
        goal_at(r, (0.3, 0.0, 0.9))
        assert r.advance(state(r, (0.3, 0.0, 0.5), vel=-2.0), calm(r)).reward.item() == pytest.approx(expected)


def test_blown_up_environments_earn_nothing_and_end() -> None:
    r = rules(n=2)
    goal_at(r, (0.3, 0.0, 0.8))
    blown = torch.tensor([False, True])
    out = r.advance(state(r, (0.3, 0.0, 0.8)), blown)
    assert out.reward[0] > 1000
    assert out.reward[1] == 0
    assert out.success.tolist() == [1, 0]
    assert out.terminated.tolist() == [False, True]


# ------------------------------------------------------------------------------------------------- reward parameters


def played(r: Rules, heights: tuple[float, ...] = (0.5, 0.66, 0.72, 0.74, 0.8)) -> tuple[torch.Tensor, torch.Tensor]:
    """(T, N) rewards, and what the observations tell of them, of a hand that comes near and lifts the object."""
    goal_at(r, (0.3, 0.0, 0.8))
    outs = [r.advance(state(r, (0.3, 0.0, z), 0.5 - z / 3, vel=1.1 * z), calm(r)) for z in heights]
    told = [out.obs[:, -1].clone() for out in outs]
    return torch.stack([out.reward for out in outs]), torch.stack(told)


@pytest.mark.parametrize("name", CARDS)
def test_reward_parameters_at_their_defaults_change_nothing_to_the_bit(name: str) -> None:
    plain, priced = rules(name, n=3), rules(name, n=3)
    defaults = exposed(plain.card.velocity_penalty)
    priced.set_prices({parameter: torch.full((3,), value) for parameter, value in defaults.items()})
    rewards, _ = played(plain)
    assert torch.equal(played(priced)[0], rewards)
    assert rewards.abs().amax() > 300


def test_each_reward_parameter_is_paid_in_its_own_environment() -> None:
    """One environment for each of the eight, doubled there; the first one has none."""
    names = list(exposed(velocity_penalty=True))
    r = rules("single_arm_regrasp", n=9)
    for place, (name, value) in enumerate(exposed(velocity_penalty=True).items(), 1):
        r.set_prices({name: torch.full((9,), value).index_fill(0, torch.tensor(place), 2 * value)})
    rewards, told = played(r, (0.66, 0.72, 0.8))
    of = {name: rewards[:, place] for place, name in enumerate(names, 1)}
    plain = rewards[:, 0]
    torch.testing.assert_close(of["lift_scale"] - plain, torch.tensor([20 * 0.08, 20 * 0.14, 0.0]), atol=2e-4, rtol=0)
    torch.testing.assert_close(of["lift_bonus"] - plain, torch.tensor([0.0, 0.0, 300.0]), atol=2e-4, rtol=0)
    # counted as lifted above 0.30 instead of 0.15: at 0.8 h is 0.22, paid by height; no bonus, no keypoints; fingers
    fingers, keypoints = 50 * 4 * 0.08 / 3, 200 * 0.08
    higher = torch.tensor([0.0, 0.0, 20 * 0.22 - 300 - keypoints + fingers])
    torch.testing.assert_close(of["lifted_above"] - plain, higher, atol=2e-3, rtol=0)
    torch.testing.assert_close(of["finger_scale"] - plain, torch.tensor([0.0, 4.0, 0.0]), atol=2e-3, rtol=0)
    torch.testing.assert_close(of["keypoint_scale"] - plain, torch.tensor([0.0, 0.0, keypoints]), atol=2e-3, rtol=0)
    # near, 0.1125 m, at 0.72 and 0.8
    part = 1000 / 30
    torch.testing.assert_close(of["goal_bonus"] - plain, torch.tensor([0.0, part, part]), atol=2e-3, rtol=0)
    speed = torch.tensor([1.1 * 0.66, 1.1 * 0.72, 1.1 * 0.8])
    torch.testing.assert_close(of["arm_speed_cost"] - plain, -0.003 * 7 * speed, atol=2e-4, rtol=0)
    torch.testing.assert_close(of["hand_speed_cost"] - plain, -0.0003 * 16 * speed, atol=2e-4, rtol=0)
    # whoever is paid more sees the task's own reward
    same = [place for place, name in enumerate(names, 1) if name != "lifted_above"]
    assert torch.equal(told[:, same], told[:, :1].expand(-1, len(same)))


def test_reward_parameters_are_in_the_saved_state_and_an_older_one_has_none() -> None:
    r, other = rules("single_arm_regrasp"), rules("single_arm_regrasp")
    r.set_prices({"lift_bonus": torch.tensor([1.0, 2.0])})
    saved = r.state_dict()
    other.load_state_dict(saved)
    assert torch.equal(played(other)[0], played(r)[0])
    del saved["prices"]
    other.load_state_dict(saved)
    assert other.prices == PRICES
    with pytest.raises(Mistake, match=r"lift_bonus must have shape \(2,\), got \(3,\)"):
        r.set_prices({"lift_bonus": torch.ones(3)})


# ------------------------------------------------------------------------------------------- success, ends, curriculum


def test_threshold_is_one_and_a_half_tolerances() -> None:
    r = rules(n=1)
    goal_at(r, (0.3, 0.0, 0.6))
    assert r.advance(state(r, (0.3, 0.0, 0.6 + 0.1130)), calm(r)).success.item() == 0
    assert r.advance(state(r, (0.3, 0.0, 0.6 + 0.1120)), calm(r)).success.item() == 1


def test_hold_steps_need_not_be_consecutive_and_pay_in_parts() -> None:
    r = rules("two_arm_regrasp", n=1)
    goal_at(r, (0.3, 0.0, 0.5))
    r.memory.lifted[:] = True
    near, far = state(r, (0.3, 0.0, 0.5)), state(r, (0.3, 0.0, 0.2))
    for _ in range(29):
        r.advance(near, calm(r))
    r.advance(far, calm(r))
    assert r.memory.near_steps.item() == 29
    assert r.memory.progress.item() == 30
    out = r.advance(near, calm(r))
    assert out.success.item() == 1
    assert out.reward.item() == pytest.approx(1000 / 30, rel=1e-5)
    assert r.memory.progress.item() == 0
    r.new_goals(r.memory.goal_reached.nonzero().flatten())
    assert r.memory.near_steps.item() == 0
    assert r.memory.closest_goal.item() == -1
    assert not r.memory.goal_reached.any()


def test_goal_change_keeps_lift_and_fingers_object_change_does_not() -> None:
    r = rules(n=1)
    r.memory.lifted[:] = True
    r.memory.closest_tips[:] = 0.2
    r.new_goals(torch.tensor([0]))
    assert r.memory.lifted.item()
    assert r.memory.closest_tips.eq(0.2).all()
    r.new_object(torch.tensor([0]))
    assert not r.memory.lifted.item()
    assert r.memory.closest_tips.eq(-1).all()


def test_ends() -> None:
    r = rules(n=2)
    goal_at(r, (0.3, 0.0, 0.9))
    s = state(r, (0.3, 0.0, 0.5))
    s.object_pos[1, 2] = 0.0999
    out = r.advance(s, calm(r))
    assert out.terminated.tolist() == [False, True]
    assert out.truncated.tolist() == [False, False]
    # the step after which the clock shows 599 is the last one
    s.object_pos[1, 2] = 0.1001
    r.memory.progress[:] = torch.tensor([597.0, 598.0])
    assert r.advance(s, calm(r)).truncated.tolist() == [False, True]
    # a fall on the last step is a fall
    s.object_pos[1, 2] = 0.05
    r.memory.progress[:] = torch.tensor([10.0, 598.0])
    out = r.advance(s, calm(r))
    assert (out.terminated.tolist(), out.truncated.tolist()) == ([False, True], [False, False])


def test_success_on_the_last_step_restarts_the_clock_and_fifty_end_the_episode() -> None:
    r = rules(n=2)
    goal_at(r, (0.3, 0.0, 0.5))
    r.memory.progress[:] = 598
    r.memory.successes[:] = torch.tensor([48.0, 49.0])
    out = r.advance(state(r, (0.3, 0.0, 0.5)), calm(r))
    assert out.success.tolist() == [1, 1]
    assert out.truncated.tolist() == [False, True]


def test_far_fingertip_ends_single_arm_reorient_only() -> None:
    for name, expected in (("single_arm_reorient", True), ("single_arm_regrasp", False), ("two_arm", False)):
        r = rules(name, n=1)
        assert r.advance(state(r, tip=1.51), calm(r)).terminated.item() is expected
        assert not r.advance(state(r, tip=1.49), calm(r)).terminated.item()


def test_curriculum() -> None:
    r = rules(n=2, interval=3)
    s = state(r, (0.3, 0.0, 0.5))
    r.memory.last_successes[:] = torch.tensor([2.0, 4.0])
    tolerances = []
    for _ in range(7):
        r.advance(s, calm(r))
        tolerances.append(round(r.tolerance, 6))
    assert tolerances == [0.075, 0.075, 0.0675, 0.0675, 0.0675, 0.06075, 0.06075]
    r.memory.last_successes[:] = torch.tensor([2.0, 3.9])
    for _ in range(10):
        r.advance(s, calm(r))
    assert r.tolerance == pytest.approx(0.06075)
    r.memory.last_successes[:] = 3.0  # the wait is long over
    r.advance(s, calm(r))
    assert r.tolerance == pytest.approx(0.054675)
    for _ in range(60):
        r.advance(s, calm(r))
    assert r.tolerance == 0.01


def test_a_state_goes_on_unless_the_first_tolerance_is_another() -> None:
    good = torch.full((2,), 3.0)
    saved = Curriculum(interval=2)
    for _ in range(5):
        saved.step(good)  # shrinks at steps 2 and 4
    same, other = Curriculum(interval=2), Curriculum(0.2, interval=2)
    for curriculum in (same, other):
        curriculum.load_state_dict(saved.state_dict())
    assert same.tolerance == pytest.approx(0.075 * 0.81)
    assert same.since_change == 1
    assert (other.tolerance, other.since_change) == (0.2, 0)
    again = Curriculum(0.2, interval=2)  # the next time it goes on
    other.step(good)
    other.step(good)
    again.load_state_dict(other.state_dict())
    assert again.tolerance == pytest.approx(0.18)


def test_twenty_reductions_reach_the_floor_and_throwing_has_no_curriculum() -> None:
    good = torch.tensor([3.0])
    curriculum = Curriculum(interval=1)
    for _ in range(19):
        curriculum.step(good)
    assert curriculum.tolerance > 0.01
    curriculum.step(good)
    assert curriculum.tolerance == 0.01
    throw = rules("single_arm_throw", n=1, interval=1)
    throw.memory.last_successes[:] = 9.0
    throw.advance(state(throw), calm(throw))
    assert throw.tolerance == 0.075


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_three_successes_on_average_are_enough_for_any_number_of_environments(device: str) -> None:
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA")
    for n in range(1, 300):  # 3 n times the rounded 1 / n may be less than 3
        curriculum = Curriculum(interval=1)
        curriculum.step(torch.full((n,), 3.0, device=device))
        assert curriculum.tolerance < 0.075


def test_a_held_tolerance_stays_in_a_saved_state_too() -> None:
    good = torch.tensor([9.0])
    curriculum = Curriculum(interval=1)
    curriculum.hold(0.05)
    other = Curriculum(interval=1)
    other.load_state_dict(curriculum.state_dict())
    for each in (curriculum, other):
        each.step(good)
        assert each.tolerance == 0.05
    free = Curriculum(interval=1)
    free.step(good)
    curriculum.load_state_dict(free.state_dict())  # and a state that moves sets it free again
    curriculum.step(good)
    assert curriculum.tolerance == pytest.approx(0.075 * 0.81)
    with pytest.raises(ValueError, match=r"data\.eval_difficulty\.tolerance must be greater than 0 .*got -0\.1"):
        curriculum.hold(-0.1)


def test_true_objective_by_hand() -> None:
    successes = torch.tensor([0.0, 3.0, 50.0])
    curriculum = Curriculum(0.075, 0.01)
    # no progress: 0.01 per success
    assert curriculum.true_objective(successes).tolist() == pytest.approx([0.0, 0.03, 0.5])
    # c = (0.075 - 0.036) / (0.075 - 0.01) = 0.6
    curriculum.hold(0.036)
    assert curriculum.true_objective(successes).tolist() == pytest.approx([0.6, 0.63, 1.1])
    curriculum.hold(0.01)
    assert curriculum.true_objective(successes).tolist() == [1, 4, 51]
    throwing = Curriculum(shrinks=False)
    assert throwing.true_objective(successes).tolist() == [1, 4, 51]
    # where first and final are the same there is nothing to progress through
    constant = Curriculum(0.05, 0.05)
    assert constant.true_objective(successes).tolist() == [1, 4, 51]
    constant.hold(0.06)
    assert constant.true_objective(successes).tolist() == pytest.approx([1.0, 1.03, 1.5])


# ---------------------------------------------------------------------------------------------------------- obstacles

PUSHED = Block((0.05, 0.1, 0.2), (0.0, 0.0, 0.7), mass=0.2)
FIXED = Block((0.05, 0.1, 0.2), (0.0, 0.3, 0.7))


@pytest.mark.parametrize(("name", "plain", "place"), [("two_arm", 196, 191), ("single_arm_reorient", 117, 108)])
def test_observed_blocks_stand_between_scales_and_scalars(name: str, plain: int, place: int) -> None:
    bare = rules(name, n=1)
    r = rules(name, n=1, obstacles=[PUSHED, FIXED, PUSHED], observe=True)
    assert r.card.obs_dim == plain + 2 * 13  # what never moves is not observed
    s = state(r)
    s.blocks.copy_(torch.arange(26).view(1, 2, 13) * 0.1)
    for each in (r, bare):
        goal_at(each, (0.3, 0.0, 0.9))
        each.memory.progress[:] = 9.0
    seen, without = r.advance(s, calm(r)).obs[0], bare.advance(state(bare), calm(bare)).obs[0]
    assert torch.allclose(seen[place : place + 26], torch.arange(26) * 0.1)
    assert seen[place - 3 : place].tolist() == [1, 2, 4]
    torch.testing.assert_close(torch.cat([seen[:place], seen[place + 26 :]]), without)


def test_only_blocks_with_a_mass_can_be_observed() -> None:
    for name, blocks in (("two_arm_hole", None), ("two_arm_partition", []), ("two_arm", [FIXED])):
        with pytest.raises(ValueError, match=rf"init_args\.observe_obstacles: no obstacle of {name} can be pushed"):
            variant(name, blocks, True)
    assert variant("two_arm_partition", None, True).obs_dim == 196 + 13
    assert variant("two_arm_partition", [PUSHED, PUSHED], False).obs_dim == 196


# --------------------------------------------------------------------------------------------------- resets and forces


def test_restart_counts_and_clears() -> None:
    r = rules(n=3)
    m = r.memory
    m.successes[:] = torch.tensor([5.0, 6.0, 7.0])
    m.progress[:], m.near_steps[:], m.lifted[:], m.force[:] = 50, 1, True, 1.0
    ids = torch.tensor([0, 2])
    start = r.restart(ids)
    r.new_goals(ids)
    assert m.last_successes.tolist() == [5, 0, 7]
    assert m.successes.tolist() == [0, 6, 0]
    assert m.progress.tolist() == [0, 50, 0]
    assert m.near_steps.tolist() == [0, 1, 0]
    assert m.lifted.tolist() == [False, True, False]
    assert m.force[:, 0].tolist() == [0, 1, 0]
    assert torch.equal(m.targets[ids], start.joint_pos)


def test_start_distribution() -> None:
    g = torch.Generator().manual_seed(1)
    task = card("two_arm")
    low, high = torch.full((46,), LOW), torch.full((46,), HIGH)
    default = torch.ones(46)
    pos, vel = resets.draw_joints(400, default, low, high, g)
    # q = q_def + 0.1 (U(low, high) - q_def)
    assert pos.min() >= 1 + 0.1 * (LOW - 1)
    assert pos.max() <= 1 + 0.1 * (HIGH - 1)
    assert pos.max() - pos.min() > 0.1 * (HIGH - LOW) - 0.02
    assert 0.49 < vel.abs().max() <= 0.5
    thing, quat = resets.draw_object(2000, task, g)
    assert ((thing[:, 0].abs() - 0.35).abs() <= 0.1 + 1e-6).all()
    assert 0.45 < (thing[:, 0] > 0).float().mean() < 0.55
    assert ((thing[:, 2] - 0.63).abs() <= 0.02 + 1e-6).all()
    assert torch.allclose(quat.norm(dim=1), torch.ones(2000), atol=1e-5)
    goal, turned = resets.draw_goal(2000, task, g)
    assert ((goal[:, 0].abs() - 0.75).abs() <= 0.2 + 1e-6).all()
    assert goal[:, 1].abs().max() <= 0.5
    assert goal[:, 2].min() >= 0.68
    assert goal[:, 2].max() <= 1.05
    assert turned.std() > 0.4
    # the goal's side does not depend on the object's
    assert abs((thing[:, 0].sign() * goal[:, 0].sign()).mean().item()) < 0.08
    single = card("single_arm_regrasp")
    assert resets.draw_object(500, single, g)[0][:, :2].abs().max() <= 0.1
    assert torch.equal(resets.draw_goal(3, single, g)[1], IDENTITY.expand(3, 4))
    chance = resets.draw_force_probability(4000, g)
    assert chance.min() >= 0.001 - 1e-7
    assert chance.max() <= 0.1 + 1e-6
    assert chance.log10().mean().item() == pytest.approx(-2.0, abs=0.03)  # log-uniform


def test_bucket_target_is_above_its_floor() -> None:
    r = rules("single_arm_throw", n=1)
    pos, _ = r.new_goals(torch.tensor([0]))
    assert torch.allclose(r.memory.goal_keypoints[0, 0], pos[0] + torch.tensor([0.0, 0.0, 0.05]))


def test_forces_decay_turn_with_the_object_and_are_drawn_anew() -> None:
    r = rules(n=2)
    r.memory.force_probability[:] = 0.0
    r.memory.force[:] = torch.tensor([1.0, 0.0, 0.0])
    half = math.sqrt(0.5)
    quats = torch.stack([IDENTITY, torch.tensor([0.0, 0.0, half, half])])
    force = r.forces(quats)
    assert force is not None
    decayed = 0.99 ** ((1 / 60) / 0.08)
    assert decayed == pytest.approx(0.99791, abs=1e-5)
    assert torch.allclose(force, torch.tensor([[decayed, 0, 0], [0, decayed, 0]]), atol=1e-6)
    many = rules(n=4000)
    many.memory.force_probability[:] = 1.0
    drawn = many.forces(IDENTITY.expand(4000, 4))
    assert drawn is not None
    assert drawn.std().item() == pytest.approx(0.3, rel=0.05)  # 2 N/kg * 0.15 kg
    many.memory.force_probability[:] = 0.1
    again = many.forces(IDENTITY.expand(4000, 4))
    assert again is not None
    kept = torch.isclose(again, drawn * decayed).all(dim=1).float().mean().item()
    assert kept == pytest.approx(0.9, abs=0.03)
    assert rules("single_arm_throw").forces(quats) is None


def test_a_curriculum_that_the_device_decides_about_has_the_same_numbers() -> None:
    here, there = (Curriculum(0.08, 0.02, 3) for _ in range(2))
    there.move_to(torch.device("cpu"))
    draws = torch.Generator().manual_seed(0)
    for step in range(80):
        successes = torch.randint(1, 6, (5,), generator=draws).float()
        for curriculum in (here, there):
            curriculum.step(successes)
        assert there.tolerance == here.tolerance, step
        assert there.since_change == here.since_change, step
        assert torch.equal(there.true_objective(successes), here.true_objective(successes)), step
        if step == 40:
            assert 0.02 < here.tolerance < 0.08
            there.load_state_dict(here.state_dict())
            assert isinstance(there.limit, torch.Tensor)
    assert here.tolerance == 0.02
    for curriculum in (here, there):
        curriculum.hold(0.05)
        curriculum.step(successes)
        assert (curriculum.tolerance, curriculum.since_change) == (0.05, 1)
