"""Environments tell what the entries of their observations and actions are, for whoever feeds an exported policy."""

import math
from typing import Any

import pytest
import torch

from epo_lightning.envs.allegro_kuka import AllegroKuka
from epo_lightning.envs.allegro_kuka.obstacles import Block
from epo_lightning.envs.bodies import AntTrap, BallInCup, KukaReach
from epo_lightning.envs.classic import (
    CartpoleSwingup,
    MountainCar,
    Pendulum,
    PendulumSwingup,
    PointMaze,
    Probe,
    TwoGoals,
    WallMaze,
)
from epo_lightning.envs.gymnasium import GymnasiumEnv
from epo_lightning.envs.signals import Signal, Signals, check_signals
from epo_lightning.limits import Mistake

CPU = torch.device("cpu")
ONE = Signal("b", 1)
BLOCK = Block((0.1, 0.1, 0.1), (0.0, 0.0, 0.6), mass=0.2)


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        *((each, {}) for each in (CartpoleSwingup, MountainCar, Pendulum, PendulumSwingup, PointMaze, TwoGoals)),
        (WallMaze, {}),
        (Probe, {}),
        (AntTrap, {"threads": 1}),
        (BallInCup, {"threads": 1}),
        (KukaReach, {"threads": 1}),
        (KukaReach, {"threads": 1, "arms": 1}),
        (AllegroKuka, {"task": "two_arm", "threads": 1}),
        (AllegroKuka, {"task": "single_arm_throw", "threads": 1}),
        (AllegroKuka, {"threads": 1, "obstacles": [BLOCK], "observe_obstacles": True}),
        (AllegroKuka, {"task": "single_arm_throw", "threads": 1, "privileged": True}),
        (Pendulum, {"wind": 1.0, "privileged": True}),
        (GymnasiumEnv, {"id": "CartPole-v1"}),
        (GymnasiumEnv, {"id": "Pendulum-v1"}),
        (GymnasiumEnv, {"id": "Blackjack-v1"}),
    ],
)
def test_every_entry_has_one_name(kind: Any, arguments: dict[str, Any]) -> None:  # noqa: ANN401
    env = kind(1, CPU, 0, **arguments)
    check_signals(env.signals(), env.spec.seen, env.spec.act_dim)
    env.close()


def test_limits_are_what_a_full_action_does() -> None:
    (torque,) = Pendulum(1, CPU, 0, max_torque=3.0).signals().action
    assert (torque.unit, torque.low, torque.high) == ("N m", (-3.0,), (3.0,))
    (bounds,) = GymnasiumEnv(1, CPU, 0, id="Pendulum-v1").signals().action
    assert (bounds.low, bounds.high) == ((-2.0,), (2.0,))


def test_joints_of_the_robot_are_told_as_they_are_observed() -> None:
    env = AllegroKuka(1, CPU, 0, task="single_arm_reorient", threads=1)
    signals, obs = env.signals(), env.reset()
    (joints, velocity, *_) = signals.observation
    low, high = torch.tensor(joints.low), torch.tensor(joints.high)
    angles = low + (obs[0, : joints.size] + 1) / 2 * (high - low)
    torch.testing.assert_close(angles, env.physics.state.joint_pos[0], atol=1e-5, rtol=0)
    assert (velocity.name, velocity.unit) == ("joint_velocity", "rad/s")
    assert "10 rad/s" in signals.action[0].meaning  # the arm's speed
    clock = sum(each.size for each in signals.observation[: [each.name for each in signals.observation].index("clock")])
    for _ in range(3):
        result = env.step(torch.zeros(1, env.spec.act_dim))
    assert result.obs[0, clock].item() == pytest.approx(math.log(1.3))


@pytest.mark.parametrize(
    ("signals", "fault"),
    [
        (None, "must return Signals, got NoneType"),
        (
            Signals((Signal("a", 2),), (Signal("b", 1),)),
            "the observation's entries are 2 numbers, the environment has 3",
        ),
        (Signals((Signal("a", 3),), ()), "the action's entries are 0 numbers, the environment has 1"),
        (
            Signals((Signal("a", 2), Signal("a", 1)), (Signal("b", 1),)),
            "names of the observation's entries must differ",
        ),
        (Signals((Signal("a", 3, low=(0.0,)),), (Signal("b", 1),)), "a needs 3 numbers in low and high, or none"),
    ],
)
def test_a_description_that_cannot_be_is_one_line(signals: object, fault: str) -> None:
    with pytest.raises(Mistake, match=fault):
        check_signals(signals, 3, 1)
