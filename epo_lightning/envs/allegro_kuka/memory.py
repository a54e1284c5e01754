"""What a task remembers of every environment from one step to the next.

Shape legend: N environments, D joints, T = 4 fingertips per hand times hands, K keypoints, M chosen environments.
"""

from typing import NamedTuple

from torch import Tensor

from epo_lightning.envs.allegro_kuka.cards import FINGERS, Card
from epo_lightning.physics.rows import take


class Memory(NamedTuple):
    """One row per environment; minima that are not known yet are -1.

    Attributes:
        targets: (N, D) joint targets, rad.
        goal_pos: (N, 3). goal_quat: (N, 4). goal_keypoints: (N, K, 3).
        closest_tips: (N, T) smallest fingertip distances since the object was placed, m.
        closest_goal: (N,) smallest keypoint distance since the goal was set, m.
        lifted: (N,) bool, whether the object has been lifted since it was placed.
        near_steps: (N,) steps near this goal.
        progress: (N,) steps since the goal was set.
        successes: (N,) goals reached in this episode.
        last_successes: (N,) goals reached in the last finished episode, 0 before.
        goal_reached: (N,) bool, a new goal is due at the next step's beginning.
        force: (N, 3) random force in the object's frame, N.
        force_probability: (N,) chance of a new force per step.
    """

    targets: Tensor
    goal_pos: Tensor
    goal_quat: Tensor
    goal_keypoints: Tensor
    closest_tips: Tensor
    closest_goal: Tensor
    lifted: Tensor
    near_steps: Tensor
    progress: Tensor
    successes: Tensor
    last_successes: Tensor
    goal_reached: Tensor
    force: Tensor
    force_probability: Tensor

    def rows(self, ids: Tensor) -> "Memory":
        """A copy of the environments `ids`, see `physics.rows`."""
        return Memory(*(take(field, ids) for field in self))


def blank_memory(card: Card, targets: Tensor) -> Memory:
    """The memory before the first episode; `targets`, (N, D), tells number and device."""
    n = len(targets)
    return Memory(
        targets=targets,
        goal_pos=targets.new_zeros(n, 3),
        goal_quat=targets.new_zeros(n, 4),
        goal_keypoints=targets.new_zeros(n, card.keypoints, 3),
        closest_tips=targets.new_full((n, card.arms * FINGERS), -1.0),
        closest_goal=targets.new_full((n,), -1.0),
        lifted=targets.new_zeros(n).bool(),
        near_steps=targets.new_zeros(n),
        progress=targets.new_zeros(n),
        successes=targets.new_zeros(n),
        last_successes=targets.new_zeros(n),
        goal_reached=targets.new_zeros(n).bool(),
        force=targets.new_zeros(n, 3),
        force_probability=targets.new_zeros(n),
    )
