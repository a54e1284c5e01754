"""The rules of the Allegro-Kuka tasks on tensors: targets, forces, observation, reward, success, curriculum.

Shape legend: N environments, D joints, T = 4 fingertips per hand times hands, K keypoints, O observation entries,
P values that randomisation draws.

No physics here: everything follows from a `PhysicsState` and what `Rules` remembers between steps. One step goes
`new_goals` where the last ones were reached - `targets`, `forces` - physics - `advance` (clock, curriculum,
observation, reward, ends) - `restart` of the environments that ended. Which these are, numbers or a mask say: see
`physics.rows`.
"""

from collections.abc import Mapping
from math import inf
from typing import Any, NamedTuple

import torch
from torch import Tensor

from epo_lightning.envs.allegro_kuka import resets
from epo_lightning.envs.allegro_kuka.cards import ARM_JOINTS, HAND_JOINTS, STEP_SECONDS, Card
from epo_lightning.envs.allegro_kuka.curriculum import Curriculum
from epo_lightning.envs.allegro_kuka.memory import Memory, blank_memory
from epo_lightning.envs.allegro_kuka.objects import EDGE
from epo_lightning.envs.allegro_kuka.privileged import UNDRAWN, privileged_rows
from epo_lightning.envs.allegro_kuka.reward import (
    FINGER_CAP,
    LIFT_CAP,
    LIFT_OFFSET,
    PRICES,
    START_HEIGHT,
    Amounts,
    with_prices,
)
from epo_lightning.envs.allegro_kuka.rotation import rotate
from epo_lightning.physics.base import PhysicsState
from epo_lightning.physics.rows import is_mask, put, take

OBS_LIMIT = 10.0
"""Observations are cut to this range on either side."""
REWARD_IN_OBS = 0.01
"""Factor of the reward that the observation ends with."""
MAX_SUCCESSES = 50
"""Goals reached that end an episode."""
FALLEN = 0.10
"""An object whose centre is lower has fallen, m."""

KEYPOINT_STRETCH = 1.5
"""Keypoints lie at 1.5 times the half edges; the tolerance is stretched alike, with one keypoint, too."""
KEYPOINT_SIGNS = ((1, 1, 1), (1, 1, -1), (-1, -1, 1), (-1, -1, -1))
BUCKET_TARGET = 0.05
"""Height of the goal over the bucket's underside, m."""

FORCE_SCALE = 2.0
"""Standard deviation of a random force per axis, N per kg of a typical object."""
FORCE_MASS = 0.15
"""Of a typical object, kg: all objects are pushed alike."""
FORCE_DECAY = 0.99 ** (STEP_SECONDS / 0.08)
"""What is left of a random force after a step: 0.99 after 0.08 s."""
CLOCK_SCALE = 10.0
"""Steps in whose number the observation's logarithmic clock counts."""


class View(NamedTuple):
    """What is observed of environments.

    Attributes:
        obs: (N, O).
        tip_distance: (N, T) of the fingertips. goal_distance: (N,) of the keypoints.
        closest_tips: (N, T) smallest one before this step; where there was none, that of this step.
        closest_goal: (N,) likewise.
    """

    obs: Tensor
    tip_distance: Tensor
    goal_distance: Tensor
    closest_tips: Tensor
    closest_goal: Tensor


class Outcome(NamedTuple):
    """What a step led to: observation (N, O); reward, success (0 or 1), ends (bool), keypoint distance, each (N,)."""

    obs: Tensor
    reward: Tensor
    success: Tensor
    terminated: Tensor
    truncated: Tensor
    goal_distance: Tensor


class Rules:
    """One task's rules for N environments.

    Args:
        card: The task.
        scales: (N, 3) the objects' scale factors.
        low: (D,) lower joint limits, rad.
        high: (D,) upper joint limits, rad.
        generator: Source of all randomness; its device is the device of all tensors.
        curriculum: Tells `tolerance`.
        privileged: Observations end with what the critic alone may know (see `privileged`).

    Attributes:
        prices: What the reward pays; the observation tells the reward at the task's own, whatever these are.
        drawn: (N, P) what the critic is told of randomisation, see `privileged`; whoever draws writes it.
    """

    def __init__(
        self,
        card: Card,
        scales: Tensor,
        low: Tensor,
        high: Tensor,
        generator: torch.Generator,
        curriculum: Curriculum,
        privileged: bool = False,
    ) -> None:
        self.privileged = privileged
        self.card, self.generator, self.device = card, generator, generator.device
        self.curriculum, self.prices = curriculum, PRICES
        self.scales = scales.float().to(self.device)
        self.low, self.high = low.float().to(self.device), high.float().to(self.device)
        self.middle, self.half_range = (self.low + self.high) / 2, (self.high - self.low) / 2
        pose = card.arm_pose + (0.0,) * HAND_JOINTS
        self.default = torch.tensor(pose, device=self.device).repeat(card.arms)
        signs = torch.tensor(KEYPOINT_SIGNS if card.goal == "pose" else [[0, 0, 0]], device=self.device)
        # offset = sign * scale * 0.05 m * 1.5 / 2
        self.offsets = signs * self.scales[:, None] * (EDGE * KEYPOINT_STRETCH / 2)
        self.num_envs = n = len(scales)
        self.memory = blank_memory(card, self.default.repeat(n, 1))
        self.drawn = torch.tensor(UNDRAWN, device=self.device).repeat(n, 1)
        self._obs, self._unpaid = torch.zeros(n, card.obs_dim, device=self.device), self.scales.new_zeros(n, 1)

    @property
    def tolerance(self) -> float:
        """Distance that counts as near now, m (times 1.5 for the keypoints)."""
        return self.curriculum.tolerance

    # ------------------------------------------------------------------------------------------------ before physics

    def targets(self, actions: Tensor) -> Tensor:
        """(N, D) joint targets for `actions`, (N, D) in [-1, 1]; kept for the next step."""
        card, m, actions = self.card, self.memory, actions.clamp(-1, 1)
        step, arms = card.arm_speed * STEP_SECONDS, (-1, card.arms, ARM_JOINTS + HAND_JOINTS)
        last = m.targets.view(arms)[..., :ARM_JOINTS].clone()
        # absolute: target = low + (a + 1) / 2 * (high - low)
        torch.addcmul(self.middle, actions, self.half_range, out=m.targets)
        arm = m.targets.view(arms)[..., :ARM_JOINTS]
        if card.arm_control == "integrated":  # target <- clamp(target + speed * dt * a)
            moved = last.add_(actions.view(arms)[..., :ARM_JOINTS], alpha=step)
            arm.copy_(moved.clamp_(self.low[:ARM_JOINTS], self.high[:ARM_JOINTS]))
        elif step < inf:  # target <- target + clamp(named - target, +-speed * dt)
            arm.copy_(last.add_((arm - last).clamp_(-step, step)))
        return m.targets

    def forces(self, object_quat: Tensor) -> Tensor | None:
        """(N, 3) random forces on the object in the world frame, N; None where the task has none."""
        if not self.card.forces:
            return None
        m = self.memory
        fresh = torch.randn(m.force.shape, generator=self.generator, device=self.device) * (FORCE_MASS * FORCE_SCALE)
        hit = torch.rand(self.num_envs, generator=self.generator, device=self.device) < m.force_probability
        m.force.copy_(torch.where(hit[:, None], fresh, m.force * FORCE_DECAY))
        return rotate(object_quat, m.force)

    # ------------------------------------------------------------------------------------------------- after physics

    def advance(self, state: PhysicsState, blown_up: Tensor) -> Outcome:
        """Clock, curriculum, observation, reward and ends of the step that led to `state`.

        Environments that blew up earn nothing and end. The observation shows minima, lift, clock and successes as they
        were before this step's reward, and the reward itself.
        """
        m, card = self.memory, self.card
        m.progress.add_(1)
        self.curriculum.step(m.last_successes)
        view = self.observe(state, m, self._obs)
        near = view.goal_distance <= self.curriculum.limit * KEYPOINT_STRETCH
        near &= ~blown_up
        amounts = self._amounts(state, view, near)
        reward = amounts.paid(self.prices, card.hold_steps).masked_fill_(blown_up, 0.0)
        shown = reward
        if self.prices is not PRICES:
            shown = amounts.paid(PRICES, card.hold_steps).masked_fill_(blown_up, 0.0)

        # a goal is reached after `hold_steps` steps near it, not necessarily in a row; reaching it restarts the clock
        m.near_steps.add_(near)
        success = m.near_steps >= card.hold_steps
        m.goal_reached.copy_(success)
        m.successes.add_(success)
        m.progress.masked_fill_(success, 0.0)

        terminated = (state.object_pos[:, 2] < FALLEN).logical_or_(blown_up)
        if card.max_tip_distance is not None:
            terminated |= view.tip_distance.amax(dim=1) > card.max_tip_distance
        truncated = (m.progress >= card.budget - 1).logical_or_(m.successes >= MAX_SUCCESSES)
        truncated &= ~terminated

        torch.mul(shown, REWARD_IN_OBS, out=view.obs[:, -1])
        return Outcome(
            self._whole(view.obs, state, m), reward, success.float(), terminated, truncated, view.goal_distance
        )

    def observe(self, state: PhysicsState, m: Memory, out: Tensor, ids: Tensor | slice = slice(None)) -> View:
        """Fill the observation `out` of the environments `ids`, whose rows `state` and `m` hold; its reward is 0."""
        tail = [m.lifted[:, None]]
        # D = max over keypoints of |object keypoint - goal keypoint|
        keypoints = self._keypoints(state.object_pos, state.object_frame[:, :4], self.offsets[ids])
        to_goal = keypoints - m.goal_keypoints
        goal_distance = to_goal.square().sum(dim=2).amax(dim=1).sqrt()
        tip_distance = (state.tip_pos - state.object_pos[:, None, None]).square_().sum(dim=3).sqrt_().flatten(1)
        closest_tips = torch.where(m.closest_tips < 0, tip_distance, m.closest_tips)
        closest_goal = torch.where(m.closest_goal < 0, goal_distance, m.closest_goal)
        if self.card.tips_observed:
            tail.insert(0, closest_tips)
        palms = state.palm_pos[:, :, None]
        blocks = [
            (state.joint_pos - self.middle) / self.half_range,
            state.joint_vel,
            state.palm_pos.flatten(1),
            state.wrist.flatten(1),
            state.object_frame,
            (state.tip_pos - palms).flatten(1),
            (keypoints[:, None] - palms).flatten(1),
            to_goal.flatten(1),
            self.scales[ids],
            *([state.blocks.flatten(1)] if self.card.blocks_observed else []),
            closest_goal[:, None],
            *tail,
            torch.log1p(m.progress / CLOCK_SCALE)[:, None],
            torch.log1p(m.successes)[:, None],
            self._unpaid[: len(out)],
        ]
        torch.cat(blocks, dim=1, out=out)
        return View(out, tip_distance, goal_distance, closest_tips, closest_goal)

    def _whole(self, obs: Tensor, state: PhysicsState, m: Memory, ids: Tensor | slice = slice(None)) -> Tensor:
        """(N, O) what is observed, cut to its range, with what is privileged behind it."""
        if not self.privileged:
            return obs.clamp_(-OBS_LIMIT, OBS_LIMIT)
        targets = (m.targets - self.middle) / self.half_range
        hidden = privileged_rows(self.card, state, m, self.curriculum.limit, targets)
        return torch.cat([torch.cat([obs, hidden], dim=1).clamp_(-OBS_LIMIT, OBS_LIMIT), self.drawn[ids]], dim=1)

    def _keypoints(self, pos: Tensor, quat: Tensor, offsets: Tensor) -> Tensor:
        """(N, K, 3) keypoints of a body at `pos`, `quat`; a single keypoint is the centre."""
        if self.card.keypoints == 1:
            return pos[:, None]
        return pos[:, None] + rotate(quat[:, None], offsets)

    def _amounts(self, state: PhysicsState, view: View, near: Tensor) -> Amounts:
        """What the step is paid for; updates the lift flag and the minima."""
        m, card = self.memory, self.card
        # lift: 20 clip(h, 0, 0.5) until h > 0.15 once, then 300 once;  h = 0.05 + z - 0.63
        height = state.object_pos[:, 2] + (LIFT_OFFSET - START_HEIGHT)
        lifted = m.lifted | (height > self.prices.lifted_above)
        lift, lifts = height.clamp(0.0, LIFT_CAP).masked_fill_(lifted, 0.0), lifted ^ m.lifted
        m.lifted.copy_(lifted)
        # fingers: 50 sum_f clip(m_f - d_f, 0, 10);  m_f <- min(m_f, d_f)
        approach = (view.closest_tips - view.tip_distance).clamp_(0.0, FINGER_CAP).sum(dim=1)
        if not card.fingers_always_paid:
            approach.masked_fill_(lifted, 0.0)
        torch.minimum(view.closest_tips, view.tip_distance, out=m.closest_tips)
        # keypoints: 200 max(0, m_D - D), once lifted;  m_D <- min(m_D, D)
        gain = (view.closest_goal - view.goal_distance).clamp_(min=0.0).mul_(lifted)
        torch.minimum(view.closest_goal, view.goal_distance, out=m.closest_goal)
        # goal: 1000 / hold steps for every step near it; joint speeds: 0.003 and 0.0003 per rad/s
        speeds = None
        if card.velocity_penalty:
            speed = state.joint_vel.abs()
            speeds = speed[:, :ARM_JOINTS].sum(dim=1), speed[:, ARM_JOINTS:].sum(dim=1)
        return Amounts(lift, lifts, approach, gain, near, speeds)

    def set_prices(self, values: Mapping[str, Tensor]) -> None:
        """From now on those named cost `values`, (N,) each."""
        self.prices = with_prices(self.prices, values, self.num_envs, self.device)

    # -------------------------------------------------------------------------------------------- goals and episodes

    def new_goals(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Draw goals for `ids`; returns their positions (M, 3) and orientations (M, 4)."""
        m = self.memory
        pos, quat = resets.draw_goal(len(ids), self.card, self.generator)
        put(m.goal_pos, ids, pos)
        put(m.goal_quat, ids, quat)
        aim = pos
        if self.card.goal == "bucket":
            aim = pos.clone()
            aim[:, 2] += BUCKET_TARGET
        put(m.goal_keypoints, ids, self._keypoints(aim, quat, take(self.offsets, ids)))
        put(m.near_steps, ids, 0)
        put(m.closest_goal, ids, -1)
        put(m.goal_reached, ids, False)
        return pos, quat

    def new_object(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Draw a place for the objects of `ids`: it has to be approached and lifted anew."""
        put(self.memory.lifted, ids, False)
        put(self.memory.closest_tips, ids, -1)
        return resets.draw_object(len(ids), self.card, self.generator)

    def restart(self, ids: Tensor) -> resets.Start:
        """Begin new episodes in `ids`, except for their goals: `new_goals` follows."""
        m = self.memory
        joint_pos, joint_vel = resets.draw_joints(len(ids), self.default, self.low, self.high, self.generator)
        start = resets.Start(joint_pos, joint_vel, *self.new_object(ids))
        put(m.targets, ids, joint_pos)
        put(m.force, ids, 0)
        put(m.force_probability, ids, resets.draw_force_probability(len(ids), self.generator))
        put(m.last_successes, ids, take(m.successes, ids))
        put(m.successes, ids, 0)
        put(m.progress, ids, 0)
        return start

    def first_observation(self, state: PhysicsState, ids: Tensor) -> Tensor:
        """(M, O) observation of episodes that begin in `ids`, whose rows `state` holds; minima begin one step later."""
        memory, rows = self.memory.rows(ids), slice(None) if is_mask(ids) else ids
        view = self.observe(state, memory, self._obs.new_empty(len(ids), self.card.obs_dim), rows)
        return self._whole(view.obs, state, memory, rows)

    # -------------------------------------------------------------------------------------------------- save, restore

    def state_dict(self) -> dict[str, Any]:
        """Memory, curriculum, random generator, and those prices that were set."""
        memory = {name: value.clone() for name, value in self.memory._asdict().items()}
        prices = {name: price.clone() for name, price in self.prices._asdict().items() if isinstance(price, Tensor)}
        rest = {"generator": self.generator.get_state(), "prices": prices}
        return memory | self.curriculum.state_dict() | rest

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state`."""
        for name, value in self.memory._asdict().items():
            value.copy_(state[name])
        self.curriculum.load_state_dict(state)
        self.generator.set_state(state["generator"].cpu())
        self.prices = PRICES
        if prices := state.get("prices", {}):  # a state from before they could be set has none
            self.set_prices(prices)
