"""What a picture shows beyond the scene: how near is near enough.

Shape legend: K keypoints.
"""

import torch
from torch import Tensor

from epo_lightning.envs.allegro_kuka.rotation import rotate
from epo_lightning.envs.allegro_kuka.task import KEYPOINT_STRETCH, Rules
from epo_lightning.physics.base import PhysicsState
from epo_lightning.physics.drawing import Marker

NEAR = (0.1, 0.75, 0.35, 0.3)
"""Colour of the region that counts as near."""
PAIRS = ((0.95, 0.2, 0.2, 1.0), (1.0, 0.85, 0.1, 1.0), (0.2, 0.45, 1.0, 1.0), (0.95, 0.95, 0.95, 1.0))
"""Colours of the keypoints: those of object and goal that must meet are alike."""
DOT = 0.007
"""Radius of a keypoint, m."""


def goal_markers(rules: Rules, state: PhysicsState, env: int) -> list[Marker]:
    """The markers of environment `env`: a sphere of what counts as near, or the keypoints of object and goal."""
    goal = rules.memory.goal_keypoints[env]  # (K, 3)
    if rules.card.keypoints == 1:
        return [Marker(_centre(goal[0]), KEYPOINT_STRETCH * rules.tolerance, NEAR)]
    thing = state.object_pos[env] + rotate(state.object_frame[env, None, :4], rules.offsets[env])
    points = torch.cat([goal, thing])
    return [Marker(_centre(point), DOT, colour) for point, colour in zip(points, PAIRS * 2, strict=True)]


def _centre(point: Tensor) -> tuple[float, float, float]:
    """A point (3,) as three numbers."""
    x, y, z = point.tolist()
    return x, y, z
