"""The phases of one arm's work: wait, go above the object, come down, close, lift, carry, let go.

Shape legend: N environments, M chosen ones.

A pilot sees poses in its arm's base frame and gives joint targets; every environment has its own phase and clock. All
constants are tuned by hand.
"""

from enum import IntEnum
from typing import NamedTuple

import torch
from torch import Tensor

from epo_lightning.envs.allegro_kuka.cards import ARM_JOINTS, HAND_JOINTS, STEP_SECONDS
from epo_lightning.envs.allegro_kuka.scripted.grasp import facing_down, plan
from epo_lightning.envs.allegro_kuka.scripted.hand import Hand
from epo_lightning.envs.allegro_kuka.scripted.kinematics import ARM_PULL, TURN_WEIGHT, Chain, Frame, by_rows

DOWN_SPEED, LIFT_SPEED, CARRY_SPEED = 0.2, 0.4, 0.8
"""Of the palm, m/s."""
TURN_SPEED, JOINT_SPEED, FINGER_SPEED = 1.5, 3.0, 3.0
"""Of the palm, the arm's joints and the fingers' joints, rad/s."""
GRASP_TURN, LIFT_TURN = TURN_WEIGHT, 0.05
"""How many metres of shift a turn of one radian is worth before and after the object is in the hand."""
READY = (0.0, -0.58, 0.86)
"""Where the palm waits, m."""
ELBOWS = (
    (-1.6, 1.24, 0.0, 1.32, 0.0, 1.65, 2.34),
    (-0.61, 0.79, 0.87, 1.32, -1.23, 1.09, 1.56),
    (-2.5, 0.89, -0.78, 1.32, 1.18, 1.13, 3.0),
)
"""Arm angles with the elbow below, and out to either side, where the forearm comes to the table from above, rad."""
LIFT = 0.20
"""How far the hand rises with the object, m."""
RISE = 0.08
"""How far the empty hand rises, m."""
PLAN_STEPS = 8
"""Steps between two moments at which grasps are planned."""
WAIT_STEPS, CLOSE_STEPS, PRESS_STEPS, RELEASE_STEPS = 45, 24, 24, 20
"""Most steps for the object to come to rest; steps to close to the object's surface, to press, and to let go."""
REST_STEPS, REACH_STEPS, SLIP_STEPS = 10, 60, 15
"""Steps before an object may count as being at rest; most steps down to it and up again; steps into a lift before an
object may count as lost."""
STILL, THERE, OVER = 0.03, 0.005, 0.01
"""The arm follows its targets (rad); the palm is where it shall be (m); the arm is over the object (rad)."""
MOVED, TURNED = 0.01, 0.02
"""The object is no longer where a grasp was planned, m; nor as it was turned, 2 (1 - cos angle): about 8 degrees."""
LOST = 0.08
"""The object counts as lost when it is farther than this from the point between the pads, m."""
SOMEWHERE = (0.0, -0.8)
"""Place on the table of the plan that every environment begins with, until it has seen its object, m."""
NEARLY_OPPOSITE = 1e-3
"""1 + cosine down to which a palm is turned round as if it did not face straight up."""


class Phase(IntEnum):
    """What an arm is doing."""

    WAIT = 0
    ABOVE = 1
    DOWN = 2
    CLOSE = 3
    LIFT = 4
    CARRY = 5
    RELEASE = 6


class Errand(NamedTuple):
    """What to do with the object in the hand.

    Attributes:
        shift: (N, 3) how far the object is from where it shall go, m.
        turn: (N, 3, 3) how it shall be turned; None: upright as it is, in any direction.
        let_go: (N,) bool, whether to open the hand.
    """

    shift: Tensor
    turn: Tensor | None
    let_go: Tensor


class Pilot:
    """One arm's phase machine in N environments.

    Args:
        arm: The arm from its base to the palm.
        half: (N, 3) the objects' half edges, m.
        table: Height of the table, m.
        stiffness: Of the finger drives, N m/rad.
    """

    def __init__(self, arm: Chain, half: Tensor, table: float, stiffness: float) -> None:
        self.arm, self.hand, self.half, self.table, self.stiffness = arm, Hand(), half, table, stiffness
        elbows = torch.tensor(ELBOWS)
        flat = torch.zeros(len(elbows))
        self.ready, _ = arm.solve(elbows, Frame(torch.tensor(READY).expand(len(elbows), 3), facing_down(flat, flat)))
        n = len(half)
        self.phase, self.clock = torch.zeros(2, n, dtype=torch.int64)
        self.ticks = 0
        self.seen = Frame(torch.zeros(n, 3), torch.eye(3).repeat(n, 1, 1))
        self.top = torch.zeros(n, 3)
        ahead = Frame(torch.tensor([*SOMEWHERE, table]).expand(n, 3), self.seen.rot)
        self.plan = plan(arm, self.hand, self.ready, ahead, half, table)
        self.squeeze = torch.zeros(n, HAND_JOINTS)

    def forget(self, fresh: Tensor) -> None:
        """Begin anew where `fresh`, (N,) bool: another object lies on the table."""
        self._go(fresh, Phase.WAIT)

    def targets(self, joints: Tensor, last: Tensor, thing: Frame, slow: Tensor, errand: Errand | None) -> Tensor:
        """The next joint targets.

        Args:
            joints: (N, 23) joint angles, rad.
            last: (N, 23) joint targets of the last step, rad.
            thing: The objects' poses.
            slow: (N,) bool, whether the object is at rest.
            errand: What to do with an object that has been lifted; None: hold it there.

        Returns:
            (N, 23) joint targets, rad.
        """
        self.clock += 1
        arm, fingers = last[:, :ARM_JOINTS], joints[:, ARM_JOINTS:]
        palm, _, _ = self.arm.forward(joints[:, :ARM_JOINTS])
        lost = (thing.pos - palm.point(self.plan.centre)).norm(dim=1) > LOST

        line, error = self._line(arm, palm, errand)
        still = (joints[:, :ARM_JOINTS] - arm).abs().amax(dim=1) < STILL
        there = (error[:, :3].norm(dim=1) < THERE) & still
        near = ((self.plan.above - arm).abs().amax(dim=1) < OVER) & still
        let_go = torch.zeros_like(lost) if errand is None else errand.let_go
        self._advance(there, near, lost, slow, palm, thing, fingers, let_go)

        waiting, above = self.phase == Phase.WAIT, self.phase == Phase.ABOVE
        end = torch.where(above[:, None], self.plan.above, self.ready[0])
        curve = arm + _stride(end - arm, JOINT_SPEED * STEP_SECONDS)
        arm = torch.where((waiting | above)[:, None], curve, line)
        return torch.cat([arm, self._fingers(last[:, ARM_JOINTS:], fingers)], dim=1)

    def _line(self, arm: Tensor, palm: Frame, errand: Errand | None) -> tuple[Tensor, Tensor]:
        """One step of the arm in a straight line towards the palm pose of the phase; and how far off it is."""
        phase = self.phase[:, None]
        up, carry = (phase == Phase.LIFT) | (phase == Phase.RELEASE), phase == Phase.CARRY
        pos, rot = torch.where(up | carry, self.top, self.plan.pos), self.plan.rot
        # before the turn counts fully, then less, and about the vertical not at all where any direction will do
        weight = torch.where(up | carry, LIFT_TURN, GRASP_TURN).expand(-1, 3)
        if errand is not None:
            pos = torch.where(carry, palm.pos + errand.shift, pos)
            if errand.turn is None:
                weight = torch.where(carry, weight * torch.tensor([1.0, 1.0, 0.0]), weight)
            turn = upright(palm.rot) if errand.turn is None else errand.turn
            rot = torch.where(carry[..., None], turn @ palm.rot, rot)
        speed = torch.where(carry, CARRY_SPEED, torch.where(up, LIFT_SPEED, DOWN_SPEED))
        pull = torch.where(up | carry, 0.0, ARM_PULL)
        strides = (speed * STEP_SECONDS, TURN_SPEED * STEP_SECONDS)
        return self.arm.towards(arm, Frame(pos, rot), self.plan.arm, pull, strides, weight)

    def _advance(
        self,
        there: Tensor,
        near: Tensor,
        lost: Tensor,
        slow: Tensor,
        palm: Frame,
        thing: Frame,
        fingers: Tensor,
        let_go: Tensor,
    ) -> None:
        """Go on to the next phase where the present one is done."""
        clock, phase = self.clock, self.phase.clone()
        moved = (thing.pos - self.seen.pos).norm(dim=1) > MOVED
        # 3 - trace = 2 (1 - cos angle)
        turned = 3 - (thing.rot * self.seen.rot).sum(dim=(1, 2)) > TURNED
        rested = (slow & (clock > REST_STEPS)) | (clock >= WAIT_STEPS)
        # a plan costs about as much for many environments as for one
        self.ticks += 1
        above = (phase == Phase.ABOVE) & near
        if self.ticks % PLAN_STEPS == 0:
            self._take((phase == Phase.WAIT) & rested | above & (moved | turned), thing)
        self._go(above & ~moved & ~turned, Phase.DOWN)
        down = phase == Phase.DOWN
        self._go(down & (there | (clock > REACH_STEPS)), Phase.CLOSE)
        closed = (phase == Phase.CLOSE) & (clock >= CLOSE_STEPS + PRESS_STEPS)
        self.squeeze = torch.where(closed[:, None], fingers + self.plan.torque / self.stiffness, self.squeeze)
        self.top = torch.where(closed[:, None], self.plan.pos + torch.tensor([0, 0, LIFT]), self.top)
        self._go(closed, Phase.LIFT)
        self._go((phase == Phase.LIFT) & (there | (clock > REACH_STEPS)), Phase.CARRY)
        slipped = (phase == Phase.LIFT) & (clock > SLIP_STEPS) & lost
        leave = (phase == Phase.CARRY) & (lost | let_go) | slipped | down & moved
        self.top = torch.where(leave[:, None], palm.pos + torch.tensor([0.0, 0.0, RISE]), self.top)
        self._go(leave, Phase.RELEASE)
        self._go((phase == Phase.RELEASE) & (clock >= RELEASE_STEPS), Phase.WAIT)

    def _go(self, where: Tensor, phase: Phase) -> None:
        self.phase.masked_fill_(where, phase)
        self.clock.masked_fill_(where, 0)

    def _take(self, where: Tensor, thing: Frame) -> None:
        """Plan grasps in the environments `where`, (N,) bool."""
        ids = where.nonzero().flatten()
        if not len(ids):
            return
        seen = Frame(thing.pos[ids], thing.rot[ids])
        found = plan(self.arm, self.hand, self.ready, seen, self.half[ids], self.table)
        for old, new in zip((*self.plan, *self.seen), (*found, *seen), strict=True):
            old[ids] = new
        self._go(where, Phase.ABOVE)

    def _fingers(self, last: Tensor, joints: Tensor) -> Tensor:
        """(N, 16) targets of the fingers."""
        clock, phase, grip = self.clock[:, None], self.phase[:, None], self.plan
        closing = grip.opened + (clock / CLOSE_STEPS).clamp(0, 1) * (grip.touch - grip.opened)
        closing = torch.where(clock > CLOSE_STEPS, joints + grip.torque / self.stiffness, closing)
        wanted = torch.where(phase == Phase.CLOSE, closing, grip.opened)
        wanted = torch.where((phase == Phase.LIFT) | (phase == Phase.CARRY), self.squeeze, wanted)
        return last + (wanted - last).clamp(-FINGER_SPEED * STEP_SECONDS, FINGER_SPEED * STEP_SECONDS)


def upright(rot: Tensor) -> Tensor:
    """(N, 3, 3) the smallest turn that makes palms with the axes `rot`, (N, 3, 3), face down."""
    face, down = rot[..., 2], torch.tensor([0.0, 0.0, -1.0]).expand(len(rot), 3)
    axis = torch.linalg.cross(face, down)
    # R = 1 + [a] + [a]^2 / (1 + cos)   with   a = face x down
    x, y, z = axis.unbind(-1)
    zero = torch.zeros_like(x)
    skew = by_rows([zero, -z, y, z, zero, -x, -y, x, zero])
    return torch.eye(3) + skew + skew @ skew / (1 - face[:, 2]).clamp(min=NEARLY_OPPOSITE)[:, None, None]


def _stride(move: Tensor, most: float) -> Tensor:
    """`move` (N, J), shortened so that no joint moves more than `most`."""
    return move * (most / move.abs().amax(dim=1, keepdim=True).clamp(min=most))
