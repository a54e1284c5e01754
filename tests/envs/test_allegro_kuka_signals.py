"""Actions and observations of the tasks, on states made by hand: every expected number is computed in the test."""

import math

import pytest
import torch

from epo_lightning.envs.allegro_kuka.cards import card, variant
from epo_lightning.envs.allegro_kuka.obstacles import Block
from tests.support.kuka_rules import HIGH, LOW, calm, goal_at, rules, state

# ------------------------------------------------------------------------------------------------------------- sizes


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
