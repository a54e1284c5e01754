"""The environment's fast paths against the same written plainly: the same bits in all eight scenes.

What is read of the engine, what a reset reads of it, who blew up, and the arithmetic of observation and reward.
"""

import numpy as np
import pytest
import torch
from torch import Tensor

from epo_lightning.envs.allegro_kuka import AllegroKuka
from epo_lightning.envs.allegro_kuka.cards import ARM_JOINTS, CARDS
from epo_lightning.envs.allegro_kuka.memory import Memory
from epo_lightning.envs.allegro_kuka.reward import FINGER_CAP, LIFT_CAP, LIFT_OFFSET, PRICES, START_HEIGHT
from epo_lightning.envs.allegro_kuka.task import CLOCK_SCALE, KEYPOINT_STRETCH, OBS_LIMIT, REWARD_IN_OBS, Rules
from epo_lightning.physics.base import PhysicsState
from epo_lightning.physics.mujoco import RUNAWAY, MujocoPhysics

N = 12


def plain_state(physics: MujocoPhysics) -> PhysicsState:
    """Every field out of the engine's own numbers."""
    rows, hands = physics.batch, physics.state.palm_pos.shape[1]
    joints = physics.model.nu
    sensors = torch.from_numpy(np.array(rows.bind("sensordata"))).float()

    def quat_last(frames: Tensor) -> Tensor:
        return torch.cat([frames[..., 1:4], frames[..., :1], frames[..., 4:]], dim=-1)

    fingers = physics.state.tip_pos.shape[2]
    sizes = [3 * hands, 10 * hands, 10, 3 * fingers * hands, 3]
    palms, wrists, thing, tips, centre, blocks = sensors.split([*sizes, sensors.shape[1] - sum(sizes)], dim=1)
    blocks = blocks.unflatten(1, (-1, 13)) if blocks.shape[1] else blocks.reshape(len(blocks), 0, 13)
    return PhysicsState(
        joint_pos=torch.from_numpy(np.array(rows.bind("qpos"))).float()[:, :joints],
        joint_vel=torch.from_numpy(np.array(rows.bind("qvel"))).float()[:, :joints],
        palm_pos=palms.unflatten(1, (hands, 3)),
        wrist=quat_last(wrists.unflatten(1, (hands, 10))),
        object_frame=quat_last(thing),
        tip_pos=tips.unflatten(1, (hands, fingers, 3)),
        object_pos=centre,
        blocks=torch.cat([blocks[..., :3], quat_last(blocks[..., 3:])], dim=-1),
    )


def plain_observation(rules: Rules, state: PhysicsState, m: Memory, ids: Tensor, reward: Tensor) -> Tensor:
    """Block after block, as the table of the tasks has them."""
    keypoints = rules._keypoints(state.object_pos, state.object_frame[:, :4], rules.offsets[ids])
    to_goal = keypoints - m.goal_keypoints
    distance = to_goal.square().sum(dim=2).amax(dim=1).sqrt()
    tips = (state.tip_pos - state.object_pos[:, None, None]).square().sum(dim=3).sqrt().flatten(1)
    palms = state.palm_pos[:, :, None]
    blocks = [
        (state.joint_pos - rules.middle) / rules.half_range,
        state.joint_vel,
        state.palm_pos.flatten(1),
        state.wrist.flatten(1),
        state.object_frame,
        (state.tip_pos - palms).flatten(1),
        (keypoints[:, None] - palms).flatten(1),
        to_goal.flatten(1),
        rules.scales[ids],
        *([state.blocks.flatten(1)] if rules.card.blocks_observed else []),
        torch.where(m.closest_goal < 0, distance, m.closest_goal)[:, None],
        *([torch.where(m.closest_tips < 0, tips, m.closest_tips)] if rules.card.tips_observed else []),
        m.lifted.float()[:, None],
        torch.log1p(m.progress / CLOCK_SCALE)[:, None],
        torch.log1p(m.successes)[:, None],
        (REWARD_IN_OBS * reward)[:, None],
    ]
    return torch.cat(blocks, dim=1).clamp(-OBS_LIMIT, OBS_LIMIT)


def plain_reward(rules: Rules, state: PhysicsState, m: Memory, blown_up: Tensor) -> Tensor:
    """Term after term."""
    card = rules.card
    keypoints = rules._keypoints(state.object_pos, state.object_frame[:, :4], rules.offsets)
    distance = (keypoints - m.goal_keypoints).square().sum(dim=2).amax(dim=1).sqrt()
    tips = (state.tip_pos - state.object_pos[:, None, None]).square().sum(dim=3).sqrt().flatten(1)
    closest_tips = torch.where(m.closest_tips < 0, tips, m.closest_tips)
    closest_goal = torch.where(m.closest_goal < 0, distance, m.closest_goal)
    height = state.object_pos[:, 2] + (LIFT_OFFSET - START_HEIGHT)
    lifted = m.lifted | (height > PRICES.lifted_above)
    reward = torch.where(lifted, 0.0, height.clamp(0, LIFT_CAP)) * PRICES.lift_scale
    reward = reward + (lifted & ~m.lifted).float() * PRICES.lift_bonus
    approach = (closest_tips - tips).clamp(0, FINGER_CAP).sum(dim=1)
    reward = (
        reward + (approach if card.fingers_always_paid else torch.where(lifted, 0.0, approach)) * PRICES.finger_scale
    )
    reward = reward + (closest_goal - distance).clamp(min=0) * lifted.float() * PRICES.keypoint_scale
    near = (distance <= rules.tolerance * KEYPOINT_STRETCH) & ~blown_up
    reward = reward + near.float() * (float(PRICES.goal_bonus) / card.hold_steps)
    if card.velocity_penalty:
        speed = state.joint_vel.abs()
        reward = reward - speed[:, :ARM_JOINTS].sum(dim=1) * PRICES.arm_speed_cost
        reward = reward - speed[:, ARM_JOINTS:].sum(dim=1) * PRICES.hand_speed_cost
    return torch.where(blown_up, 0.0, reward)


@pytest.mark.parametrize("task", list(CARDS))
def test_every_step_is_what_the_plain_formulas_say(task: str) -> None:
    env = AllegroKuka(N, torch.device("cpu"), 3, task, threads=1)
    physics, rules, everyone = env.physics, env.rules, torch.arange(N)
    assert isinstance(physics, MujocoPhysics)
    env.reset()
    rules.memory.progress[:3] = rules.card.budget - torch.tensor([2.0, 4.0, 4.0])  # some episodes end on the way
    before: list[tuple[PhysicsState, Memory, Tensor]] = []
    advance = rules.advance

    def watched(state: PhysicsState, blown_up: Tensor) -> object:
        for name, value in plain_state(physics)._asdict().items():
            rows = ~blown_up
            assert torch.equal(getattr(state, name)[rows], value[rows]), name
        speeds = torch.from_numpy(np.array(physics.batch.bind("qvel"))).float()
        failed = torch.from_numpy(physics.batch.warning[:, 3:6, 1].any(axis=1))
        assert torch.equal(blown_up, ~(speeds.abs().amax(dim=1) <= RUNAWAY) | failed)
        copies = Memory(*(field.clone() for field in rules.memory))
        copies.progress.add_(1)
        before.append((PhysicsState(*(field.clone() for field in state)), copies, blown_up.clone()))
        return advance(state, blown_up)

    rules.advance = watched  # type: ignore[assignment, method-assign]
    generator, ended, exploded = torch.Generator().manual_seed(5), 0, 0
    for step in range(8):
        if step == 5:
            physics.batch.bind("qvel")[7, 3] = 1e6
        if step == 3:  # lifted, and at the goal for long enough
            at_goal = rules._keypoints(physics.state.object_pos, physics.state.object_frame[:, :4], rules.offsets)
            rules.memory.goal_keypoints[5:7], rules.memory.lifted[5:7] = at_goal[5:7], True
            rules.memory.near_steps[5:7] = rules.card.hold_steps - 1
        result = env.step(env.spec.random_actions(generator))
        state, memory, blown_up = before.pop()
        reward = plain_reward(rules, state, memory, blown_up)
        assert torch.equal(result.reward, reward)
        over = result.terminated | result.truncated
        seen = torch.where(over[:, None], env._final_obs, result.obs)
        assert torch.equal(seen, plain_observation(rules, state, memory, everyone, reward))
        if ids := over.nonzero().flatten().tolist():
            rows = torch.tensor(ids)
            now = plain_state(physics).rows(rows)
            first = plain_observation(rules, now, rules.memory.rows(rows), rows, torch.zeros(len(rows)))
            assert torch.equal(result.obs[rows], first)
            assert all(torch.equal(a, b) for a, b in zip(physics.state.rows(rows), now, strict=True))
        ended, exploded = ended + len(ids), exploded + int(blown_up.sum())
    assert ended >= 4
    assert exploded == 1
    assert float(rules.memory.successes.sum()) + float(rules.memory.last_successes.sum()) >= 1
    env.close()
