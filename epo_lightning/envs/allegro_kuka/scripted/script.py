"""`Script`: from the state of task and physics to actions.

Shape legend: N environments, D joints = action entries.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from epo_lightning.envs.allegro_kuka.cards import ARM_JOINTS, HAND_JOINTS, STEP_SECONDS, TABLE_TOP
from epo_lightning.envs.allegro_kuka.memory import Memory
from epo_lightning.envs.allegro_kuka.objects import half_sizes
from epo_lightning.envs.allegro_kuka.robot import ARM_LIMITS, ARM_LINKS, PALM_POS, PALM_QUAT
from epo_lightning.envs.allegro_kuka.scripted import errands
from epo_lightning.envs.allegro_kuka.scripted.kinematics import Chain, Frame, matrix
from epo_lightning.envs.allegro_kuka.scripted.pilot import Errand, Pilot
from epo_lightning.envs.allegro_kuka.task import Rules
from epo_lightning.envs.threads import OneThread
from epo_lightning.physics.base import Physics, PhysicsState

JOINTS = ARM_JOINTS + HAND_JOINTS
SLOW, SLOW_SPIN = 0.05, 0.5
"""An object that moves less counts as being at rest, m/s and rad/s."""


def arm_chain(point: Sequence[float] = (0.0, 0.0, 0.0)) -> Chain:
    """The arm from its base to the palm, or to `point` of the palm's frame, m."""
    limits = torch.tensor([(-limit, limit) for limit in ARM_LIMITS])
    palm = Frame(torch.tensor(PALM_POS), matrix(torch.tensor(PALM_QUAT)))
    end = palm.point(torch.tensor(point)).tolist()
    return Chain([(link.pos, link.quat) for link in ARM_LINKS], limits, (end, PALM_QUAT))


class Script:
    """The arm that is nearer to the object grasps it and brings it to the goal.

    Args:
        rules: The task; read at each call, never written.
        physics: The scene and its state; read at each call, never written.
        carry: Whether to bring the object to the goal; else it is held where the hand has lifted it to.
    """

    def __init__(self, rules: Rules, physics: Physics, carry: bool = True) -> None:
        self.rules, self.physics, self.card, self.carry = rules, physics, rules.card, carry
        model = physics.model
        bases = [model.body(f"base_{hand}") for hand in range(self.card.arms)]
        self.bases = Frame(
            torch.stack([torch.tensor(base.pos).float() for base in bases]),
            matrix(torch.stack([torch.tensor(base.quat).float() for base in bases])),
        )
        self.half = half_sizes(rules.scales.cpu()).float()
        self.pilot = Pilot(arm_chain(), self.half, TABLE_TOP, float(model.actuator_gainprm[ARM_JOINTS, 0]))
        self.who = torch.zeros(rules.num_envs, dtype=torch.int64)

    @torch.no_grad()
    @OneThread()
    def __call__(self) -> Tensor:
        """(N, D) actions for the present state; thought out on the CPU, wherever the physics runs."""
        rules, rows = self.rules, torch.arange(self.rules.num_envs)
        state = PhysicsState(*(field.cpu() for field in self.physics.state))
        memory = Memory(*(field.cpu() for field in rules.memory))
        fresh = memory.progress == 0
        if not self.card.replace_object:
            fresh &= memory.successes == 0
        self.pilot.forget(fresh)
        self.who = torch.where(fresh & (self.card.arms == 2), (state.object_pos[:, 0] > 0).long(), self.who)

        base = Frame(self.bases.pos[self.who], self.bases.rot[self.who])
        thing = _seen_from(base, state.object_pos, state.object_frame[:, :4])
        goal = _seen_from(base, memory.goal_pos, memory.goal_quat)
        slow = (state.object_frame[:, 4:7].norm(dim=1) < SLOW) & (state.object_frame[:, 7:].norm(dim=1) < SLOW_SPIN)
        joints = state.joint_pos.unflatten(1, (self.card.arms, JOINTS))[rows, self.who]
        last = memory.targets.unflatten(1, (self.card.arms, JOINTS))[rows, self.who]
        wanted = rules.default.cpu().repeat(rules.num_envs, 1).unflatten(1, (self.card.arms, JOINTS))
        wanted[rows, self.who] = self.pilot.targets(joints, last, thing, slow, self._errand(thing, goal))
        return self._actions(wanted.flatten(1), memory.targets).to(rules.device)

    def _errand(self, thing: Frame, goal: Frame) -> Errand | None:
        if not self.carry:
            return None
        if self.card.goal == "bucket":
            return errands.drop(thing, self.half, goal.pos, TABLE_TOP)
        if self.card.goal == "pose":
            return errands.bring_and_turn(thing, goal)
        return errands.bring(thing, goal.pos)

    def _actions(self, wanted: Tensor, last: Tensor) -> Tensor:
        """(N, D) actions that lead to the joint targets `wanted`, (N, D)."""
        rules = self.rules
        actions = (wanted - rules.middle.cpu()) / rules.half_range.cpu()
        if self.card.arm_control == "integrated":
            actions[:, :ARM_JOINTS] = (wanted - last)[:, :ARM_JOINTS] / (self.card.arm_speed * STEP_SECONDS)
        return actions.clamp(-1, 1)


def _seen_from(base: Frame, pos: Tensor, quat: Tensor) -> Frame:
    """Poses (N, 3), (N, 4: x, y, z, w) of the world in the frame of the arms' bases."""
    back = base.rot.transpose(1, 2)
    return Frame((back @ (pos - base.pos)[..., None])[..., 0], back @ matrix(quat.roll(1, dims=1)))
