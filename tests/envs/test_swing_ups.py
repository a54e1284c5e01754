"""The sparse swing-ups move as MuJoCo moves the published bodies; rewards, starts and ends by hand."""

import math
from collections.abc import Callable

import mujoco
import numpy as np
import pytest
import torch

from epo_lightning.envs.classic import CartpoleSwingup, ClassicEnv, PendulumSwingup
from epo_lightning.envs.classic.drawing import BODY

CPU = torch.device("cpu")
SIZE = 200
Task = Callable[..., ClassicEnv]

PENDULUM = """
<mujoco>
  <option timestep="0.02"><flag contact="disable"/></option>
  <worldbody>
    <body>
      <joint name="hinge" type="hinge" axis="0 1 0" damping="0.1"/>
      <geom type="sphere" pos="0 0 0.5" size="0.05" mass="1"/>
    </body>
  </worldbody>
  <actuator><motor joint="hinge" gear="1" ctrllimited="true" ctrlrange="-1 1"/></actuator>
</mujoco>
"""
CARTPOLE = """
<mujoco>
  <option timestep="0.01" integrator="RK4"><flag contact="disable"/></option>
  <worldbody>
    <body>
      <joint name="slider" type="slide" axis="1 0 0" damping="5e-4"/>
      <geom type="box" size="0.2 0.15 0.1" mass="1"/>
      <body>
        <joint name="hinge" type="hinge" axis="0 1 0" damping="2e-6"/>
        <geom type="capsule" fromto="0 0 0 0 0 1" size="0.045" mass="0.1"/>
      </body>
    </body>
  </worldbody>
  <actuator><motor joint="slider" gear="10" ctrllimited="true" ctrlrange="-1 1"/></actuator>
</mujoco>
"""


def place(env: ClassicEnv, rows: list[list[float]], clock: int = 0) -> None:
    """Put the environment into these states, (N, S)."""
    env.reset()
    clocks = torch.full((len(rows),), clock)
    env.load_state_dict(env.state_dict() | {"state": torch.tensor(rows), "clock": clocks})


@pytest.mark.parametrize(("make", "scene", "joints"), [(PendulumSwingup, PENDULUM, 1), (CartpoleSwingup, CARTPOLE, 2)])
def test_it_moves_as_mujoco_does(make: Task, scene: str, joints: int) -> None:
    model = mujoco.MjModel.from_xml_string(scene)
    data = mujoco.MjData(model)
    env = make(1, CPU, 0)
    generator = np.random.default_rng(3)
    start = [0.1, 1.0][-joints:] + [0.2, -0.5][-joints:]
    place(env, [start])
    data.qpos[:], data.qvel[:] = start[:joints], start[joints:]
    for _ in range(80):
        action = generator.uniform(-1.0, 1.0)
        data.ctrl[0] = action
        mujoco.mj_step(model, data)
        env.step(torch.tensor([[action]], dtype=torch.float32))
        state = env.state_dict()["state"][0].double().numpy()
        turn = (state[joints - 1] - data.qpos[joints - 1] + math.pi) % (2 * math.pi) - math.pi
        assert abs(turn) < 2e-4
        if joints == 2:
            assert state[0] == pytest.approx(data.qpos[0], abs=2e-4)
        assert state[joints:] == pytest.approx(data.qvel, abs=2e-3)


def test_pendulum_step_by_hand() -> None:
    env = PendulumSwingup(1, CPU, 0)
    place(env, [[math.pi / 2, 2.0]])
    result = env.step(torch.tensor([[0.5]]))
    # I = 0.25 + 0.001; push = 0.5 + 9.81 * 0.5 - 0.1 * 2; w' = 2 + 0.02 push / (I + 0.002)
    speed = 2.0 + 0.02 * (0.5 + 4.905 - 0.2) / 0.253
    angle = math.pi / 2 + 0.02 * speed
    torch.testing.assert_close(result.obs, torch.tensor([[math.cos(angle), math.sin(angle), speed]]))
    assert result.reward.item() == 0.0


def test_pendulum_pays_within_eight_degrees() -> None:
    env = PendulumSwingup(3, CPU, 0)
    place(env, [[math.radians(7.8), 0.0], [math.radians(8.5), 0.0], [math.radians(-7.8), 0.0]])
    result = env.step(torch.tensor([[-0.7], [-0.7], [0.7]]))  # about what holds it there
    assert result.reward.tolist() == [1.0, 0.0, 1.0]
    assert result.successes.tolist() == [0.0] * 3


def test_cartpole_pays_in_the_middle_and_upright() -> None:
    env = CartpoleSwingup(5, CPU, 0)
    limit = math.acos(0.995)
    rows = [[0.0, 0.0], [0.24, 0.9 * limit], [0.26, 0.0], [-0.24, -0.9 * limit], [0.0, 1.1 * limit]]
    place(env, [[*row, 0.0, 0.0] for row in rows])
    result = env.step(torch.zeros(5, 1))
    assert result.reward.tolist() == [1.0, 1.0, 0.0, 1.0, 0.0]


def test_cartpole_stops_where_the_rail_ends() -> None:
    env = CartpoleSwingup(2, CPU, 0)
    place(env, [[1.795, math.pi, 2.0, 0.0], [-1.795, math.pi, -2.0, 0.0]])
    result = env.step(torch.zeros(2, 1))
    assert result.obs[:, 0].tolist() == pytest.approx([1.8, -1.8])
    assert result.obs[:, 3].tolist() == [0.0, 0.0]
    result = env.step(torch.tensor([[-1.0], [1.0]]))
    assert (result.obs[:, 0].abs() < 1.8).all()


def test_starts_are_those_of_the_suite() -> None:
    hanging = CartpoleSwingup(4096, CPU, 0)
    hanging.reset()
    state = hanging.state_dict()["state"]
    assert state.mean(0).tolist() == pytest.approx([0.0, math.pi, 0.0, 0.0], abs=0.001)
    assert state.std(0).tolist() == pytest.approx([0.01] * 4, rel=0.05)
    anywhere = PendulumSwingup(4096, CPU, 0)
    anywhere.reset()
    angle, speed = anywhere.state_dict()["state"].unbind(1)
    assert angle.min().item() == pytest.approx(-math.pi, abs=0.01)
    assert angle.max().item() == pytest.approx(math.pi, abs=0.01)
    assert not speed.any()


@pytest.mark.parametrize("make", [PendulumSwingup, CartpoleSwingup])
def test_a_success_is_to_stand_at_the_end(make: Task) -> None:
    env = make(2, CPU, 0, max_steps=10)
    width = env.state_dict()["state"].shape[1] if env.reset() is not None else 0
    fallen = [0.0] * width
    fallen[0 if width == 2 else 1] = math.pi
    place(env, [[0.0] * width, fallen], clock=8)
    first, second = env.step(torch.zeros(2, 1)), env.step(torch.zeros(2, 1))
    assert first.successes.tolist() == [0.0, 0.0]
    assert second.successes.tolist() == [1.0, 0.0]
    assert second.truncated.all()
    assert not second.terminated.any()


@pytest.mark.parametrize(("make", "least"), [(PendulumSwingup, 500.0), (CartpoleSwingup, 400.0)])
def test_the_script_swings_it_up_and_holds_it(make: Task, least: float) -> None:
    env = make(16, CPU, 0)
    env.reset()
    script, total = env.script(), torch.zeros(16)
    for _ in range(1000):
        result = env.step(script())
        total += result.reward
    assert result.successes.all()
    assert (total > least).all()


def test_poles_are_seen_where_they_lean() -> None:
    pendulum, cartpole = PendulumSwingup(1, CPU, 0), CartpoleSwingup(1, CPU, 0)
    place(pendulum, [[math.pi / 2, 0.0]])
    place(cartpole, [[0.5, math.pi / 2, 0.0, 0.0]])
    ball = pendulum.render([0], SIZE, SIZE)[0][SIZE // 2, round(SIZE / 2 + 0.5 * SIZE / 1.4)]
    assert tuple(ball.tolist()) == BODY
    pole = cartpole.render([0], SIZE, SIZE)[0][SIZE // 2, round(SIZE / 2 + 1.4 * SIZE / 4.2)]
    assert tuple(pole.tolist()) == BODY
