"""What the Allegro-Kuka tasks pay for: amounts of a step, and their prices.

Shape legend: N environments, T = 4 fingertips per hand times hands.

Prices are numbers, the same everywhere, until some are set for each environment. The arithmetic is the same either way:
tensors that repeat the numbers pay the same to the bit.
"""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from epo_lightning.limits import Mistake

START_HEIGHT = 0.63
"""Height from which the lift is measured, m."""
LIFT_OFFSET = 0.05
"""Added to the lift before it is paid, m."""
LIFT_CAP = 0.5
"""No higher lift is paid, m."""
FINGER_CAP = 10.0
"""No longer approach of a fingertip in one step is paid, m."""


class Prices(NamedTuple):
    """What is paid, a number or (N,) float32 of each.

    Attributes:
        lift_scale: Per metre of lift in every step before the object is lifted.
        lift_bonus: Of the step that lifts it.
        lifted_above: The lift with the offset from which on the object counts as lifted, m.
        finger_scale: Per metre by which a fingertip comes nearer to the object than ever before.
        keypoint_scale: Per metre by which the keypoints come nearer to the goal's than ever before.
        goal_bonus: Of a goal, in equal parts over the steps that the object must be near it.
        arm_speed_cost: What a rad/s of an arm's joint costs in every step.
        hand_speed_cost: What a rad/s of a finger's joint costs in every step.
    """

    lift_scale: float | Tensor = 20.0
    lift_bonus: float | Tensor = 300.0
    lifted_above: float | Tensor = 0.15
    finger_scale: float | Tensor = 50.0
    keypoint_scale: float | Tensor = 200.0
    goal_bonus: float | Tensor = 1000.0
    arm_speed_cost: float | Tensor = 0.003
    hand_speed_cost: float | Tensor = 0.0003


PRICES = Prices()
"""Those of the tasks."""
SPEED_COSTS = ("arm_speed_cost", "hand_speed_cost")
"""Of the tasks with one arm only."""


class Amounts(NamedTuple):
    """What a step is paid for, each (N,).

    Attributes:
        lift: Metres, 0 once the object was lifted.
        lifts: bool, the step lifted it.
        approach: Metres, over all fingertips.
        gain: Metres of the keypoints.
        near: bool.
        speeds: rad/s over an arm's joints, and over a hand's; None where they cost nothing.
    """

    lift: Tensor
    lifts: Tensor
    approach: Tensor
    gain: Tensor
    near: Tensor
    speeds: tuple[Tensor, Tensor] | None

    def paid(self, prices: Prices, hold_steps: int) -> Tensor:
        """(N,) the reward; every term is rounded by itself."""
        reward = self.lift * prices.lift_scale
        reward += self.lifts * prices.lift_bonus
        reward += self.approach * prices.finger_scale
        reward += self.gain * prices.keypoint_scale
        reward += self.near * (prices.goal_bonus / hold_steps)
        if self.speeds is not None:
            reward -= self.speeds[0] * prices.arm_speed_cost
            reward -= self.speeds[1] * prices.hand_speed_cost
        return reward


def exposed(velocity_penalty: bool) -> dict[str, float]:
    """The prices that a task has, by name, as it sets them."""
    return {
        name: float(price) for name, price in PRICES._asdict().items() if velocity_penalty or name not in SPEED_COSTS
    }


def with_prices(old: Prices, values: Mapping[str, Tensor], num_envs: int, device: torch.device) -> Prices:
    """`old` with copies of `values` on `device`.

    Raises:
        Mistake: When one is not (N,).
    """
    for name, value in values.items():
        if value.shape != (num_envs,):
            raise Mistake(f"reward parameter {name} must have shape {(num_envs,)}, got {tuple(value.shape)}")
    return old._replace(**{name: value.to(device, torch.float32, copy=True) for name, value in values.items()})
