"""Successes and the curriculum of their tolerance, on states made by hand: every expected number is computed here."""

import pytest
import torch

from epo_lightning.envs.allegro_kuka.curriculum import Curriculum
from tests.support.kuka_rules import calm, goal_at, rules, state

# ----------------------------------------------------------------------------------------------------------- success


def test_threshold_is_one_and_a_half_tolerances() -> None:
    r = rules(n=1)
    goal_at(r, (0.3, 0.0, 0.6))
    assert r.advance(state(r, (0.3, 0.0, 0.6 + 0.1130)), calm(r)).success.item() == 0
    assert r.advance(state(r, (0.3, 0.0, 0.6 + 0.1120)), calm(r)).success.item() == 1


def test_success_on_the_last_step_restarts_the_clock_and_fifty_end_the_episode() -> None:
    r = rules(n=2)
    goal_at(r, (0.3, 0.0, 0.5))
    r.memory.progress[:] = 598
    r.memory.successes[:] = torch.tensor([48.0, 49.0])
    out = r.advance(state(r, (0.3, 0.0, 0.5)), calm(r))
    assert out.success.tolist() == [1, 1]
    assert out.truncated.tolist() == [False, True]


# -------------------------------------------------------------------------------------------------------- curriculum


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
