"""How the joint drives answer a step of their target, with the stiff gains and the original ones.

python benchmarks/drives.py
"""

import mujoco
import numpy as np

from epo_lightning.envs.allegro_kuka.cards import STEP_SECONDS, card
from epo_lightning.envs.allegro_kuka.robot import GAINS
from epo_lightning.envs.allegro_kuka.scene import DECIMATION, build_scene

SECONDS = 8.0
STEPS = {"arm2_0": -0.5, "arm4_0": 0.5, "middle1_0": 1.15}
"""Joints and the steps of their targets, rad."""


def answer(gains: str, joint: str, step: float) -> np.ndarray:
    """Angle over control steps, as a share of `step`; all other joints keep their targets."""
    task = card("single_arm_regrasp")
    model = build_scene(task, GAINS[gains])
    data = mujoco.MjData(model)
    data.qpos[: len(task.arm_pose)] = task.arm_pose
    data.qpos[model.joint("object").qposadr[0] + 1] = -1.0  # out of the way
    start = data.qpos[: model.nu].copy()
    data.ctrl[:] = start
    index = model.actuator(joint).id
    data.ctrl[index] += step
    angles = []
    for _ in range(round(SECONDS / STEP_SECONDS)):
        mujoco.mj_step(model, data, DECIMATION)
        angles.append((data.qpos[index] - start[index]) / step)
    return np.array(angles)


def main() -> None:
    """Print the table."""
    print("| joint, step | gains | 90 % after | overshoot | within 5 % after |\n|---|---|---|---|---|")
    for joint, step in STEPS.items():
        for gains in GAINS:
            share = answer(gains, joint, step)
            rise = np.argmax(share >= 0.9) * STEP_SECONDS if (share >= 0.9).any() else np.nan
            outside = np.flatnonzero(abs(share - 1) > 0.05)
            settled = (outside[-1] + 1) * STEP_SECONDS if outside[-1] + 1 < len(share) else np.inf
            overshoot = max(0.0, share.max() - 1)
            print(f"| {joint[:-2]}, {step} rad | {gains} | {rise:.2f} s | {overshoot:.0%} | {settled:.1f} s |")


if __name__ == "__main__":
    main()
