"""The point maze of quality-diversity research: an S of two walls between start and goal, the reward blind to it.

Shape legend: N environments of this rank.
"""

import torch
from torch import Tensor

from epo_lightning.envs.base import EnvSpec
from epo_lightning.envs.classic.arena import Arena, Box
from epo_lightning.envs.classic.base import Transition
from epo_lightning.envs.classic.drawing import GOAL, Surface

SPEED, ZONE = 0.1, 0.1
"""Largest displacement along each axis per env step; edge of the goal's square."""
GOAL_AT = (-0.5, 0.8)
WALL, GAP = 0.01, 0.5
"""Thickness of a wall, and the width of the passage beside it."""
LOWER, UPPER = -0.5, 0.2
"""Lower faces of the two walls."""
START_X, START_Y = 0.1, (-1.0, -0.7)


class PointMaze(Arena):
    """From the bottom of a square to the top left, around a wall from the right and then a wall from the left.

        +--------------------+  1
        |    goal            |
        |                    |
        |===============     |  0.2
        |                    |
        |                    |
        |     ===============|  -0.5
        |       start        |
        +--------------------+  -1

    Geometry and reward are those of the point maze of QD-PG (Pierrot et al., arXiv 2006.08505) as QDax has it: in the
    square [-1, 1]^2 a full action moves the point by 0.1 in x and in y, the reward of a step is minus the distance to
    the goal's centre after it, and an episode terminates, with one success, in the goal's square of edge 0.1. Following
    the reward ends below a wall. Only the order of a move differs, x first and then y, instead of along a line.

    Observation: position (x, y). Action: velocity. About 44 env steps are needed.

    Args:
        num_envs: N.
        device: Where every tensor lives.
        seed: Seed of the start positions: x in [-0.1, 0.1], y in [-1, -0.7].
        max_steps: Time limit of an episode in env steps.

    Raises:
        Mistake: When `max_steps` < 1.
    """

    point_radius = 0.03

    def __init__(self, num_envs: int, device: torch.device, seed: int, max_steps: int = 200) -> None:
        spec = EnvSpec("PointMaze", num_envs, obs_dim=2, act_dim=2, max_episode_steps=max_steps)
        boxes: list[Box] = [
            (-1.0 + GAP, 2.0, LOWER, LOWER + WALL),  # beyond the edge: nothing slides along it
            (-2.0, 1.0 - GAP, UPPER, UPPER + WALL),
        ]
        super().__init__(spec, device, seed, (-1.0, -1.0), (1.0, 1.0), boxes, SPEED)
        self.goal = torch.tensor(GOAL_AT, device=self.device)

    def _draw(self) -> Tensor:
        x, y = self._uniform(2).unbind(1)
        bottom, top = START_Y
        return torch.stack((START_X * x, bottom + (top - bottom) * (0.5 * y + 0.5)), dim=1)

    def _advance(self, state: Tensor, actions: Tensor, last: Tensor) -> Transition:
        position = self._moved(state, actions)
        # r = -|p' - goal|;  reached: the larger of |x' - goal_x| and |y' - goal_y| is at most half the edge
        off = position - self.goal
        distance = torch.linalg.vector_norm(off, dim=1)
        reached = off.abs().amax(1) <= 0.5 * ZONE
        return Transition(position, -distance, reached, reached.to(torch.float32), log={"distance": distance})

    def _waypoint(self, x: Tensor, y: Tensor) -> Tensor:
        """Left below the lower wall, right below the upper one, and to the goal."""
        below, between = y < LOWER + WALL, y < UPPER + WALL
        # beside a wall's end the way leads up
        target_x = torch.where(below, -1.0 + 0.5 * GAP, torch.where(between, 1.0 - 0.5 * GAP, self.goal[0]))
        under = (below & (x > -1.0 + GAP)) | (between & ~below & (x < 1.0 - GAP))
        target_y = torch.where(
            under, y, torch.where(below, LOWER + 0.1, torch.where(between, UPPER + 0.1, self.goal[1]))
        )
        return torch.stack((target_x, target_y), dim=1)

    def _draw_goals(self, canvas: Surface) -> None:
        x, y = GOAL_AT
        canvas.box((x - 0.5 * ZONE, y - 0.5 * ZONE), (x + 0.5 * ZONE, y + 0.5 * ZONE), GOAL)
