"""The reward of the tasks, on states made by hand: every expected number is computed in the test."""

import math

import pytest
import torch

from epo_lightning.envs.allegro_kuka.cards import CARDS
from epo_lightning.envs.allegro_kuka.reward import PRICES, exposed
from epo_lightning.envs.allegro_kuka.task import Rules
from epo_lightning.limits import Mistake
from tests.support.kuka_rules import calm, goal_at, rules, state

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
