"""The rules of the tasks, on states made by hand: every expected number is computed in the test."""

import math

import pytest
import torch

from epo_lightning.envs.allegro_kuka import resets
from epo_lightning.envs.allegro_kuka.cards import CARDS, card
from epo_lightning.envs.allegro_kuka.rotation import random_rotations, rotate
from tests.support.kuka_rules import HIGH, IDENTITY, LOW, calm, goal_at, rules, state

# ------------------------------------------------------------------------------------------------------------- cards


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


# -------------------------------------------------------------------------------------------------------------- ends


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


def test_far_fingertip_ends_single_arm_reorient_only() -> None:
    for name, expected in (("single_arm_reorient", True), ("single_arm_regrasp", False), ("two_arm", False)):
        r = rules(name, n=1)
        assert r.advance(state(r, tip=1.51), calm(r)).terminated.item() is expected
        assert not r.advance(state(r, tip=1.49), calm(r)).terminated.item()


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
