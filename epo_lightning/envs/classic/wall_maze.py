"""A point in front of a cup-shaped wall with the goal behind it: a deceptive reward that diversity overcomes.

Shape legend: N environments of this rank, W walls.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from epo_lightning.envs.base import EnvSpec
from epo_lightning.envs.classic.base import ClassicEnv, Transition
from epo_lightning.envs.classic.drawing import BODY, GOAL, GROUND, NEAR, SOLID, TRAIL, Canvas, blend
from epo_lightning.limits import Mistake, require_range

_POINT = 0.05
"""Radius of the point in a picture."""
_LONGEST_TRAIL = 60


def move_along(start: Tensor, move: Tensor, across: Tensor, walls: Tensor) -> Tensor:
    """Move points along one axis until the first wall face.

    The stop is exact for a move of any length: nothing tunnels. A point on a face is outside and slides along it.

    Args:
        start: (N,) coordinate along the axis.
        move: (N,) wanted displacement along the axis.
        across: (N,) coordinate across the axis, constant during the move.
        walls: (W, 4) boxes as (low, high) along the axis, then (low, high) across it.

    Returns:
        (N,) coordinate along the axis after the move.
    """
    low, high, side_low, side_high = walls.unbind(1)
    level = (across[:, None] > side_low) & (across[:, None] < side_high)  # (N, W): the wall lies on the way
    ceiling = torch.where(level & (start[:, None] <= low), low, torch.inf).amin(1)
    floor = torch.where(level & (start[:, None] >= high), high, -torch.inf).amax(1)
    # x' = min(max(x + dx, nearest face behind), nearest face ahead)
    return torch.minimum(torch.maximum(start + move, floor), ceiling)


class WallMaze(ClassicEnv):
    """Walk around a cup that opens towards the start; the straight way to the goal ends inside the cup.

        +----------------------------------------------------+
        |                 +-----------+                      |
        |                 | upper arm |                      |
        |                 +-------+   |   ^                  |
        |      start              |   |   | cup_width        |     y
        |      (0, 0)             |   |   |    goal          |     |
        |                         |   |   |                  |     +-- x
        |                 +-------+   |   v                  |
        |                 | lower arm |                      |
        |                 +-----------+                      |
        +----------------------------------------------------+
                          <------->
                          cup_depth

    Observation: position (x, y). Action: velocity; a full action moves the point by `speed` in x and in y. The move is
    made along x first and then along y; each leg stops at the first wall. The reward of a step is minus
    `distance_scale` times the distance to the goal after it, so every detour costs at once and pays later: a greedy
    learner settles at the bottom of the cup, and the agents that leave it score worse until one of them finds the goal.
    Reaching the goal adds `goal_reward`, counts one success and terminates.

    What makes it harder: a deeper cup (more is lost on the detour; a `cup_depth` of 0.4 is clearly harder), a wider cup
    (fewer random walks pass it), a smaller `speed`, a shorter time limit.

    Args:
        num_envs: N.
        device: Where every tensor lives.
        seed: Seed of the start positions.
        max_steps: Time limit of an episode in env steps.
        speed: Largest displacement along each axis per env step.
        back_distance: x of the cup's inner back wall, seen from the start at 0.
        cup_depth: Length of the arms inside. More than `back_distance` puts the start inside the cup.
        cup_width: Distance between the arms inside.
        wall: Thickness of the three walls.
        goal_distance: x of the goal.
        goal_radius: The goal is reached within this distance.
        start_radius: Starts are uniform in a square of this half width around 0.
        distance_scale: Factor of the distance in the reward.
        goal_reward: Reward added in the step that reaches the goal.

    Raises:
        Mistake: When the goal could be touched through the back wall, the start lies in a wall, a length is not
            positive, or `max_steps` < 1.
    """

    def __init__(
        self,
        num_envs: int,
        device: torch.device,
        seed: int,
        max_steps: int = 100,
        speed: float = 0.1,
        back_distance: float = 0.6,
        cup_depth: float = 0.3,
        cup_width: float = 0.5,
        wall: float = 0.1,
        goal_distance: float = 1.0,
        goal_radius: float = 0.2,
        start_radius: float = 0.1,
        distance_scale: float = 0.1,
        goal_reward: float = 10.0,
    ) -> None:
        lengths = {"speed": speed, "back_distance": back_distance, "cup_depth": cup_depth, "cup_width": cup_width}
        lengths |= {"wall": wall, "goal_radius": goal_radius}
        for name, value in lengths.items():
            require_range(f"data.env.init_args.{name}", value, 0.0, open_low=True)
        if not goal_distance - goal_radius >= back_distance + wall:  # neither does NaN
            raise Mistake(
                f"data.env.init_args.goal_distance must be at least {back_distance + wall + goal_radius:g}"
                f" (back_distance + wall + goal_radius), got {goal_distance}"
            )
        require_range("data.env.init_args.start_radius", start_radius, 0.0, min(back_distance, cup_width / 2))
        spec = EnvSpec("WallMaze", num_envs, obs_dim=2, act_dim=2, max_episode_steps=max_steps)
        super().__init__(spec, device, seed, state_dim=2)
        self.speed = speed
        self.goal_radius = goal_radius
        self.start_radius = start_radius
        self.distance_scale = distance_scale
        self.goal_reward = goal_reward

        mouth, inner, outer = back_distance - cup_depth, back_distance, back_distance + wall
        half, rim = cup_width / 2, cup_width / 2 + wall
        boxes = [
            (mouth, outer, half, rim),  # upper arm: x from, x to, y from, y to
            (mouth, outer, -rim, -half),  # lower arm
            (inner, outer, -rim, rim),  # back wall
        ]
        self.walls = torch.tensor(boxes, device=self.device)  # (W, 4)
        self._walls_along_y = self.walls[:, [2, 3, 0, 1]]
        self.goal = torch.tensor((goal_distance, 0.0), device=self.device)
        # The arena leaves a lane of one cup width around everything.
        left, right = min(mouth, -start_radius) - cup_width, goal_distance + cup_width
        self.low = torch.tensor((left, -rim - cup_width), device=self.device)
        self.high = torch.tensor((right, rim + cup_width), device=self.device)
        self._past: deque[Tensor] | None = None

    def _draw(self) -> Tensor:
        return self.start_radius * self._uniform(2)

    def _observe(self, state: Tensor) -> Tensor:
        return state.clone()

    def _advance(self, state: Tensor, actions: Tensor, last: Tensor) -> Transition:
        if self._past is not None:
            self._past.append(state)
        x, y = state.unbind(1)
        move_x, move_y = (self.speed * actions).unbind(1)
        x = move_along(x, move_x, y, self.walls).clamp(self.low[0], self.high[0])
        y = move_along(y, move_y, x, self._walls_along_y).clamp(self.low[1], self.high[1])
        position = torch.stack((x, y), dim=1)

        # r = -distance_scale |p' - goal| + goal_reward [|p' - goal| <= goal_radius]
        distance = torch.linalg.vector_norm(position - self.goal, dim=1)
        reached = distance <= self.goal_radius
        successes = reached.to(torch.float32)
        reward = -self.distance_scale * distance + self.goal_reward * successes
        return Transition(position, reward, reached, successes, log={"distance": distance})

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state`, with a picture's trail forgotten; see `ClassicEnv.load_state_dict`."""
        super().load_state_dict(state)
        if self._past is not None:
            self._past.clear()

    def render(self, envs: Sequence[int], width: int, height: int) -> np.ndarray:
        """The cup, the goal, the point and where it came from; see `VectorEnv.render`.

        The way is remembered from the first picture on; no saved state holds it.
        """
        if self._past is None:
            self._past = deque(maxlen=_LONGEST_TRAIL)
        goal, low, high, walls = (each.tolist() for each in (self.goal, self.low, self.high, self.walls))
        edge = 0.02 * (high[0] - low[0])
        pictures = []
        for env, (x, y) in zip(envs, self._rows(envs), strict=True):
            canvas = Canvas((low[0] - edge, low[1] - edge), (high[0] + edge, high[1] + edge), width, height, SOLID)
            canvas.box(low, high, GROUND)
            canvas.disc(goal, self.goal_radius, NEAR)
            canvas.disc(goal, 0.25 * self.goal_radius, GOAL)
            for left, right, bottom, top in walls:
                canvas.box((left, bottom), (right, top), SOLID)
            if self._past:
                self._draw_trail(canvas, env)
            canvas.disc((x, y), _POINT, BODY)
            pictures.append(canvas.picture())
        return np.stack(pictures)

    def _draw_trail(self, canvas: Canvas, env: int) -> None:
        """A dot wherever the point has been in this episode, fainter the longer ago."""
        assert self._past
        steps = min(int(self._clock[env]), len(self._past))
        been = torch.stack(list(self._past))[len(self._past) - steps :, env]
        for age, position in zip(range(steps, 0, -1), been.tolist(), strict=True):
            canvas.disc(position, 0.5 * _POINT, blend(TRAIL, GROUND, 0.8 * age / _LONGEST_TRAIL))
