"""Arms that bring their hands to points, again and again: a task of a robot that is learned in minutes.

Shape legend: N environments of this rank, A arms, J = 7 joints of an arm, M new episodes or pairs of points.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from epo_lightning.algorithm.symmetry import SignedPermutation, Symmetry
from epo_lightning.envs.allegro_kuka.cards import card
from epo_lightning.envs.base import EnvSpec
from epo_lightning.envs.bodies.base import BodyEnv, Verdict
from epo_lightning.envs.bodies.kuka_arm import JOINTS, LIMITS, chain, steps_towards
from epo_lightning.envs.signals import Signal, Signals
from epo_lightning.limits import Mistake, require_range
from epo_lightning.physics.base import WantedThreads

CONTROL_SECONDS, TIMESTEP = 1 / 30, 1 / 120
POINTS = ((-0.35, 0.35), (-0.80, -0.40), (0.70, 1.00))
"""Where points are drawn, x, y and z in the base's frame, m: an arm whose joints are at 0 turns to -y."""
LEAD = 0.15
"""How far a full action puts the drives' targets ahead of the joints, rad."""
FULL_SPEED = 1.3
"""How fast a joint then moves on average, when it lasts, rad/s."""
START_NOISE = 0.1
"""Share of the way from the first pose to one drawn within the limits."""
PROGRESS, BONUS = 10.0, 5.0
"""Paid for every metre by which a hand comes nearer to its point, and when all hands are there."""
LONGEST_STEP = 0.05
"""Of the script's hands, m."""


class KukaReach(BodyEnv):
    """KUKA arms bring their hands to points; when each is there, they get new ones.

    The robots are those of the Allegro-Kuka tasks, facing each other over the table; the fingers are held straight. The
    reward is 10 for every metre by which a palm comes nearer to its point (and minus that where it goes away), and 5
    when all palms are within the tolerance of their points at once: that is a success, and new points are drawn. An
    episode ends by its time limit only.

    Each arm sees and is told everything in the frame of its own base. Observation: joint angles as shares of their
    limits, joint velocities in rad/s, palm points, points less palms, all arms each. Action: how far the targets of the
    drives are ahead of the joints, at most 0.15 rad.

    Args:
        num_envs: N.
        device: Where tensors are handed over; the physics runs on the CPU.
        seed: Seed of starts and points.
        arms: 1 or 2.
        tolerance: How near a palm must be, m.
        max_steps: Time limit of an episode in env steps of 1/30 s.
        threads: CPU threads; null: the cores this process may use, shared by a machine's ranks; auto: what a
            measurement of a second finds best when a training begins. Results do not depend on it.

    Raises:
        Mistake: When an argument is out of range.
    """

    def __init__(
        self,
        num_envs: int,
        device: torch.device,
        seed: int,
        arms: int = 2,
        tolerance: float = 0.05,
        max_steps: int = 300,
        threads: WantedThreads = None,
    ) -> None:
        if arms not in (1, 2):
            raise Mistake(f"data.env.init_args.arms must be 1 or 2, got {arms}")
        require_range("data.env.init_args.tolerance", tolerance, 0.001, 1.0)
        from epo_lightning.envs.bodies.kuka_scene import build_scene

        self.arms, self.tolerance = arms, tolerance
        self._first = torch.tensor(card("two_arm").arm_pose)
        name = f"KukaReach/{'two_arms' if arms == 2 else 'one_arm'}"
        spec = EnvSpec(name, num_envs, (2 * JOINTS + 6) * arms, JOINTS * arms, max_steps, CONTROL_SECONDS)
        scene = build_scene(arms, TIMESTEP, tolerance)
        super().__init__(spec, device, seed, scene, round(CONTROL_SECONDS / TIMESTEP), threads)

    def signals(self) -> Signals:
        """See `VectorEnv.signals`."""
        arms, limits = self.arms, {"low": tuple((-LIMITS).tolist()), "high": tuple(LIMITS.tolist())}
        all_limits = {name: values * arms for name, values in limits.items()}
        joints = JOINTS * arms
        observation = (
            Signal("joint_position", joints, "rad", "from base to wrist, arm after arm", **all_limits),
            Signal("joint_velocity", joints, "rad/s"),
            Signal("palm", 3 * arms, "m", "in the frame of the arm's base"),
            Signal("point_from_palm", 3 * arms, "m", "in the frame of the arm's base"),
        )
        what = "target of the joint's drive less its angle"
        return Signals(observation, (Signal("lead", joints, "rad", what, (-LEAD,) * joints, (LEAD,) * joints),))

    def symmetry(self) -> Symmetry:
        """The arms change their parts: each sees the world from its own base; see `VectorEnv.symmetry`.

        Raises:
            Mistake: When there is one arm only.
        """
        if self.arms != 2:
            raise Mistake(
                f"model.rollout.symmetry: {self.spec.name} has no mirror image: use data.env.init_args.arms 2, or false"
            )
        blocks = [JOINTS, JOINTS, 3, 3]
        return Symmetry(_exchanged(blocks), _exchanged([JOINTS]))

    def script(self) -> Callable[[], Tensor]:
        """Straight to the points by the arms' kinematics; see `VectorEnv.script`."""

        def act() -> Tensor:
            angles, points = self._split(self.worlds.position.float())
            way = points - chain(angles)[2]
            way = way * (LONGEST_STEP / way.norm(dim=-1, keepdim=True).clamp(min=LONGEST_STEP))
            steps = steps_towards(angles, way) / (FULL_SPEED * CONTROL_SECONDS)
            return steps.flatten(1).clamp(-1.0, 1.0).to(self._device)

        return act

    def _controls(self, actions: Tensor) -> Tensor:
        angles = self.worlds.position[:, : self.spec.act_dim]
        limits = LIMITS.repeat(self.arms)
        return (angles + LEAD * actions).clamp(-limits, limits)

    def _starts(self, count: int) -> tuple[Tensor, Tensor]:
        # q = q_first + 0.1 (U(-limit, limit) - q_first)
        drawn = LIMITS * (2 * torch.rand((count, self.arms, JOINTS), generator=self._generator) - 1)
        angles = self._first + START_NOISE * (drawn - self._first)
        position = torch.cat((angles.flatten(1), self._points(count)), dim=1)
        return position, torch.zeros_like(position)

    def _points(self, count: int) -> Tensor:
        """(M, 3 A) points for all arms."""
        low, high = torch.tensor(POINTS).T
        share = torch.rand((count, self.arms, 3), generator=self._generator)
        points: Tensor = low + (high - low) * share
        return points.flatten(1)

    def _split(self, position: Tensor) -> tuple[Tensor, Tensor]:
        """Joint angles (M, A, J) and points (M, A, 3) of positions (M, Q)."""
        angles, points = position.split((JOINTS * self.arms, 3 * self.arms), dim=1)
        return angles.unflatten(1, (self.arms, JOINTS)), points.unflatten(1, (self.arms, 3))

    def _observe(self, position: Tensor, velocity: Tensor) -> Tensor:
        angles, points = self._split(position)
        palms = chain(angles)[2]
        speeds = velocity[:, : JOINTS * self.arms]
        parts = (angles / LIMITS).flatten(1), speeds, palms.flatten(1), (points - palms).flatten(1)
        return torch.cat(parts, dim=1)

    def _judge(self, before: Tensor, actions: Tensor, last: Tensor) -> Verdict:
        old, points = self._split(before)
        new, _ = self._split(self.worlds.position.float())
        # r = 10 sum_a (d_a before - d_a now) + 5 [all d_a <= tolerance]
        was, now = ((points - chain(angles)[2]).norm(dim=-1) for angles in (old, new))
        there = now.amax(dim=1) <= self.tolerance
        reward = PROGRESS * (was - now).sum(dim=1) + BONUS * there
        reached = there.nonzero().flatten()
        self.worlds.position[reached, JOINTS * self.arms :] = self._points(len(reached)).double()
        return Verdict(reward, torch.zeros_like(last), there.float(), {"distance": now.mean(dim=1)})


def _exchanged(blocks: list[int]) -> SignedPermutation:
    """Blocks that hold the first arm's entries, then the second's, of each."""
    order: list[int] = []
    for size in blocks:
        begin = len(order)
        order += [*range(begin + size, begin + 2 * size), *range(begin, begin + size)]
    return SignedPermutation(torch.tensor(order), torch.ones(len(order)))
