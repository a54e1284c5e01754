"""Drive a MuJoCo scene by an exported policy of BallInCup: numpy, onnxruntime and mujoco, no torch, no epo_lightning.

epo-lightning fit --config ball_in_cup --run_dir runs/cup && epo-lightning export runs/cup
python examples/ball_in_cup_without_torch.py runs/cup/policy --seconds 20
"""

import argparse
import sys
from itertools import pairwise

import mujoco
import numpy as np

from epo_runtime import Policy, PolicyError

CUP = [(-0.05, 0.0), (-0.05, -0.075), (-0.025, -0.1), (0.025, -0.1), (0.05, -0.075), (0.05, 0.0)]
WALLS = "".join(f'<geom type="capsule" fromto="{x} 0 {z} {u} 0 {w}" size="0.008"/>' for (x, z), (u, w) in pairwise(CUP))
SCENE = f"""
<mujoco><option timestep="0.002"/>
  <default><motor gear="5" ctrlrange="-1 1" ctrllimited="true"/></default>
  <worldbody>
    <geom type="plane" size="0.6 0.2 0.1"/>
    <body name="cup" pos="0 0 0.6">
      <joint name="x" type="slide" axis="1 0 0" damping="3" stiffness="20"/>
      <joint name="z" type="slide" axis="0 0 1" damping="3" stiffness="20"/>
      {WALLS}<site name="cup" pos="0 0 -0.108"/>
    </body>
    <body name="ball" pos="0 0 0.2">
      <joint type="slide" axis="1 0 0"/><joint type="slide" axis="0 0 1"/>
      <geom type="sphere" size="0.025"/><site name="ball"/>
    </body>
  </worldbody>
  <tendon><spatial limited="true" range="0 0.3"><site site="ball"/><site site="cup"/></spatial></tendon>
  <actuator><motor joint="x"/><motor joint="z"/></actuator>
</mujoco>"""


def play(policy: Policy, seconds: float, ball: tuple[float, float] = (0.1, 0.35)) -> np.ndarray:
    """(T, 8) what is observed; the ball begins at x and z `ball`, from where its joints are at 0."""
    model = mujoco.MjModel.from_xml_string(SCENE)
    data, seen = mujoco.MjData(model), []
    data.qpos[2:] = ball
    step = policy.manifest["control"]["step_seconds"]
    policy.reset()
    for _ in range(round(seconds / step)):
        seen.append(np.concatenate([data.qpos, data.qvel]))
        data.ctrl[:] = policy.act(seen[-1])
        mujoco.mj_step(model, data, nstep=round(step / model.opt.timestep))
    return np.array(seen)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Drive the ball in its cup by an exported policy.")
    parser.add_argument("folder")
    parser.add_argument("--seconds", type=float, default=20.0)
    given = parser.parse_args()
    try:
        seen = play(Policy.load(given.folder), given.seconds)
    except PolicyError as error:
        sys.exit(f"error: {error}")
    off = np.abs(seen[:, 2:4] - seen[:, :2] + [0.0, 0.2 - 0.6 + 0.05])  # from the middle of the cup
    print(f"the ball is in the cup in {(off.max(1) < 0.025).mean():.0%} of {len(seen)} steps")
